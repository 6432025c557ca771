-- Attempts: taken, kept alive, finished, failed, lost.

local STALE_LIMIT = 1000 -- stale queue entries dropped in one call
local LOG_BYTES = 16777216 -- of log lines kept of one run

-- What is read of a job that may be taken: what the engine needs, and what its runner gets, in its order.
local READ = {'status', 'x_run', 'x_queued', 'x_attempt', 'x_parents'}
local ASSIGNED = #READ + 1
for i = 1, #JOB_ASSIGNED do -- there is no ipairs yet while the library is loaded
  READ[#READ + 1] = JOB_ASSIGNED[i]
end
local AT = {}
for at = 1, #READ do
  AT[READ[at]] = at
end
local STATUS, RUN, QUEUED, ATTEMPT, PARENTS, TYPE, TIMEOUT, ENV_VARS, RESULT, SCRIPT = AT.status, AT.x_run, AT.x_queued,
  AT.x_attempt, AT.x_parents, AT.script_type, AT.timeout, AT.env_vars, AT.result, AT.script

local function read_job(tx, job)
  local record = redis.call('HMGET', tx.prefix .. job, unpack(READ))
  if record[STATUS] then
    for _, name in ipairs(JOB_TEXTS) do
      record[AT[name]] = record[AT[name]] and without_nul(record[AT[name]])
    end
    for _, name in ipairs(JOB_OPTIONAL) do
      record[AT[name]] = record[AT[name]] or JOB_DEFAULTS[name] or NOT_GIVEN
    end
  end
  return record
end

-- The results of the jobs a job depends on, `parents`, as a JSON object by id.
local function inputs_of(tx, job, parents)
  if not parents then
    return '{}'
  end
  local caller, inputs = tx.prefix .. string.match(job, '^job:%d+:'), {}
  for id in string.gmatch(parents, '%d+') do
    inputs[#inputs + 1] = '"' .. id .. '":' .. (redis.call('HGET', caller .. id, 'result') or '{}')
  end
  return '{' .. table.concat(inputs, ',') .. '}'
end

-- What the runner of an attempt gets: attempt, token, job, the run's env_vars, inputs, updated_at and the members that
-- JOB_ASSIGNED names; joined by NUL, which only the last of them, the script, may contain. One string, for each item of
-- a table costs the server much.
local function encode_assignment(job, record, attempt, token, env_vars, inputs, updated_at)
  return attempt .. '\0' .. token .. '\0' .. job .. '\0' .. env_vars .. '\0' .. inputs .. '\0' .. updated_at .. '\0'
    .. table.concat(record, '\0', ASSIGNED)
end

-- The queued jobs a runner gets, up to `count`, from the queues of `types` in turn, until they have so many bytes.
-- Returns them as {job, record, the run's env_vars, inputs}, and whether there may be more. One whose type has changed
-- since is moved to its queue; one that is in its queue twice, because it was queued again before its first entry was
-- popped, is popped once.
local function pop(tx, count, bytes, types)
  local popped, stale, runs, seen, moved = {}, 0, {}, {}, {}
  for _, type in ipairs(types) do
    local queue = tx.prefix .. 'queue:' .. string.lower(type)
    while #popped < count do
      local entries = redis.call('RPOP', queue, math.min(count - #popped, 100))
      if not entries then
        break
      end
      for i, job in ipairs(entries) do
        if bytes <= 0 or stale > STALE_LIMIT then
          for back = #entries, i, -1 do
            redis.call('RPUSH', queue, entries[back])
          end
          enqueue(tx, moved)
          return popped, true
        end
        local record = read_job(tx, job)
        local run = record[RUN]
        local is_queued = run and record[STATUS] == 'Dispatched' and record[QUEUED] and not seen[job]
        if is_queued and not runs[run] then
          runs[run] = redis.call('HMGET', tx.prefix .. run, 'x_active', 'env_vars')
        end
        if is_queued and record[TYPE] ~= type then
          add(moved, record[TYPE], job)
        elseif is_queued and runs[run][1] == '1' then
          seen[job] = true
          local env_vars = runs[run][2] or '{}'
          local inputs = inputs_of(tx, job, record[PARENTS])
          popped[#popped + 1] = {job, record, env_vars, inputs}
          bytes = bytes - #inputs - #env_vars - #record[SCRIPT] - #record[ENV_VARS] - #record[RESULT]
        else
          stale = stale + 1
        end
      end
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

-- The runner of a message's job gave a sign of life.
local function deliver(tx, run)
  if string.sub(run, 1, 8) == 'message:' and redis.call('HGET', tx.prefix .. run, 'transport_status') == 'Sent' then
    redis.call('HSET', tx.prefix .. run, 'transport_status', 'Delivered')
  end
end

-- Begin an attempt at a popped job. `topic`: as a member of its event. Returns what its runner is told; see
-- `encode_assignment`.
local function begin_attempt(tx, popped, token, runner, session, topic, lease)
  local job, record, env_vars, inputs = unpack(popped)
  local run, number = record[RUN], '1'
  if record[ATTEMPT] then
    number = tostring(string.match(record[ATTEMPT], '^%d+') + 1)
  end
  local expires, deadline = tx.now + lease, '0'
  if record[TIMEOUT] ~= '0' then
    local ends = tx.now + record[TIMEOUT] * 1000
    expires, deadline = math.min(expires, ends), string.format('%.0f', ends)
  end
  local attempt = number .. ' ' .. token .. ' ' .. runner .. ' ' .. lease .. ' ' .. tx.at .. ' ' .. deadline .. ' '
    .. session
  redis.call('HSET', tx.prefix .. job, 'status', 'Started', 'updated_at', tx.seconds, 'x_attempt', attempt)
  arm(tx, 'lease:' .. job, expires)
  if string.sub(run, 1, 8) == 'message:' then
    acknowledge(tx, run)
  end
  emit_job(tx, run, job, 'Started', {number = number, runner = runner}, topic)
  return encode_assignment(job, record, number, token, env_vars, inputs, tx.seconds)
end

-- What was handed out in that take of `holder`, as `encode_assignment` does, as far as it still runs; nil if that was
-- not its last take.
local function taken_before(tx, holder, number)
  local last, taken = unpack(redis.call('HMGET', tx.prefix .. 'take:' .. holder, 'number', 'taken'))
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
      local env_vars = redis.call('HGET', tx.prefix .. record[RUN], 'env_vars') or '{}'
      local inputs = inputs_of(tx, job, record[PARENTS])
      local updated_at = redis.call('HGET', tx.prefix .. job, 'updated_at') -- when it was taken, not now
      attempts[#attempts + 1] = encode_assignment(job, record, attempt.number, token, env_vars, inputs, updated_at)
    end
  end
  return attempts
end

-- Hand queued jobs to a runner, each with a new attempt and a lease.
-- Arguments: 1 runner id, 2 its session or '', 3 its topic, 4 lease in ms, 5 how many at most, 6 bytes of them after
-- which it is enough, 7 who asks (its last take is remembered), 8 which of its takes this is, then script types.
-- Result: 'more' (there may be) | 'all', attempts as `encode_assignment` tells them. Asked for the take that was the
-- last one again: 'again', the same attempts, as far as they still run.
local function take(tx, args, o, last)
  local runner, session, lease = args[o + 1], args[o + 2], args[o + 4]
  local topic = ',"topic":' .. cjson.encode(args[o + 3])
  local count, bytes, holder, number = tonumber(args[o + 5]), tonumber(args[o + 6]), args[o + 7], args[o + 8]
  local again = taken_before(tx, holder, number)
  if again then
    return WORD.AGAIN, again
  end
  local popped, more = pop(tx, count, bytes, slice(args, o + 9, last))
  if #popped == 0 then
    return more and WORD.MORE or WORD.ALL, {}
  end
  local token = redis.call('HINCRBY', tx.engine, 'tokens', #popped) - #popped
  local attempts, taken = {}, {}
  for i, item in ipairs(popped) do
    local name = tx.at .. '-' .. (token + i)
    attempts[i] = begin_attempt(tx, item, name, runner, session, topic, lease)
    taken[i] = item[1] .. ' ' .. name
  end
  local remembered = tx.prefix .. 'take:' .. holder
  redis.call('HSET', remembered, 'number', number, 'taken', table.concat(taken, ' '))
  redis.call('PEXPIRE', remembered, math.max(tonumber(lease), 60000))
  return more and WORD.MORE or WORD.ALL, attempts
end

-- A running attempt by its token, as attempt_of reads it, with its job and run, and `more` fields of the job as they
-- are stored; or nil and 'none' | 'stale'.
local function running(tx, job, token, more)
  local status, run, field, value = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_run', 'x_attempt', more))
  if not status then
    return nil, WORD.NONE
  end
  local attempt = status == 'Started' and attempt_of(field)
  if not attempt or attempt.token ~= token then
    return nil, WORD.STALE
  end
  attempt.job, attempt.run, attempt.more = job, run, value
  return attempt
end

local function reported(status, attempt)
  return WORD.OK .. ' ' .. status .. ' ' .. attempt
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

-- An attempt has failed: the job is tried again after a pause, or it and its run end in Error.
-- Returns the job's status.
local function fail_attempt(tx, attempt, reason, result, may_retry)
  local key, number = tx.prefix .. attempt.job, tonumber(attempt.number)
  redis.call('HSET', key, 'x_failure', reason, 'x_ended', tx.at, 'updated_at', tx.seconds)
  redis.call('HDEL', key, 'x_queued')
  if result then
    redis.call('HSET', key, 'result', result)
  end
  disarm(tx, 'lease:' .. attempt.job)
  local active = is_active(tx, attempt.run)
  if may_retry and active and number <= tonumber(attempt.more) then
    local pause = math.min(60, 2 ^ math.min(number - 1, 6)) * 1000 * (0.5 + tx.jitter / 2)
    local at = tx.now + math.floor(pause)
    redis.call('HSET', key, 'status', 'Dispatched', 'x_retry', at)
    arm(tx, 'retry:' .. attempt.job, at)
    emit_job(tx, attempt.run, attempt.job, 'Dispatched', attempt, because(reason))
    return 'Dispatched'
  end
  redis.call('HSET', key, 'status', 'Error')
  emit_job(tx, attempt.run, attempt.job, 'Error', attempt, because(reason))
  if active then
    fail_run(tx, attempt.run, 'job ' .. job_id(attempt.job) .. ': ' .. reason, attempt.job)
  end
  return 'Error'
end

-- Accept a running attempt's result: store it, release the jobs that waited for it, end the run if it was the last.
-- Arguments: 1 the job, 2 token, 3 result as JSON.
-- Result: 'ok STATUS ATTEMPT' | 'none' | 'stale'.
local function finish(tx, args, o)
  local job, token, result = args[o + 1], args[o + 2], args[o + 3]
  local attempt, fault = running(tx, job, token, 'x_next')
  if not attempt then
    return report_again(tx, fault, 'finish', job, token)
  end
  local key = tx.prefix .. job
  redis.call('HSET', key, 'status', 'Finished', 'result', result, 'x_ended', tx.at, 'updated_at', tx.seconds)
  tx.result_of[job] = result
  if attempt.number ~= '1' then
    redis.call('HDEL', key, 'x_failure')
  end
  disarm(tx, 'lease:' .. job)
  deliver(tx, attempt.run)
  emit_job(tx, attempt.run, job, 'Finished', attempt)
  note_finished(tx, attempt.run, attempt.more)
  return reported('Finished', attempt.number)
end

-- Report that a running attempt has failed.
-- Arguments: 1 the job, 2 token, 3 why, 4 result as JSON or '', 5 '1' if it may be tried again.
-- Result: as finish.
local function fail(tx, args, o)
  local job, token = args[o + 1], args[o + 2]
  local attempt, fault = running(tx, job, token, 'retries')
  if not attempt then
    return report_again(tx, fault, 'fail', job, token)
  end
  deliver(tx, attempt.run)
  local status = fail_attempt(tx, attempt, args[o + 3], args[o + 4] ~= '' and args[o + 4] or nil, args[o + 5] == '1')
  redis.call('HSET', tx.prefix .. job, 'x_failed', token .. ' ' .. status .. ' ' .. attempt.number)
  return reported(status, attempt.number)
end

local function renew(tx, attempt)
  local expires = tx.now + attempt.lease
  if attempt.deadline ~= '0' then
    expires = math.min(expires, tonumber(attempt.deadline))
  end
  arm(tx, 'lease:' .. attempt.job, expires)
  deliver(tx, attempt.run)
end

-- Renew a running attempt's lease.
-- Arguments: 1 the job, 2 token.
-- Result: 'ok LEASE' (ms) | 'none' | 'stale'.
local function heartbeat(tx, args, o)
  local attempt, fault = running(tx, args[o + 1], args[o + 2], 'retries')
  if not attempt then
    return fault
  end
  renew(tx, attempt)
  return WORD.OK .. ' ' .. attempt.lease
end

-- Append log lines of a running attempt to the events of its flow, or the logs of its message, as long as the run's are
-- below their limit; a heartbeat too.
-- Arguments: 1 the job, 2 token, 3 stream, 4 lines as JSON, then the lines.
-- Result: 'ok', 1 if the lines were kept or 0 | 'none' | 'stale'.
local function append_log(tx, args, o, last)
  local attempt, fault = running(tx, args[o + 1], args[o + 2], 'retries')
  if not attempt then
    return fault
  end
  renew(tx, attempt)
  if redis.call('HINCRBY', tx.prefix .. attempt.run, 'x_logged', #args[o + 4]) > LOG_BYTES then
    return WORD.OK, 0
  end
  emit(tx, attempt.run, 'log', ',"job_id":' .. job_id(attempt.job) .. ',"attempt":' .. attempt.number .. ',"stream":"'
    .. args[o + 3] .. '","lines":' .. args[o + 4])
  local message = string.match(attempt.run, '^message:(.*)$')
  if message and last > o + 4 then
    local logs = tx.prefix .. 'logs:' .. message
    call_each('RPUSH', logs, slice(args, o + 5, last))
    redis.call('LTRIM', logs, '-' .. EVENTS_KEPT, -1)
  end
  return WORD.OK, 1
end

-- An attempt never reached its runner: it does not count, and its job is the next of its queue.
local function give_back(tx, job)
  local key = tx.prefix .. job
  local type, field, run = unpack(redis.call('HMGET', key, 'script_type', 'x_attempt', 'x_run'))
  local active = is_active(tx, run)
  local status = active and 'Dispatched' or 'WaitingForPrerequisites'
  disarm(tx, 'lease:' .. job)
  redis.call('HSET', key, 'x_attempt', string.match(field, '^%d+') - 1, 'status', status, 'updated_at', tx.seconds)
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
  local remembered = tx.prefix .. 'take:' .. args[o + 1]
  local number, taken = unpack(redis.call('HMGET', remembered, 'number', 'taken'))
  if number == args[o + 2] then
    local words = split(taken)
    for at = #words - 1, 1, -2 do
      local job, token = words[at], words[at + 1]
      if running(tx, job, token, 'status') then
        give_back(tx, job)
      end
    end
    redis.call('DEL', remembered)
  end
  return WORD.OK
end

-- A runner has (re)connected and says which attempts it works on. Those of its session, if it has one, that it does not
-- name never reached it.
-- Arguments: 1 runner id, 2 its session or '', then tokens.
-- Result: 'ok', those of the tokens that are not valid any more.
local function resume(tx, args, o, last)
  local runner, session = args[o + 1], args[o + 2]
  local lost = {}
  set_timers(tx)
  for i = o + 3, last do
    lost[args[i]] = true
  end
  for _, name in ipairs(redis.call('ZRANGE', tx.prefix .. 'timers', 0, -1)) do
    local job = string.match(name, '^lease:(.*)$')
    if job then
      local attempt = attempt_of(redis.call('HGET', tx.prefix .. job, 'x_attempt'))
      if attempt and lost[attempt.token] then
        lost[attempt.token] = nil
      elseif attempt and session ~= '' and attempt.runner == runner and attempt.session == session then
        give_back(tx, job)
      end
    end
  end
  local tokens = {}
  for token in pairs(lost) do
    tokens[#tokens + 1] = token
  end
  return WORD.OK, tokens
end

register('hc_take', take)
register('hc_untake', untake)
register('hc_finish', finish)
register('hc_fail', fail)
register('hc_heartbeat', heartbeat)
register('hc_log', append_log)
register('hc_resume', resume)
