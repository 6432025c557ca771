-- What every transition shares. A transition `tx` knows where it happens (`prefix` of all keys of the context), when
-- (`now`, ms on the clock of timers; `wall`, ms on the server's own, and `at`, the same as text), and gathers what
-- coordinators must learn of it (`effects`).
--
-- KEYS 1 of a transition is the context's engine hash, `<prefix>engine`: skew (ms added to the clock), clock (what
-- `adopt_clock` has made of that). On a cluster every function is given one key more, which never exists
-- (Keyspace.absent). All other keys a function touches must be in the slot of KEYS 1. ARGV 1
-- is the context's channel, 2 the coordinator that asks: its name, 1 if it counts what records take or 0, for how long
-- (ms) it keeps an ended flow's events and ended runs (0: for ever), how many lost attempts a job may have that does
-- not say so itself, and the library it knows, its number and digest, with spaces between: what another one is given
-- or returns may be different. A call that
-- starts a run may have one word more, `@` and what has asked for it (see Keyspace.started_by). One that
-- is to be applied once has three words more: its writer with the epoch, its number, and how many calls of the writer
-- are unanswered with this one; see once.lua. Its own arguments follow; in Lua it is given `args`, the place `o` before
-- the first of its own, and the last place. It returns {result, effects}; a result's first item says how it went.
-- `hc_many` does several transitions as one. Effects: `ready:TYPE` (a queue has jobs), `events:FLOW` (there are new
-- ones), `cancel:RUNNER JOB TOKEN REASON` (stop that attempt; the reason as JSON, so on one line), `due:MS` (a timer
-- was set that is due so soon), `silent:RUNNER TOKEN` (a runner let the lease of this attempt lapse), `other:TYPE
-- RUNNER` (a queue has a job that another runner than this one is to have), `trouble:RUNNER FAILED` (a runner has
-- failed so many attempts in a row, and gets fewer), `ended:KIND STATUS` (a flow or message has, with this status),
-- `deleted:` (the context is being deleted: whoever waits in it is to look),
-- `feed:` (those who follow the whole context have new events), `attempt:RUN JOB NUMBER TOKEN RUNNER BEGUN ENDED
-- OUTCOME ORIGIN REASON` (an attempt has ended that belongs to a trace; times in ms, the reason as JSON or nothing).
-- Records are named by their key without the prefix: `job:7:1`, `flow:1`.
--
-- Engine fields of a job: x_run (the flow or message it runs for), x_wait (unmet dependencies), x_met (what its
-- prerequisites were satisfied by when it was released), x_next (jobs waiting for it), x_parents (ids of the jobs it
-- depends on), x_awaits (its prerequisites), x_attempt (the last one: number, token, runner, lease in ms, start,
-- deadline or 0, session or nothing, with spaces between, for each field costs much of a transition; or its number
-- alone, if those after it never reached a runner), x_failed (the failure last reported: token, status, attempt),
-- x_queued, x_ended, x_retry (times, ms), x_failure, x_needed (runs that count it as done though it belonged to
-- another, with spaces between), x_lost (how many of its attempts were lost), x_late (of the last attempt that was
-- cancelled or timed out here: until when (ms) its runner may hand in output and a result, its token, its number, its
-- run), x_returned (how often it was given back in this run), x_kept (what it knew of its attempts before a start that
-- is not yet certain: see steps.lua), x_trace (the run's x_origin when its last attempt began that belongs to a trace;
-- such an attempt has a + behind its deadline).
-- Of a run: x_active (see runs.lua: '1' while jobs may start), x_pending (jobs not Finished), x_jobs, x_leaves (both
-- are LARGE if it has so many that a list has them: see steps.lua), x_started, x_ended, x_logged (bytes of log lines),
-- x_forgotten (the events of an earlier start are no longer kept), x_step (what is done with it in slices, and how far
-- that is), x_again (the token of the flow_rerun that has started it last), x_origin (what has asked for its last
-- start, as Keyspace.started_by has it, or '').

local VERSION = '13'
local IDENTITY = VERSION .. ':' .. DIGEST
-- So many reports of log lines are kept of a flow; a text, as all that is given to redis.call often: a number is
-- printed each time.
local LOGS_KEPT = '10000'

