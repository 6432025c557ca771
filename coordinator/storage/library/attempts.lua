-- Attempts: taken, kept alive, finished, failed, lost.

local ELSEWHERE = 5000 -- ms for which a job that is tried again is kept for another runner than the last
local FAILED_IN_A_ROW = 5 -- attempts that a runner fails at once, after which it gets a smaller share
local NAMES_JOB = '^.+%-(%d+)%-(%d+)$' -- a token; those of early versions named no job

-- What is known of a job that may be taken, `record`, a list: its name, its key, the inputs and the run's fields that
-- its runner gets, what is read of it that the engine needs, and what its runner gets, in its order.
local JOB, KEY, INPUTS, OF_RUN = 1, 2, 3, 4
local AT = {status = 5, x_run = 6, x_queued = 7, x_attempt = 8, x_parents = 9, updated_at = 10, x_met = 11}
local ASSIGNED = 12
for i = 1, #JOB_ASSIGNED do -- there is no ipairs yet while the library is loaded
  AT[JOB_ASSIGNED[i]] = ASSIGNED + i - 1
end
local STATUS, RUN, QUEUED, ATTEMPT, PARENTS, TYPE, TIMEOUT, ENV_VARS, SCRIPT = AT.status, AT.x_run, AT.x_queued,
  AT.x_attempt, AT.x_parents, AT.script_type, AT.timeout, AT.env_vars, AT.script
local UPDATED_AT = AT.updated_at

-- A record with none of these fields, but those that need not be stored.
local BLANK = {}
for i = 1, AT.script do
  BLANK[i] = false
end
for i = 1, #JOB_OPEN do
  BLANK[AT[JOB_OPEN[i]]] = JOB_DEFAULTS[JOB_OPEN[i]] or NOT_GIVEN
end

local function read_job(tx, job)
  local key, at_of = tx.prefix .. job, AT
  local stored, record = redis.call('HGETALL', key), {unpack(BLANK)} -- to ask for each by name costs more
  for i = 1, #stored, 2 do
    local at = at_of[stored[i]]
    if at then
      record[at] = stored[i + 1]
    end
  end
  for i = 1, #JOB_TEXTS do
    local at = at_of[JOB_TEXTS[i]]
    record[at] = record[at] and without_nul(record[at])
  end
  record[JOB], record[KEY] = job, key
  return record
end

