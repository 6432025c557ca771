-- What every transition shares. A transition `tx` knows where it happens (`prefix` of all keys of the context), when
-- (`now`, ms; `at`, the same as text), and gathers what coordinators must learn of it (`effects`).
--
-- KEYS 1 of a transition is the context's engine hash, `<prefix>engine`: tokens (last attempt number given out), skew
-- (ms added to the clock). On a cluster every function is given one key more, which never exists (Keyspace.absent). All
-- other keys a function touches must be in the slot of KEYS 1. ARGV 1 is the context's channel, 2 the coordinator that
-- asks: its name, for how long (ms) it keeps an ended flow's events and ended runs (0: for ever), and the version of
-- the library it knows, with spaces between: what another version is given or returns may be different. Its own
-- arguments follow; in Lua it is given `args`, the place `o` before the first of its own, and the last place. It
-- returns {result, effects}; a result's first item says how it went. `hc_many` does several transitions as one.
-- Effects: `ready:TYPE` (a queue has jobs), `events:FLOW` (there are new ones), `cancel:RUNNER JOB TOKEN REASON` (stop
-- that attempt; the reason as JSON, so on one line), `due:MS` (a timer was set that is due so soon).
-- Records are named by their key without the prefix: `job:7:1`, `flow:1`.
--
-- Engine fields of a job: x_run (the flow or message it runs for), x_wait (unmet dependencies and prerequisites),
-- x_next (jobs waiting for it), x_parents (ids of the jobs it depends on), x_awaits (its prerequisites), x_attempt (the
-- last one: number, token, runner, lease in ms, start, deadline or 0, session or nothing, with spaces between, for each
-- field costs much of a transition; or its number alone, if those after it never reached a runner), x_failed (the
-- failure last reported: token, status, attempt), x_queued, x_ended, x_retry (times, ms), x_failure.
-- Of a run: x_active ('1' while jobs may start), x_pending (jobs not Finished), x_jobs, x_leaves, x_started, x_ended,
-- x_logged (bytes of log lines), x_forgotten (the events of an earlier start are no longer kept).

local VERSION = '7'
local EVENTS_KEPT = '10000' -- text, as all that is given to redis.call often: a number is printed each time

-- How a result begins. storage/functions.py lists the same.
local WORD = {
  OK = 'ok',
  NEW = 'new',
  NONE = 'none',
  STALE = 'stale',
  MISSING = 'missing',
  CHANGED = 'changed',
  BUSY = 'busy',
  STATE = 'state',
  MORE = 'more',
  ALL = 'all',
  AGAIN = 'again',
  FAULT = 'fault',
}

-- How an effect begins. storage/functions.py lists the same.
local EFFECT = {
  READY = 'ready:',
  DUE = 'due:',
  EVENTS = 'events:',
  CANCEL = 'cancel:',
}

local function begin(keys, args)
  if string.match(args[2], '%d+$') ~= VERSION then
    error({err = 'ERR the function library here is version ' .. VERSION
      .. ', of another coordinator than the one that calls'})
  end
  local time = redis.call('TIME')
  local skew = redis.call('HGET', keys[1], 'skew')
  local now = time[1] * 1000 + math.floor(time[2] / 1000) + (tonumber(skew) or 0)
  return {
    engine = keys[1],
    prefix = string.sub(keys[1], 1, -7),
    now = now,
    at = string.format('%.0f', now), -- made once: a number given to redis.call is printed each time
    seconds = time[1],
    jitter = (time[2] % 1000) / 1000,
    channel = args[1],
    coordinator = args[2],
    effects = {},
    news = {},
    events = {}, -- flows to which something has happened → the keys of their events
    timers = {},
    due = nil,
    active = {}, -- run → whether jobs of it may start, as far as it was looked at
    ended = {}, -- runs of which jobs have finished, each once: see flush_finished
    count_of = {}, -- how many of a run's jobs that are
    freed = {}, -- run → the jobs that wait for those, each once
    met_of = {}, -- such a job → for how many of them
    result_of = {}, -- jobs that finished in this call → their results
  }
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

-- Carry out what was armed and disarmed so far.
local function set_timers(tx)
  local armed, disarmed, before, text = {}, {}, nil, nil
  for name, at in pairs(tx.timers) do
    if at then
      if at ~= before then -- mostly all are due at once
        before, text = at, string.format('%.0f', at)
      end
      armed[#armed + 1] = text
      armed[#armed + 1] = name
    else
      disarmed[#disarmed + 1] = name
    end
  end
  if #armed > 0 then
    call_each('ZADD', tx.prefix .. 'timers', armed)
  end
  if #disarmed > 0 then
    call_each('ZREM', tx.prefix .. 'timers', disarmed)
  end
  tx.timers = {}
end

-- A runner is to stop an attempt.
local function announce_cancel(tx, runner, job, token, reason)
  announce(tx, EFFECT.CANCEL .. table.concat({runner, job, token, cjson.encode(reason)}, ' '))
end

-- Set the timer `name` of a record, or move it; like `disarm`, `set_timers` carries it out.
local function arm(tx, name, at)
  tx.timers[name] = at
  if not tx.due or at < tx.due then
    tx.due = at
  end
end

local function disarm(tx, name)
  tx.timers[name] = false
end

local function job_id(job)
  return string.match(job, '%d+$')
end

-- Append to the events of the flow that `run` is; messages have none. Only an event of the flow itself begins them:
-- what happens to its jobs when they are no longer kept leaves none behind. An event is one field, e: the members of a
-- FlowEvent but its id, as JSON; `members` are those after `at`, each with a comma before it.
local function emit(tx, run, kind, members)
  local events, event = tx.events[run], '"kind":"' .. kind .. '","at":' .. tx.at .. members
  if events then -- begun or trimmed in this call
    redis.call('XADD', events, 'NOMKSTREAM', '*', 'e', event)
  elseif string.sub(run, 1, 5) == 'flow:' then
    events = tx.prefix .. 'events:' .. string.sub(run, 6)
    tx.events[run] = events
    if kind == 'flow' then
      redis.call('XADD', events, 'MAXLEN', '~', EVENTS_KEPT, '*', 'e', event)
    else
      redis.call('XADD', events, 'NOMKSTREAM', 'MAXLEN', '~', EVENTS_KEPT, '*', 'e', event)
    end
  end
end

-- Why something happened, as a further member of an event.
local function because(reason)
  return ',"reason":' .. cjson.encode(reason)
end

-- A flow is in another status.
local function emit_flow(tx, run, status, more)
  emit(tx, run, 'flow', ',"status":"' .. status .. '"' .. (more or ''))
end

-- A job is in another status. `attempt`: its number and runner, as attempt_of reads them, or nil.
local function emit_job(tx, run, job, status, attempt, more)
  local about = attempt and ',"attempt":' .. attempt.number .. ',"runner_id":' .. attempt.runner or ''
  emit(tx, run, 'job', ',"status":"' .. status .. '","job_id":' .. job_id(job) .. about .. (more or ''))
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

-- Put jobs that are ready onto the queue of their script type. `entries`: type → jobs. Entries are hints: one whose job
-- is not Dispatched any more when it is popped is dropped.
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

-- The library's version, an integer.
-- KEYS: none. ARGV: none.
local function version()
  return tonumber(VERSION)
end

redis.register_function{function_name = 'hc_version', callback = version, flags = {'no-writes'}}