-- How much is done in one call: the server does nothing else meanwhile. What has more jobs, or names more jobs and
-- prerequisites, is started, ended and deleted in slices: see steps.lua.
local ONE_CALL = 200 -- jobs
local ONE_CALL_BYTES = 8192 -- of the names of what they wait for
local WORK = 300 -- commands, about, of a slice
local ANSWER_KEPT = '60000' -- ms for which it is remembered what a long call was answered, should that be lost
local LOOK_AGAIN = 60000 -- ms after which it is seen whether what could not be done can be done now
local STALE_AFTER = 1000 -- ms after which entries of queues whose jobs do not run are dropped, if they are next

-- How a result begins. storage/functions lists the same.
local WORD = {
  OK = 'ok',
  NEW = 'new',
  NONE = 'none',
  STALE = 'stale',
  OVER = 'over',
  MISSING = 'missing',
  CHANGED = 'changed',
  BUSY = 'busy',
  STATE = 'state',
  DIFFERS = 'differs',
  MORE = 'more',
  ALL = 'all',
  AGAIN = 'again',
  FAULT = 'fault',
  REDO = 'redo',
  UNKEPT = 'unkept',
  FOREIGN = 'foreign',
}

-- How an effect begins. storage/functions lists the same.
local EFFECT = {
  READY = 'ready:',
  DUE = 'due:',
  EVENTS = 'events:',
  CANCEL = 'cancel:',
  SILENT = 'silent:',
  OTHER = 'other:',
  TROUBLE = 'trouble:',
  ENDED = 'ended:',
  DELETED = 'deleted:',
  FEED = 'feed:',
  ATTEMPT = 'attempt:',
}

-- What this server remembers of the time, for as long as it runs; all contexts it has share that. Timers are not on
-- the server's own clock, which may be set at any time, but on one that goes on as the coordinators' clocks do, which
-- are never set: `set` (ms) is added to the server's. A coordinator says twice a second how late it is, `keep_time`;
-- since it does, `is_kept`, the server was away, or all coordinators were, if there was no call for AWAY, or its
-- clock was set forward. All these are the same to us: nobody could report, so no time has passed, and nothing counts
-- as lost before its lease has passed once more `since` then (as `set` has it; `since_wall`: as the server's clock
-- had it). `run` names this memory.
local AWAY = 1000 -- ms
local SET_BACK = 250 -- ms; below, the clock was adjusted rather than set
local clock = {set = 0}

-- The server's time as TIME tells it, and in ms. Notices when its clock was set.
local function read_clock()
  local time = redis.call('TIME')
  local wall, seen = time[1] * 1000 + math.floor(time[2] / 1000), clock.seen
  clock.seen = wall
  if not seen then
    clock.run, clock.since, clock.since_wall = time[1] .. '.' .. time[2], wall, wall
  elseif wall < seen - SET_BACK then
    clock.set = clock.set + seen - wall
  elseif clock.is_kept and wall > seen + AWAY then
    clock.set = clock.set + seen - wall
    clock.since, clock.since_wall = wall + clock.set, wall
  end
  return time, wall
end

-- A coordinator says what time it must be at least, by its own clock.
-- KEYS: 1 any key of GLOBAL. ARGV: 1 the run in which it was told the time, 2 that time and what has passed since, in
-- ms.
-- Returns: {the run, the time}, to be told the next time, and by how much that is not the server's.
local function keep_time(keys, args)
  local _, wall = read_clock()
  clock.is_kept = true
  if args[1] == clock.run and tonumber(args[2]) > wall + clock.set + SET_BACK then
    local set = args[2] - wall
    clock.set = math.abs(set) <= SET_BACK and 0 or set
  end
  return {clock.run, string.format('%.0f', wall + clock.set), clock.set}
end

redis.register_function{function_name = 'hc_clock', callback = keep_time, flags = {'allow-oom'}}