-- The results of the jobs a job depends on, `parents` (their ids): of the first of them, up to some bytes, or of the
-- first behind `after`, one of them. Returns a JSON object by id, or nil if `after` is none of them; the ids of the
-- others, with commas between; and that of the last in the object.
local function inputs_of(tx, job, parents, after)
  if not parents then
    return not after and '{}' or nil, ''
  end
  local caller, inputs, rest, bytes, last = string.match(job, '^job:%d+:'), {}, {}, 0, nil
  local result_of = tx.result_of or {}
  local most_bytes, most_jobs = 1048576, 1000 -- of results told at once, unless a single one is larger
  for id in string.gmatch(parents, '%d+') do
    if after then
      if after == id then
        after = nil
      end
    elseif #rest > 0 or #inputs >= most_jobs then
      rest[#rest + 1] = id
    else
      local result = result_of[caller .. id] or redis.call('HGET', tx.prefix .. caller .. id, 'result') or '{}'
      bytes = bytes + #result
      if bytes > most_bytes and #inputs > 0 then
        rest[1] = id
      else
        inputs[#inputs + 1] = '"' .. id .. '":' .. result
        last = id
      end
    end
  end
  return not after and '{' .. table.concat(inputs, ',') .. '}' or nil, table.concat(rest, ','), last
end

-- Read into a job's record what its runner gets from elsewhere: the inputs, an object and behind it a list of the ids
-- of those that are not in it, if there are any; and what its prerequisites were satisfied by.
local function read_given(tx, job, record)
  local inputs, rest = inputs_of(tx, job, record[PARENTS])
  record[INPUTS] = rest == '' and inputs or inputs .. '[' .. rest .. ']'
  local met, names = record[AT.x_met], record[AT.prerequisites]
  record[AT.x_met] = met and names ~= '[]' and PREREQUISITES.encode_met(tx, record[RUN], names, met) or ''
end

-- What the runner of an attempt gets: attempt, token, job, run, its env_vars, inputs (see read_given), updated_at,
-- what its prerequisites were satisfied by (a JSON object, or '' if it has none), since when it was queued and when
-- that ended (ms, `waited`; '' if this was told before), the run's x_origin and the members that JOB_ASSIGNED names;
-- joined by NUL, which only the last of them, the script, may contain. One string, for each item of a table costs the
-- server much. `of_run`: run and env_vars, and `updated_at`, each with a NUL before and behind it.
local function encode_assignment(record, attempt, token, of_run, updated_at, waited, origin)
  return attempt .. '\0' .. token .. '\0' .. record[JOB] .. of_run .. record[INPUTS] .. updated_at .. record[AT.x_met]
    .. '\0' .. waited .. '\0' .. origin .. '\0' .. table.concat(record, '\0', ASSIGNED)
end

-- Which runners are there; all of it is in the server's memory.
local THERE = {}

-- Whether a runner other than this one is there for jobs of a type.
function THERE.is_another(tx, type, runner)
  local now, memory = tx.now, known_memory(tx)
  for other, till in pairs(memory and memory.there[type] or {}) do
    if other ~= runner and till >= now then
      return true
    end
  end
  return false
end

function THERE.is_another_for(tx, types, runner)
  for _, type in ipairs(types) do
    if THERE.is_another(tx, type, runner) then
      return true
    end
  end
  return false
end

-- The runners that are there to take jobs of a type, and until when (ms) that may be believed.
function THERE.of(tx, type)
  local now, memory = tx.now, memory_of(tx)
  local runners = memory.there[type] or {}
  memory.there[type] = runners
  if now - (memory.swept[type] or 0) > ELSEWHERE then
    memory.swept[type] = now
    for runner, till in pairs(runners) do
      runners[runner] = till >= now and till or nil
    end
    for job, kept in pairs(memory.kept) do
      memory.kept[job] = kept.till > now and kept or nil
    end
  end
  return runners
end

-- Say which runners are there to take jobs.
-- Arguments: 1 for how long, in ms, that may be believed, 2 how many types, those, then the runners.
-- Result: 'ok'.
local function runners_there(tx, args, o, last)
  local till, types = tx.now + args[o + 1], tonumber(args[o + 2])
  for at = o + 3, o + 2 + types do
    local runners = THERE.of(tx, args[at])
    for who = o + 3 + types, last do
      runners[args[who]] = math.max(runners[args[who]] or till, till)
    end
  end
  return WORD.OK
end

-- A runner was heard of, and if an attempt of it `ended_well`, there is nothing wrong with it.
local function cheer(tx, runner, ended_well)
  local memory = known_memory(tx)
  local trouble = memory and memory.troubled[runner]
  if trouble and (ended_well or trouble.failed == 0) then
    memory.troubled[runner] = nil
  elseif trouble then
    trouble.lost = 0
  end
end

-- A runner gets nothing for a while, twice as long each time, and then one job at a time.
local function hold_back(tx, trouble, first, times)
  local longest = 60000 -- ms
  trouble.till = tx.now + math.min(first * 2 ^ math.min(times, 10), longest)
end

local function trouble_of(tx, runner)
  local memory = memory_of(tx)
  if not memory.troubled[runner] then
    local limit = 10000 -- runners of a context blamed, after which all are forgiven
    memory.blamed = (memory.blamed or 0) + 1
    if memory.blamed > limit then -- most of them will not come back
      memory.troubled, memory.blamed = {}, 1
    end
    memory.troubled[runner] = {failed = 0, lost = 0, till = 0}
  end
  return memory.troubled[runner]
end

-- A runner has failed an attempt: one that fails so many in a row, each at once, does not fail because of the jobs.
local function blame(tx, attempt)
  local at_once = 10000 -- ms from its beginning within which an attempt fails at once
  if tx.wall - attempt.start < at_once then
    local trouble = trouble_of(tx, attempt.runner)
    trouble.failed, trouble.lost = trouble.failed + 1, 0
    if trouble.failed >= FAILED_IN_A_ROW then
      hold_back(tx, trouble, 1000, trouble.failed - FAILED_IN_A_ROW)
      tx.effects[#tx.effects + 1] = EFFECT.TROUBLE .. attempt.runner .. ' ' .. trouble.failed
    end
  else
    cheer(tx, attempt.runner, false)
  end
end

-- One that is handed jobs by job.take, on no connection, was not heard of.
local function blame_silence(tx, attempt)
  if attempt.session == POLLING then
    local trouble = trouble_of(tx, attempt.runner)
    trouble.lost = trouble.lost + 1
    hold_back(tx, trouble, math.max(1000, attempt.lease), trouble.lost - 1)
  end
end

-- How many of `count` jobs of these types a runner gets now.
local function share_of(tx, runner, session, count, types)
  local memory = known_memory(tx)
  local trouble = memory and memory.troubled[runner]
  local is_silent = trouble and trouble.lost > 0 and session == POLLING
  local is_broken = trouble and trouble.failed >= FAILED_IN_A_ROW and THERE.is_another_for(tx, types, runner)
  if not is_silent and not is_broken then
    return count
  end
  local wait = trouble.till - tx.now
  if wait <= 0 then
    if is_broken then
      hold_back(tx, trouble, 1000, trouble.failed - FAILED_IN_A_ROW)
    end
    return 1
  end
  tx.due = math.min(tx.due or math.huge, tx.now + wait)
  for _, type in ipairs(types) do -- it may have been woken for a job
    if redis.call('EXISTS', tx.prefix .. 'queue:' .. string.lower(type)) == 1 then
      announce(tx, EFFECT.OTHER .. type .. ' ' .. runner)
    end
  end
  return 0
end


-- Keep a job that is tried again for others than the runner that has just failed or lost it, if anybody else is
-- there. Returns whether it is.
local function keep_for_others(tx, job, type, runner)
  local is_kept = THERE.is_another(tx, type, runner)
  if is_kept then
    memory_of(tx).kept[job] = {runner = runner, till = tx.now + ELSEWHERE}
  end
  return is_kept
end

-- Until when a job is kept for others than this runner; nil if it is not, or nobody else is there, so that none waits
-- for long.
local function kept_from(tx, job, type, runner)
  local memory = known_memory(tx)
  local kept = memory and memory.kept[job]
  if kept and kept.runner == runner and kept.till > tx.now and THERE.is_another(tx, type, runner) then
    return kept.till
  end
end

-- The runner of a message's job gave a sign of life.
local function deliver(tx, run)
  if string.sub(run, 1, 8) == 'message:' and redis.call('HGET', tx.prefix .. run, 'transport_status') == 'Sent' then
    redis.call('HSET', tx.prefix .. run, 'transport_status', 'Delivered')
  end
end

-- The last take of `holder`: its number, and what was handed out, of each attempt the job and the token; nil if there
-- was none.
local function last_take(tx, holder)
  local key = tx.prefix .. 'take:' .. holder
  local remembered = redis.pcall('GET', key)
  if type(remembered) == 'table' then -- of an earlier version, which had a hash there
    return unpack(redis.call('HMGET', key, 'number', 'taken'))
  end
  return string.match(remembered or '', '^(%d+) (.*)$')
end

do -- what is local to this block takes no place among the 200 locals a chunk may have

-- Put jobs back to the front of their queue, in their order.
local function put_back(queue, jobs)
  for back = #jobs, 1, -1 do
    redis.call('RPUSH', queue, jobs[back])
  end
end

-- A queue was emptied: nobody need come for what was put into it in this call.
local function forget_ready(tx, type)
  for _, told in ipairs({tx.effects, tx.news}) do
    for at = #told, 1, -1 do
      if told[at] == EFFECT.READY .. type then
        table.remove(told, at)
      end
    end
  end
end

-- What jobs of a run are told of it: whether it is `active`, '' if that says nothing, or nil if it is no record any
-- more; a `text` of it and its env_vars, of that `size`, see encode_assignment; its x_origin, `origin`.
local function read_run(tx, run)
  local stored = redis.pcall('HMGET', tx.prefix .. run, 'x_active', 'env_vars', 'x_origin')
  if stored.err then
    return {}
  end
  local active, env_vars = stored[1] or '', stored[2] or '{}'
  if active == '1' then
    tx.active[run] = IS.ACTIVE
  end
  return {active = active, text = '\0' .. run .. '\0' .. env_vars .. '\0', size = #env_vars, origin = stored[3] or ''}
end

-- The queued jobs a runner gets, up to `count`, from the queues of `types` in turn, until they have so many bytes.
-- Returns their records, and whether there may be more. One whose
-- type has changed since is moved to its queue; one that is in its queue twice, because it was queued again before its
-- first entry was popped, is popped once. Those kept for others stay where they are, and so do all while they are
-- paused, or the runner is drained; those of a flow that is paused are noted for when it is resumed.
local function pop(tx, count, bytes, types, runner)
  local popped, stale, runs, seen, moved = {}, 0, {}, {}, {}
  local most_kept, most_stale = 100, 200 -- jobs for others passed over, and stale entries dropped, in one call
  for _, type in ipairs(types) do
    local queue, kept, is_empty = tx.prefix .. 'queue:' .. string.lower(type), {}, false
    while #popped < count and #kept < most_kept and not is_empty do
      local asked = math.min(count - #popped, 100)
      local entries = redis.call('RPOP', queue, asked) or {}
      is_empty = #entries < asked
      local held = #entries > 0 and SHARING.is_held(tx, type, runner)
      if held then
        put_back(queue, entries)
        if held == 'paused' then
          forget_ready(tx, type)
        else
          announce(tx, EFFECT.OTHER .. type .. ' ' .. runner) -- it may have been woken for a job
        end
        is_empty = false
        break
      end
      local kept_jobs = known_memory(tx) and tx.memory.kept
      for i, job in ipairs(entries) do
        if bytes <= 0 or stale > most_stale then
          for back = #entries, i, -1 do
            redis.call('RPUSH', queue, entries[back])
          end
          put_back(queue, kept)
          enqueue(tx, moved)
          return popped, true
        end
        local is_readable, record = pcall(read_job, tx, job)
        if not is_readable then -- it is no record any more, which concerns no other
          arm(tx, 'retry:' .. job, tx.now + LOOK_AGAIN)
          record = {}
        end
        local run, of_run = record[RUN], nil
        if run and record[STATUS] == 'Dispatched' and record[QUEUED] and not seen[job] then
          of_run = runs[run]
          if not of_run then
            of_run = read_run(tx, run)
            runs[run] = of_run
          end
          if not of_run.active then
            arm(tx, 'retry:' .. job, tx.now + LOOK_AGAIN)
          end
        end
        local active = of_run and of_run.active
        if active and record[TYPE] ~= type then
          add(moved, record[TYPE], job)
        elseif active == '1' and kept_jobs and kept_jobs[job] and kept_from(tx, job, type, runner) then
          seen[job] = true
          kept[#kept + 1] = job
          local till = kept_from(tx, job, type, runner)
          tx.due = math.min(tx.due or till, till) -- then it may have it, for whoever looks tells of all queues
        elseif active == '1' then
          seen[job] = true
          local are_readable = true
          if record[PARENTS] or record[AT.x_met] then
            are_readable = pcall(read_given, tx, job, record)
          else
            record[INPUTS], record[AT.x_met] = '{}', ''
          end
          if are_readable then
            record[OF_RUN] = of_run
            popped[#popped + 1] = record
            bytes = bytes - #record[INPUTS] - of_run.size - #record[SCRIPT] - #record[ENV_VARS] - #record[AT.result]
              - 3 * #record[AT.x_met] -- which is looked for piece by piece
          else
            arm(tx, 'retry:' .. job, tx.now + LOOK_AGAIN)
          end
        elseif active == IS.STARTING or active == IS.SETTLING or active == IS.PAUSED then
          redis.call('RPUSH', tx.prefix .. 'ready:' .. run, type .. ' ' .. job)
          stale = stale + 1 -- as much work as one
        else
          stale = stale + 1
        end
      end
    end
    put_back(queue, kept)
    if is_empty and #kept == 0 then
      forget_ready(tx, type)
    end
  end
  enqueue(tx, moved)
  return popped, false
end

-- A message's first job was taken.
local function acknowledge(tx, run)
  local key = tx.prefix .. run
  local status, limit = unpack(redis.call('HMGET', key, 'status', 'timeout_result'))
  if status == 'Dispatched' then
    redis.call('HSET', key, 'status', 'Acknowledged', 'transport_status', 'Sent', 'updated_at', tx.seconds)
    disarm(tx, 'ack:' .. run)
    if limit ~= '0' then
      arm(tx, 'result:' .. run, tx.now + limit * 1000)
    end
  end
end

-- Begin an attempt at a popped job. `taking`: see take.
local function begin_attempt(tx, taking, at)
  local record = taking.popped[at]
  local job, key, run, of_run = record[JOB], record[KEY], record[RUN], record[OF_RUN]
  local number, field = '1', record[ATTEMPT]
  local caller, id = string.match(job, ':(%d+):(%d+)', 4)
  local token = taking.secret .. '-' .. caller .. '-' .. id
  if field then
    number = tostring(string.match(field, '^%d+') + 1)
  end
  local expires, deadline, traced, origin = taking.expires, '0', '', of_run.origin
  if record[TIMEOUT] ~= '0' then
    local grace = 5000 -- ms beyond a job's timeout for its runner to stop the script and report, before we end it
    local ends = tx.now + record[TIMEOUT] * 1000 + grace
    expires, deadline = math.min(expires, ends), string.format('%.0f', ends)
  end
  if origin ~= '' and string.byte(origin) ~= 44 then -- it begins with a trace, not with the comma behind that
    traced = '+'
    redis.call('HSET', key, 'x_trace', origin)
  end
  field = number .. ' ' .. token .. taking.text .. deadline .. traced .. taking.session_text
  local about, seconds = id .. EVENTS.ATTEMPT .. number .. taking.about, tx.seconds
  if (record[UPDATED_AT] or record[AT.created_at]) == seconds then
    redis.call('HSET', key, 'status', 'Started', 'x_attempt', field)
  else
    redis.call('HSET', key, 'status', 'Started', 'x_attempt', field, 'updated_at', seconds)
  end
  taking.begun = taking.begun + 1
  local taker = taking.taker
  BEGUN.remember(token, {field = field, run = run, number = number, traced = traced, taker = taker, about = about})
  arm(tx, 'lease:' .. job, expires)
  remember_attempt(tx, job, taker.name, token)
  if number ~= '1' and known_memory(tx) then
    tx.memory.kept[job] = nil
  end
  emit(tx, run, taking.head .. about .. taking.topic, number == '1')
  if not tx.events[run] and string.sub(run, 1, 8) == 'message:' then
    acknowledge(tx, run)
  end
  local attempts, taken, count = taking.attempts, taking.taken, taking.count + 1
  attempts[count] = encode_assignment(record, number, token, of_run.text, taking.updated_at,
    record[QUEUED] .. taking.since, origin)
  taken[2 * count - 1], taken[2 * count], taking.count = job, token, count
end

-- A popped job's runner is not told of it, so it is lost.
local function lose_popped(tx, taking, at)
  arm(tx, 'lease:' .. taking.popped[at][JOB], taking.expires)
end

-- What was handed out in that take of `holder`, as `encode_assignment` does, as far as it still runs; nothing if it has
-- taken again since; nil if it has not come as far as that take.
local function taken_before(tx, holder, number)
  local last, taken = last_take(tx, holder)
  if last and tonumber(number) < tonumber(last) then
    return {}
  end
  if last ~= number then
    return nil
  end
  local attempts = {}
  local words = split(taken)
  for at = 1, #words, 2 do
    local job, token = words[at], words[at + 1]
    local record = read_job(tx, job)
    local attempt = record[STATUS] == 'Started' and attempt_of(record[ATTEMPT])
    if attempt and attempt.token == token then
      local of_run = read_run(tx, record[RUN])
      read_given(tx, job, record)
      local updated_at = record[UPDATED_AT] or record[AT.created_at] -- when it was taken, not now
      attempts[#attempts + 1] = encode_assignment(record, attempt.number, token, of_run.text,
        '\0' .. updated_at .. '\0', '', of_run.origin)
    end
  end
  return attempts
end

-- Hand queued jobs to a runner, each with a new attempt and a lease. The secret is in the tokens of these attempts, so
-- that whoever was not told them cannot name one.
-- Arguments: 1 with spaces between: runner id, lease in ms, how many at most, bytes of them after which it is enough,
-- which take of its holder this is, a secret of its own, for how many ms the runner counts as there; 2 the runner's
-- session or '', 3 its topic, 4 the holder, whose last take is remembered, then script types.
-- Result: 'more' (there may be) | 'all', attempts as `encode_assignment` tells them. Asked for the take that was the
-- last one again: 'again', the same attempts, as far as they still run.
local function take(tx, args, o, last)
  local runner, lease, count, bytes, number, secret, there_for =
    string.match(args[o + 1], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%d+)$')
  local session, topic, holder = args[o + 2], ',"topic":' .. cjson.encode(args[o + 3]), args[o + 4]
  local again = taken_before(tx, holder, number)
  if again then
    return WORD.AGAIN, again
  end
  local types = slice(args, o + 5, last)
  for _, type in ipairs(there_for == '0' and {} or types) do
    THERE.of(tx, type)[runner] = tx.now + there_for
  end
  count = share_of(tx, runner, session, tonumber(count), types)
  local popped, more = pop(tx, count, tonumber(bytes), types, runner)
  if #popped == 0 then
    return more and WORD.MORE or WORD.ALL, {}
  end
  local taking = { -- what is the same for all its attempts
    taker = {
      runner = runner, session = session, name = session_name(runner, session), start = tx.at, seconds = tx.seconds,
    },
    secret = secret,
    expires = tx.now + lease,
    text = ' ' .. runner .. ' ' .. lease .. ' ' .. tx.at .. ' ', -- of x_attempt, between token and deadline
    session_text = ' ' .. session,
    head = EVENTS.head(tx, 'Started'), -- of an event, and how it goes on
    about = EVENTS.RUNNER .. runner,
    topic = topic,
    updated_at = '\0' .. tx.seconds .. '\0',
    since = ' ' .. tx.at,
    popped = popped,
    begun = 0, -- attempts
    count = 0, -- of those that are told
    attempts = {},
    taken = {},
  }
  attempt_each(tx, begin_attempt, taking, #popped, lose_popped)
  COUNT.move(tx, 'Dispatched>Started', taking.begun)
  redis.call('SET', tx.prefix .. 'take:' .. holder, number .. ' ' .. table.concat(taking.taken, ' '), 'PX',
    math.max(tonumber(lease), 60000))
  return more and WORD.MORE or WORD.ALL, taking.attempts
end

register('hc_take', take, nil, true)

end

-- A running attempt by its token, as attempt_of reads it, with its job and run, and `more` fields of the job as they
-- are stored; or nil and 'none' | 'stale'.
local function running(tx, job, token, more)
  local stored = redis.call('HMGET', tx.prefix .. job, 'status', 'x_run', 'x_attempt', more)
  local status, field = stored[1], stored[3]
  if not status then
    return nil, WORD.NONE
  end
  local attempt = status == 'Started' and attempt_of(field, job, stored[2])
  if not attempt or attempt.token ~= token then
    return nil, WORD.STALE
  end
  attempt.more = stored[4]
  return attempt
end

-- The results a running attempt was not told, a page of them.
-- KEYS: 1 the engine. ARGV: 1 the job, 2 token, 3 the id of the job behind which the page begins, or '' for the first.
-- Returns: {'ok', results as a JSON object by id, the id behind which the next page begins or '' on the last one} |
-- {'none'} | {'stale'} | {'missing'}: it does not depend on that job.
local function read_inputs(keys, args)
  local tx, after = {prefix = string.sub(keys[1], 1, -7), memory = false}, args[3]
  local attempt, fault = running(tx, args[1], args[2], 'x_parents')
  if not attempt then
    return {fault}
  end
  local inputs, rest, last = inputs_of(tx, args[1], attempt.more, after ~= '' and after or nil)
  if not inputs then
    return {WORD.MISSING}
  end
  return {WORD.OK, inputs, rest ~= '' and last or ''}
end

local function reported(status, attempt)
  return WORD.OK .. ' ' .. status .. ' ' .. attempt
end

-- The same as it is told the first time: with when the attempt began and ended (ms).
local function reported_now(tx, status, attempt, start)
  return WORD.OK .. ' ' .. status .. ' ' .. attempt .. ' ' .. start .. ' ' .. tx.at
end

-- Answer a report, 'finish' | 'fail', on an attempt that does not run: as the first time, if it has ended with just
-- this report; else with the fault.
local function report_again(tx, fault, how, job, token)
  local status, field, failed = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_attempt', 'x_failed'))
  local attempt = attempt_of(field)
  if how == 'finish' and status == 'Finished' and attempt and attempt.token == token then
    return reported(status, attempt.number)
  end
  local failed_token, failed_status, failed_attempt = unpack(split(failed))
  if how == 'fail' and failed_token == token then
    return reported(failed_status, failed_attempt)
  end
  return fault
end

-- An attempt that was cancelled or timed out here, whose runner may still hand in its output and result: job, run and
-- number; nil if there is none, or the time for that is up.
local function ended_here(tx, job, token)
  local late = redis.call('HGET', tx.prefix .. job, 'x_late')
  local ends, late_token, number, run = string.match(late or '', '^(%d+) (%S+) (%d+) (%S+)$')
  if late_token == token and tonumber(ends) > tx.now and redis.call('EXISTS', tx.prefix .. run) == 1 then
    return {job = job, run = run, number = number}
  end
end

-- Keep the result that the runner of an attempt which was ended here hands in, unless something has happened to the job
-- since. Its status stays. Returns what `fail` does.
local function late_result(tx, fault, job, token, result)
  local late, key = ended_here(tx, job, token), tx.prefix .. job
  local status, field = unpack(redis.call('HMGET', key, 'status', 'x_attempt'))
  local last = attempt_of(field)
  if not late or not last or last.token ~= token then
    return fault
  end
  if result ~= '' then
    redis.call('HSET', key, 'result', result, 'updated_at', tx.seconds)
    BYTES.count(tx, job)
  end
  return reported(status, late.number)
end

-- Whether a job may be tried again after this attempt, and how many of its attempts have ended in this way. Those
-- that were lost count apart from those that failed, for its author could do nothing about them.
local function tries_left(tx, attempt, is_lost)
  local key = tx.prefix .. attempt.job
  local limit, lost = unpack(redis.call('HMGET', key, is_lost and 'lost_retries' or 'retries', 'x_lost'))
  lost = tonumber(lost) or 0
  if is_lost then
    redis.call('HSET', key, 'x_lost', lost + 1)
    limit = limit or string.match(tx.coordinator, ' (%d+) %S+$')
  end
  local count = is_lost and lost + 1 or attempt.number - lost
  return count <= tonumber(limit or 0), count
end

-- An attempt has failed, or was lost: the job is tried again after a pause, or it and its run end in Error. `outcome`:
-- as it is kept, if that is neither. Returns the job's status.
local function fail_attempt(tx, attempt, reason, result, may_retry, is_lost, outcome)
  local key = tx.prefix .. attempt.job
  outcome = outcome or is_lost and 'lost' or 'failed'
  OUTCOME.keep(tx, attempt.job, attempt, outcome, tx.at, reason)
  if attempt.traced == '+' then
    OUTCOME.trace(tx, attempt.run, attempt.job, attempt, outcome, reason)
  end
  local about = is_lost and ',"lost":true' .. because(reason) or because(reason)
  redis.call('HSET', key, 'x_failure', reason, 'x_ended', tx.at, 'updated_at', tx.seconds)
  redis.call('HDEL', key, 'x_queued')
  if result then
    redis.call('HSET', key, 'result', result)
    BYTES.count(tx, attempt.job)
  end
  disarm(tx, 'lease:' .. attempt.job)
  forget_attempt(tx, attempt.job, attempt)
  local active = is_active(tx, attempt.run)
  local has_more, count = tries_left(tx, attempt, is_lost)
  if may_retry and active and has_more then
    local pause = math.floor(math.min(60, 2 ^ math.min(count - 1, 6)) * 1000 * (0.5 + tx.micros / 2000))
    redis.call('HSET', key, 'status', 'Dispatched', 'x_retry', tx.wall + pause)
    COUNT.move(tx, 'Started>Dispatched')
    arm(tx, 'retry:' .. attempt.job, tx.now + pause)
    emit_job(tx, attempt.run, attempt.job, 'Dispatched', attempt, about)
    return 'Dispatched'
  end
  redis.call('HSET', key, 'status', 'Error')
  COUNT.move(tx, 'Started>Error')
  emit_job(tx, attempt.run, attempt.job, 'Error', attempt, about)
  if active_of(tx, attempt.run) == IS.SETTLING then
    redis.call('RPUSH', tx.prefix .. 'late:' .. attempt.run, attempt.job) -- the run fails as soon as it is started
  elseif SHARING.is_open(active_of(tx, attempt.run)) then
    fail_run(tx, attempt.run, 'job ' .. job_id(attempt.job) .. ': ' .. reason, attempt.job)
  end
  return 'Error'
end

-- A running attempt that is to be finished, as BEGUN has it, and x_next of its job; or nil and 'none' | 'stale'.
local function finishing(tx, key, job, token)
  local attempt = BEGUN.claim(token)
  if attempt then
    local stored = redis.call('HMGET', key, 'status', 'x_attempt', 'x_next')
    if stored[1] == 'Started' and stored[2] == attempt.field then
      return attempt, stored[3]
    end
  end
  local fault
  attempt, fault = running(tx, job, token, 'x_next')
  if attempt then
    attempt.taker = attempt
    return attempt, attempt.more
  end
  return nil, fault
end

-- Accept a running attempt's result: store it, release the jobs that waited for it, end the run if it was the last.
-- Arguments: 1 the job, 2 token, 3 result as JSON.
-- Result: 'ok STATUS ATTEMPT', followed by when it began and ended (ms) unless that was reported before | 'none' |
-- 'stale'.
local function finish(tx, args, o)
  local job, token, result = args[o + 1], args[o + 2], args[o + 3]
  local key = tx.prefix .. job
  local attempt, following = finishing(tx, key, job, token)
  if not attempt then
    return report_again(tx, following, 'finish', job, token)
  end
  local run, number, taker = attempt.run, attempt.number, attempt.taker
  if taker.seconds == tx.seconds then -- as updated_at is already
    redis.call('HSET', key, 'status', 'Finished', 'result', result, 'x_ended', tx.at)
  else
    redis.call('HSET', key, 'status', 'Finished', 'result', result, 'x_ended', tx.at, 'updated_at', tx.seconds)
  end
  COUNT.move(tx, 'Started>Finished', 1)
  if tx.counts then
    BYTES.count(tx, job)
  end
  tx.result_of[job] = result
  if number ~= '1' then
    redis.call('HDEL', key, 'x_failure')
  end
  disarm(tx, 'lease:' .. job)
  forget_attempt(tx, job, taker)
  local memory, about = tx.memory, attempt.about -- forget_attempt has looked for it
  if memory and memory.troubled[taker.runner] then
    cheer(tx, taker.runner, true)
  end
  if about then
    emit(tx, run, (tx.heads.Finished or EVENTS.head(tx, 'Finished')) .. about, number == '1')
  else
    emit_job(tx, run, job, 'Finished', attempt)
  end
  if not tx.events[run] then -- it is no flow
    deliver(tx, run)
  end
  if attempt.traced == '+' then
    OUTCOME.trace(tx, run, job, attempt_of(attempt.field, job, run) or attempt, 'finished')
  end
  note_finished(tx, run, following)
  return reported_now(tx, 'Finished', number, taker.start)
end

-- Report that a running attempt has failed. Of one that was cancelled or timed out here just before, the result is
-- kept.
-- Arguments: 1 the job, 2 token, 3 why, 4 result as JSON or '', 5 '1' if it may be tried again, '2' if it was lost
-- with its runner rather than failed.
-- Result: as finish.
local function fail(tx, args, o)
  local job, token = args[o + 1], args[o + 2]
  local attempt, fault = running(tx, job, token, 'status')
  if not attempt then
    local before = report_again(tx, fault, 'fail', job, token)
    return before == fault and late_result(tx, fault, job, token, args[o + 4]) or before
  end
  cheer(tx, attempt.runner, false)
  deliver(tx, attempt.run)
  local result, manner = args[o + 4] ~= '' and args[o + 4] or nil, args[o + 5]
  if manner ~= '2' then
    blame(tx, attempt)
  end
  local status = fail_attempt(tx, attempt, args[o + 3], result, manner ~= '0', manner == '2')
  redis.call('HSET', tx.prefix .. job, 'x_failed', token .. ' ' .. status .. ' ' .. attempt.number)
  return reported_now(tx, status, attempt.number, attempt.start)
end

local function renew(tx, attempt)
  local expires = tx.now + attempt.lease
  if attempt.deadline ~= '0' then
    expires = math.min(expires, tonumber(attempt.deadline))
  end
  arm(tx, 'lease:' .. attempt.job, expires)
  cheer(tx, attempt.runner, false)
  deliver(tx, attempt.run)
end

-- Renew a running attempt's lease.
-- Arguments: 1 the job, 2 token.
-- Result: 'ok LEASE' (ms) | 'none' | 'stale'.
local function heartbeat(tx, args, o)
  local attempt, fault = running(tx, args[o + 1], args[o + 2], 'status')
  if not attempt then
    return fault
  end
  renew(tx, attempt)
  return WORD.OK .. ' ' .. attempt.lease
end

do -- what is local to this block takes no place among the 200 locals a chunk may have

local LOG_BYTES = 16777216 -- of log lines kept of one run
local TAIL_BYTES = 16384 -- of log lines kept of each job, whatever becomes of its run's
local DROPPED_AT_ONCE = 100 -- reports of log lines dropped for one that comes

-- Keep the newest log lines of a job, a list of their reports as JSON. The lines are the arguments from `first` to
-- `last`.
local function keep_tail(tx, attempt, stream, args, first, last)
  local lines, size = {}, 0
  for at = last, first, -1 do
    local line = args[at]
    if size + #line > TAIL_BYTES then
      if size == 0 then -- the end of a single one, from the first byte of a character on
        lines[1] = string.gsub(string.sub(line, -TAIL_BYTES), '^[\128-\191]+', '')
      end
      break
    end
    table.insert(lines, 1, line)
    size = size + #line
  end
  if #lines == 0 then
    return
  end
  local tail, kept = tx.prefix .. 'tail:' .. attempt.job, 0
  redis.call('RPUSH', tail, '{"at":' .. tx.at .. ',"attempt":' .. attempt.number .. ',"stream":"' .. stream
    .. '","lines":' .. cjson.encode(lines) .. '}')
  local reports = redis.call('LRANGE', tail, 0, -1)
  for at = #reports, 1, -1 do
    kept = kept + #reports[at]
    if kept > 2 * TAIL_BYTES and at < #reports then
      redis.call('LTRIM', tail, at, -1)
      break
    end
  end
end

-- Append a log to the events of a flow, and drop the oldest ones for it.
local function emit_log(tx, flow, members)
  local id = job_id(flow)
  local events, logs = tx.prefix .. 'events:' .. id, tx.prefix .. 'lines:' .. id
  EVENTS.write(tx, flow)
  local entry = redis.call('XADD', events, 'NOMKSTREAM', '*', 'l', '')
  if not entry then
    return
  end
  local it = EVENTS.of(tx, flow)
  it.logs = (it.logs or 0) + 1
  local event = '"kind":"log","at":' .. tx.at .. members
  redis.call('XADD', logs, entry, 'e', event)
  local bytes, count = redis.call('HINCRBY', tx.prefix .. flow, 'x_logged', #event), redis.call('XLEN', logs)
  for _ = 1, DROPPED_AT_ONCE do
    if bytes <= LOG_BYTES and count <= tonumber(LOGS_KEPT) then
      break
    end
    local oldest = redis.call('XRANGE', logs, '-', '+', 'COUNT', 1)[1]
    if oldest[1] == entry then -- what is too much was logged by an earlier version
      redis.call('HSET', tx.prefix .. flow, 'x_logged', #event)
      break
    end
    redis.call('XDEL', logs, oldest[1])
    redis.call('XDEL', events, oldest[1])
    bytes, count = redis.call('HINCRBY', tx.prefix .. flow, 'x_logged', -#oldest[2][2]), count - 1
  end
end

-- Append log lines of a running attempt, or of one that was cancelled or timed out here just before, to the events of
-- its flow, of which the oldest logs are dropped for them, or the logs of its message, as long as these are below their
-- limit; to what is kept of its job in any case. A heartbeat too.
-- Arguments: 1 the job, 2 token, 3 stream, 4 lines as JSON, then the lines.
-- Result: 'ok' | 'over' (the attempt does not run any more), 1 if the lines were kept or 0 | 'none' | 'stale'.
local function append_log(tx, args, o, last)
  local attempt, fault = running(tx, args[o + 1], args[o + 2], 'status')
  local word = WORD.OK
  if attempt then
    renew(tx, attempt)
  else
    word, attempt = WORD.OVER, fault == WORD.STALE and ended_here(tx, args[o + 1], args[o + 2])
    if not attempt then
      return fault
    end
  end
  keep_tail(tx, attempt, args[o + 3], args, o + 5, last)
  local message = string.match(attempt.run, '^message:(.*)$')
  if not message then
    emit_log(tx, attempt.run, ',"job_id":' .. job_id(attempt.job) .. ',"attempt":' .. attempt.number .. ',"stream":"'
      .. args[o + 3] .. '","lines":' .. args[o + 4])
    return word, 1
  end
  if redis.call('HINCRBY', tx.prefix .. attempt.run, 'x_logged', #args[o + 4]) > LOG_BYTES then
    return word, 0
  end
  if last > o + 4 then
    local logs = tx.prefix .. 'logs:' .. message
    call_each('RPUSH', logs, slice(args, o + 5, last))
    redis.call('LTRIM', logs, '-' .. LOGS_KEPT, -1)
  end
  return word, 1
end

register('hc_log', append_log, GROWS)

end

-- An attempt never reached its runner: it does not count, and its job is the next of its queue. If that has happened
-- too often in this run, something is wrong with the job: it fails.
local function give_back(tx, job)
  local key = tx.prefix .. job
  local type, field, run = unpack(redis.call('HMGET', key, 'script_type', 'x_attempt', 'x_run'))
  local active = is_active(tx, run)
  local attempt = attempt_of(field)
  local returned, most = redis.call('HINCRBY', key, 'x_returned', 1), 20 -- times
  if active and attempt and returned >= most then
    attempt.job, attempt.run = job, run
    local reason = 'given back ' .. returned .. ' times: it never reached the runner that took it'
    fail_attempt(tx, attempt, reason, nil, false)
    return
  end
  local status = active and 'Dispatched' or 'WaitingForPrerequisites'
  disarm(tx, 'lease:' .. job)
  forget_attempt(tx, job, attempt_of(field))
  redis.call('HSET', key, 'x_attempt', string.match(field, '^%d+') - 1, 'status', status, 'updated_at', tx.seconds)
  COUNT.job(tx, 'Started', status)
  emit_job(tx, run, job, status)
  if active then
    redis.call('HSET', key, 'x_queued', tx.at)
    redis.call('RPUSH', tx.prefix .. 'queue:' .. string.lower(type), job)
    announce(tx, EFFECT.READY .. type)
  end
end

-- Give a take back whose attempts nobody will be told of.
-- Arguments: 1 who took, 2 which of its takes.
-- Result: 'ok'.
local function untake(tx, args, o)
  local number, taken = last_take(tx, args[o + 1])
  if number == args[o + 2] then
    local words = split(taken)
    for at = #words - 1, 1, -2 do
      local job, token = words[at], words[at + 1]
      if running(tx, job, token, 'status') then
        give_back(tx, job)
      end
    end
    redis.call('DEL', tx.prefix .. 'take:' .. args[o + 1])
  end
  return WORD.OK
end

-- Learn of the attempts that began before this server did, so many of them and once in a call, however many are
-- joined in that. Returns whether all are known now.
function OUTCOME.look_back(tx, memory)
  if memory.walked ~= true and not tx.has_looked_back then
    tx.has_looked_back = true
    local cursor, found = unpack(redis.call('ZSCAN', tx.prefix .. 'timers', memory.walked or '0', 'COUNT', '500'))
    for at = 1, #found, 2 do
      local job = string.match(found[at], '^lease:(.*)$')
      local attempt = job and attempt_of(redis.call('HGET', tx.prefix .. job, 'x_attempt'))
      if attempt then
        remember_attempt(tx, job, session_name(attempt.runner, attempt.session), attempt.token)
        if not string.match(attempt.token, NAMES_JOB) then
          memory.unnamed[attempt.token] = job
        end
      end
    end
    memory.walked = cursor == '0' or cursor
  end
  return memory.walked == true
end

-- Whether a runner has a running attempt with this token, in that session of its own. One that was handed out in no
-- session is its, too.
local function has_attempt(tx, memory, runner, session, token)
  local caller, id = string.match(token, NAMES_JOB)
  local job = caller and 'job:' .. caller .. ':' .. id or memory.unnamed[token]
  local attempt = job and running(tx, job, token, 'status')
  return attempt and attempt.runner == runner
    and (attempt.session == session or attempt.session == '' or attempt.session == POLLING)
end

-- A runner has (re)connected and says which attempts it works on. Those of its session, if it has one, that it does not
-- name never reached it. What this costs depends on that runner's attempts, not on how many there are.
-- Arguments: 1 runner id, 2 its session or '', then tokens.
-- Result: 'ok', those of the tokens that are no running attempt of its | 'more': nothing is done yet, ask again.
local function resume(tx, args, o, last)
  local runner, session = args[o + 1], args[o + 2]
  local memory, named, lost = memory_of(tx), {}, {}
  set_timers(tx)
  if not OUTCOME.look_back(tx, memory) then
    return WORD.MORE
  end
  for at = o + 3, last do
    local token = args[at]
    if not named[token] then
      named[token] = true
      if not has_attempt(tx, memory, runner, session, token) then
        lost[#lost + 1] = token
      end
    end
  end
  local begun = {}
  for job, token in pairs(session ~= '' and memory.sessions[runner .. ' ' .. session] or {}) do
    begun[#begun + 1] = {job, token}
  end
  for _, it in ipairs(begun) do -- giving back forgets them
    local job, token = unpack(it)
    if not named[token] then
      if running(tx, job, token, 'status') then
        give_back(tx, job)
      else
        forget_attempt(tx, job, {runner = runner, session = session})
      end
    end
  end
  return WORD.OK, lost
end

redis.register_function{function_name = 'hc_inputs', callback = read_inputs, flags = {'no-writes'}}
register('hc_untake', untake)
register('hc_finish', finish)
register('hc_fail', fail)
register('hc_heartbeat', heartbeat, nil, true)
register('hc_resume', resume)
register('hc_runners_there', runners_there)