-- A context's skew, in which what `clock.set` has become since it was last looked at is contained. It is stored as
-- soon as the context has anything it matters for, so that the context's timers and its clock stay together whatever
-- happens.
local function adopt_clock(tx, skew, is_reading)
  local run, set = string.match(redis.call('HGET', tx.engine, 'clock') or '', '^(%S+) (%S+)$')
  set = run == clock.run and tonumber(set) or 0
  if set == clock.set then
    return skew
  end
  skew = skew + clock.set - set
  tx.adopted = {'skew', string.format('%.0f', skew), 'clock', clock.run .. ' ' .. string.format('%.0f', clock.set)}
  if not is_reading and redis.call('EXISTS', tx.engine, tx.prefix .. 'timers') > 0 then
    redis.call('HSET', tx.engine, unpack(tx.adopted))
    tx.adopted = nil
  end
  return skew
end

-- The skew of a context that is held still, as `held` says (see transfer.lua): what is written to it meanwhile is
-- refused, and its clock stands still. An export that has not said for long that it goes on has ended.
local function held_skew(engine, held, wall, is_reading)
  local what, skew, since, ends = string.match(held, '^(%l+) %S+ (%S+) (%S+) (%S+)$')
  local is_over = what == 'export' and wall >= tonumber(ends)
  if what ~= 'export' then
    error({err = 'ERR an import into this context is under way, or was not finished; run it again, or end it with '
      .. '`herocoordinator import --abandon`'})
  elseif not is_over and not is_reading then
    error({err = 'TRYAGAIN this context is being exported'}) -- so it is asked again, as on its way to another node
  end
  skew = skew + since - wall
  if is_over and not is_reading then
    redis.call('HSET', engine, 'skew', string.format('%.0f', skew), 'clock',
      clock.run .. ' ' .. string.format('%.0f', clock.set))
  end
  return skew
end

local CLOCK = {known = clock, read = read_clock, adopt = adopt_clock}

-- `is_reading`: the call must not write. `is_anyway`: it may be made while the context is being deleted.
local function begin(keys, args, is_reading, is_anyway)
  -- A pattern for all of it would cost as much as a command.
  local _, last = string.find(args[2], ' ' .. IDENTITY, 1, true)
  local rest, origin = (last or 0) + 1, nil
  if string.byte(args[2], rest + 1) == 64 then -- '@'
    origin, rest = string.match(args[2], '^ @(%S+)()', rest)
  end
  local writer, number, unanswered = string.match(args[2], '^ ?(%S*) ?(%d*) ?(%d*)$', rest)
  if not last or (string.byte(args[2], last + 1) or 32) ~= 32 then
    error({err = 'ERR the function library here is version ' .. VERSION .. ' (' .. DIGEST .. '), of another '
      .. 'coordinator than the one that calls; only one of the two can use this store: stop the other one, then '
      .. 'restart the one that stays'})
  end
  local caller, prefix = string.sub(args[2], 1, last), string.sub(keys[1], 1, -7)
  local time, wall = read_clock()
  local stored = redis.call('HGET', keys[1], 'skew')
  local skew = tonumber(stored)
  if stored == 'deleting' and not is_anyway then -- see context_delete
    error({err = 'DELETING the context is being deleted; once it is, one with this id is another'})
  elseif not skew then
    skew = stored and not is_anyway and held_skew(keys[1], stored, wall, is_reading) or 0
  end
  if writer == '' then
    writer = nil
  else
    writer = prefix .. 'writer:' .. writer
    if not is_reading and redis.call('EXISTS', writer) == 0 then
      error({err = 'FENCED this connection was given up, or the store has lost who writes on it'})
    end
  end
  -- With these it has less than 32 fields, so that no call makes it grow. Others are set later: `now`, `due` (the next
  -- timer), `memory` (see runs.lua), `count` (the number of the count that holds), `faults` (see note_fault), and so
  -- on.
  local tx = {
    engine = keys[1],
    prefix = prefix,
    wall = wall,
    at = string.format('%.0f', wall), -- made once: a number given to redis.call is printed each time
    seconds = time[1],
    micros = time[2] % 1000, -- since then
    channel = args[1],
    coordinator = caller,
    origin = origin, -- what has asked for the run that this starts: a traceparent, a comma and a request id
    counts = string.byte(caller, string.find(caller, ' ', 1, true) + 1) == 49, -- '1': what records take is counted
    writer = writer, -- the key of the replies kept for who calls, nil: this call is not to be kept
    number = number,
    unanswered = unanswered,
    effects = {},
    news = {},
    events = {}, -- flows to which something has happened → that, as far as it is not written yet: see events.lua
    feed = {}, -- what has happened to flows, in order: whose event that is, as EVENTS.of has it, the next of its lines
    timers = {}, -- what was armed and disarmed, in order: the name, and when that is due or false
    timed = 0, -- items of that
    work = WORK, -- commands that may be spent on what can wait for another call
    active = {}, -- run → its x_active, as far as it was looked at
    noted = 0, -- jobs that have finished, see note_finished
    notes = {}, -- of each its run, what waits for it, and who noted that
    ids = {}, -- number of an event → the id of an entry of which it is the last
    heads = {}, -- status → how the events of jobs begin that come into it
    place = 1, -- of the transition in the call
    result_of = {}, -- jobs that have finished since anything else was done but take jobs → their results
    moves = {}, -- how often records were moved from a status to another one, see COUNT.move
  }
  if clock.set ~= 0 and not is_anyway then
    skew = adopt_clock(tx, skew, is_reading)
  end
  tx.now = wall + skew
  return tx
end

-- Tell our own coordinator, and every other one too.
local function announce(tx, effect)
  tx.effects[#tx.effects + 1] = effect
  tx.news[#tx.news + 1] = effect
end

-- Call a variadic command with any number of items, some at a time: Lua's stack holds about 8,000. An even number each
-- time, for those that take pairs. Returns the last reply.
local function call_each(command, key, items)
  local reply
  for first = 1, #items, 1000 do
    reply = redis.call(command, key, unpack(items, first, math.min(first + 999, #items)))
  end
  return reply
end

-- What remains of timers that were armed and disarmed in turns: the last of each name.
local function last_timers(timers, timed)
  local last, remaining = {}, {}
  for at = 1, timed, 2 do
    last[timers[at]] = timers[at + 1]
  end
  for name, at in pairs(last) do
    remaining[#remaining + 1] = name
    remaining[#remaining + 1] = at
  end
  return remaining
end

-- What is armed, each with the time in front of it, and what is disarmed, and how often these take turns.
local function sort_timers(timers, last)
  local armed, disarmed, turns, was_armed, before, text = {}, {}, -1, nil, nil, nil
  local arms, disarms = 0, 0
  for at = 1, last, 2 do
    local due = timers[at + 1]
    if due then
      if due ~= before then -- mostly all are due at once
        before, text = due, string.format('%.0f', due)
      end
      armed[arms + 1], armed[arms + 2], arms = text, timers[at], arms + 2
      if was_armed ~= true then
        turns, was_armed = turns + 1, true
      end
    else
      disarms = disarms + 1
      disarmed[disarms] = timers[at]
      if was_armed ~= false then
        turns, was_armed = turns + 1, false
      end
    end
  end
  return armed, disarmed, turns
end

-- Carry out what was armed and disarmed so far.
local function set_timers(tx)
  local timers, last = tx.timers, tx.timed
  if last == 0 then
    return
  end
  local armed, disarmed, turns = sort_timers(timers, last)
  if turns > 1 then
    timers = last_timers(timers, last)
    armed, disarmed = sort_timers(timers, #timers)
  end
  local is_armed_first = timers[2] ~= false
  if #disarmed > 0 and not is_armed_first then
    call_each('ZREM', tx.prefix .. 'timers', disarmed)
  end
  if #armed > 0 then
    if tx.adopted then
      redis.call('HSET', tx.engine, unpack(tx.adopted))
      tx.adopted = nil
    end
    call_each('ZADD', tx.prefix .. 'timers', armed)
  end
  if #disarmed > 0 and is_armed_first then
    call_each('ZREM', tx.prefix .. 'timers', disarmed)
  end
  tx.timers, tx.timed = {}, 0
end

-- A runner is to stop an attempt.
local function announce_cancel(tx, runner, job, token, reason)
  announce(tx, EFFECT.CANCEL .. table.concat({runner, job, token, cjson.encode(reason)}, ' '))
end

-- Set the timer `name` of a record, or move it; like `disarm`, `set_timers` carries it out.
local function arm(tx, name, at)
  local timers, timed = tx.timers, tx.timed
  timers[timed + 1], timers[timed + 2], tx.timed = name, at, timed + 2
  if not tx.due or at < tx.due then
    tx.due = at
  end
end

local function disarm(tx, name)
  local timers, timed = tx.timers, tx.timed
  timers[timed + 1], timers[timed + 2], tx.timed = name, false, timed + 2
end

-- A job that was queued is not to run any more. Its entry is a hint and stays, but where no runner comes to drop it, it
-- would be counted for ever: see TIMER.stale.
local function leave_queue(tx)
  if not tx.has_left then
    tx.has_left = true
    if not redis.call('ZSCORE', tx.prefix .. 'timers', 'stale:engine') then
      arm(tx, 'stale:engine', tx.now + STALE_AFTER)
    end
  end
end

local function shorten(items, count)
  for at = #items, count + 1, -1 do
    items[at] = nil
  end
end

-- What the server, or Lua, says of a fault.
local function fault_text(fault)
  return type(fault) == 'table' and fault.err or tostring(fault)
end

-- A part of what transition `number` of the call was to do has failed, and the rest goes on. It is answered with that.
local function note_fault(tx, fault, number)
  tx.faults = tx.faults or {}
  tx.faults[#tx.faults + 1] = {number = number, text = fault_text(fault)}
end

-- The faults noted so far, which are the caller's to report now.
local function faults_of(tx)
  local faults = tx.faults or {}
  tx.faults = nil
  return faults
end

-- What the end of a call makes of what was done so far.
local function marks_of(tx)
  return {timed = tx.timed, effects = #tx.effects, news = #tx.news, noted = tx.noted, due = tx.due}
end

-- Forget what was done since `marks` as far as the end of the call would make something of it; what was written stays.
local function forget_since(tx, marks)
  tx.timed = math.min(marks.timed, tx.timed) -- those before may have been carried out
  shorten(tx.effects, marks.effects)
  shorten(tx.news, marks.news)
  tx.noted, tx.due, tx.active = marks.noted, marks.due, {}
end

-- Do one of several things that are done in one call, `act(...)`, so that a fault of it concerns no other: what it has
-- written stays, as if it had been the only one, but what the end of the call would have made of it is forgotten.
-- Returns true, or false and what was wrong.
local function attempt(tx, act, ...)
  local marks = marks_of(tx)
  local went_well, fault = pcall(act, ...)
  if went_well then
    return true
  end
  forget_since(tx, marks)
  return false, fault_text(fault)
end

local function go_through(tx, act, it, marks, first, count)
  for at = first, count do
    marks.at, marks.timed, marks.noted, marks.due = at, tx.timed, tx.noted, tx.due
    marks.effects, marks.news = #tx.effects, #tx.news
    act(tx, it, at)
  end
end

-- Do things of one kind, `act(tx, it, 1)` to `act(tx, it, count)`, each as `attempt` does. `fail(tx, it, at, fault)` is
-- called for those that have failed.
local function attempt_each(tx, act, it, count, fail)
  local at, marks = 0, marks_of(tx)
  while at < count do
    local went_well, fault = pcall(go_through, tx, act, it, marks, at + 1, count)
    at = went_well and count or marks.at
    if not went_well then
      forget_since(tx, marks)
      fail(tx, it, at, fault_text(fault))
    end
  end
end

-- A small number as text: it costs much to print one each time.
local texts = {}
local function in_digits(number)
  local text = texts[number]
  if not text then
    text = string.format('%.0f', number)
    if number < 1000 then
      texts[number] = text
    end
  end
  return text
end

local function job_id(job)
  return string.match(job, '^.*:(%d+)$') -- without the first part, each place in the name would be tried
end

-- What happens to flows; see events.lua.
local EVENTS = {ATTEMPT = ',"attempt":', RUNNER = ',"runner_id":'}

-- What is known in this call of what happens to a flow: `lines`, an event each, how many there are, `count`, and how
-- many of them are in the stream, `kept`; whether the others begin the stream, and trim it; how long (ms) it is kept
-- from now on, `ttl`. And perhaps: whether the stream's newest entry `is_late`, see EVENTS.write; how many `logs` were
-- written to it; how many of the lines were `fed` to the feed. As these would make it a larger table, they are set when
-- they are needed.
function EVENTS.of(tx, flow)
  local it = tx.events[flow]
  if not it then
    it = {
      flow = flow, lines = {'', '', '', ''}, count = 0, kept = 0, begins = false, trims = false, ttl = false,
    }
    tx.events[flow] = it
  end
  return it
end

-- Something has happened to the flow that `run` is; messages have no events. An event is the members of a FlowEvent but
-- its id, as JSON on one line. `is_first`: what happens to each job of a flow about once a start, which so need not
-- trim the others: that costs a fifth more.
local function emit(tx, run, event, is_first)
  local it, feed = tx.events[run], tx.feed
  if not it then
    if string.sub(run, 1, 5) ~= 'flow:' then
      return
    end
    it = EVENTS.of(tx, run)
  end
  local count = it.count + 1
  it.lines[count], it.count = event, count
  feed[#feed + 1] = it
  if not is_first then
    it.trims = true
  end
end

-- Why something happened, as a further member of an event.
local function because(reason)
  return ',"reason":' .. cjson.encode(reason)
end

-- A flow is in another status.
local function emit_flow(tx, run, status, more)
  local event = '"kind":"flow","at":' .. tx.at .. ',"status":"' .. status .. '"' .. (more or '')
  emit(tx, run, event)
  if tx.events[run] then
    tx.events[run].begins = true
  end
end

-- How the events of jobs that are in another status begin.
function EVENTS.head(tx, status)
  local head = tx.heads[status]
  if not head then
    head = '"kind":"job","at":' .. tx.at .. ',"status":"' .. status .. '","job_id":'
    tx.heads[status] = head
  end
  return head
end

-- A job is in another status. `attempt`: as attempt_of has it, or nil.
local function emit_job(tx, run, job, status, attempt, more)
  local id = string.sub(job, string.find(job, ':', 5, true) + 1) -- behind the second colon
  local about = attempt and id .. EVENTS.ATTEMPT .. attempt.number .. EVENTS.RUNNER .. attempt.runner or id
  local is_first = not attempt or attempt.number == '1' and status ~= 'Dispatched'
  emit(tx, run, EVENTS.head(tx, status) .. about .. (more or ''), is_first)
end

local function split(text)
  local words = {}
  for word in string.gmatch(text or '', '%S+') do
    words[#words + 1] = word
  end
  return words
end

-- A text as one of several that are joined by NUL.
local function without_nul(text)
  return (string.gsub(text, '%z', NUL))
end

-- Items of `items` from `first` to `last`.
local function slice(items, first, last)
  local part = {}
  for i = first, last do
    part[#part + 1] = items[i]
  end
  return part
end

-- Put jobs that are ready onto the queue of their script type. `entries`: type → jobs. Entries are hints: one whose
-- job is not Dispatched any more when it is popped is dropped.
local function enqueue(tx, entries)
  for type, jobs in pairs(entries) do
    local length = call_each('LPUSH', tx.prefix .. 'queue:' .. string.lower(type), jobs)
    if length == #jobs then -- it was empty, so takers everywhere may be waiting
      announce(tx, EFFECT.READY .. type)
    else
      tx.effects[#tx.effects + 1] = EFFECT.READY .. type
    end
  end
end

local function add(entries, type, job)
  local jobs = entries[type]
  if jobs then
    jobs[#jobs + 1] = job
  else
    entries[type] = {job}
  end
end

-- The library's version.
-- KEYS: none. ARGV: 1 'digest', or nothing as older coordinators ask.
-- Returns: {its number, its digest} | its number.
local function version(_, args)
  if args[1] == 'digest' then
    return {tonumber(VERSION), DIGEST}
  end
  return tonumber(VERSION)
end

redis.register_function{function_name = 'hc_version', callback = version, flags = {'no-writes'}}
