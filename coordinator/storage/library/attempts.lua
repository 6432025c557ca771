-- Attempts: taken, kept alive, finished, failed, lost.

local STALE_LIMIT = 1000 -- stale queue entries dropped in one call
local LOG_BYTES = 16777216 -- of log lines kept of one run

-- What a runner is told of a job, in this order; see take in subscriptions.py. Then what the engine needs.
local TOLD = {'id', 'caller_id', 'context_id', 'script', 'script_type', 'timeout', 'retries', 'env_vars', 'prerequisites',
  'depends', 'created_at', 'updated_at', 'result', 'status', 'x_run', 'x_attempt', 'x_queued', 'x_token', 'x_parents',
  'x_ended'}
local SCRIPT, TYPE, TIMEOUT, ENV_VARS, UPDATED, RESULT, STATUS = 4, 5, 6, 8, 12, 13, 14
local RUN, ATTEMPT, QUEUED, TOKEN, PARENTS, ENDED = 15, 16, 17, 18, 19, 20

local function read_job(tx, job)
  return redis.call('HMGET', tx.prefix .. job, unpack(TOLD))
end

-- The results of the jobs a job depends on, `parents`: {id, result, …}, and how many bytes they are.
local function inputs_of(tx, job, parents)
  local inputs, bytes = {}, 0
  if parents then
    local caller = tx.prefix .. string.match(job, '^job:%d+:')
    for _, id in ipairs(split(parents)) do
      local result = redis.call('HGET', caller .. id, 'result') or '{}'
      inputs[#inputs + 1] = id
      inputs[#inputs + 1] = result
      bytes = bytes + #result
    end
  end
  return inputs, bytes
end

-- The queued jobs a runner gets, up to `count`, from the queues of `types` in turn, until they have so many bytes. Returns
-- them as {job, record, the run's env_vars, inputs}, and whether there may be more. One whose type has changed since is
-- moved to its queue; one that is in its queue twice, because it was queued again before its first entry was popped, is
-- popped once.
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
          local inputs, size = inputs_of(tx, job, record[PARENTS])
          popped[#popped + 1] = {job, record, env_vars, inputs}
          bytes = bytes - size - #env_vars - #record[SCRIPT] - #record[ENV_VARS] - #record[RESULT]
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

-- Begin an attempt at a popped job. Returns what its runner is told: {attempt, token, the run's env_vars, the record,
-- inputs}.
local function begin_attempt(tx, popped, token, runner, session, topic, lease)
  local job, record, env_vars, inputs = unpack(popped)
  local run, attempt = record[RUN], (record[ATTEMPT] or 0) + 1
  local expires, timeout, deadline = tx.now + lease, record[TIMEOUT], nil
  if timeout ~= '0' then
    deadline = tx.now + timeout * 1000
    expires = math.min(expires, deadline)
  end
  local fields = {'status', 'Started', 'updated_at', tx.seconds, 'x_attempt', attempt, 'x_token', token, 'x_runner', runner,
    'x_lease', lease, 'x_started', tx.at}
  if session ~= '' then
    put(fields, 'x_session', session)
  end
  if deadline then
    put(fields, 'x_deadline', deadline)
  end
  redis.call('HSET', tx.prefix .. job, unpack(fields))
  if record[ENDED] then
    redis.call('HDEL', tx.prefix .. job, 'x_ended')
  end
  arm(tx, 'lease:' .. job, expires)
  if string.sub(run, 1, 8) == 'message:' then
    acknowledge(tx, run)
  end
  emit(tx, run, 'job', 's', 'Started', 'j', record[1], 'a', attempt, 'r', runner, 'p', topic)
  record[STATUS], record[UPDATED] = 'Started', tx.seconds
  return {attempt, token, env_vars, slice(record, 1, STATUS), inputs}
end

-- What was handed out in that take of `holder`, as begin_attempt returned it, as far as it still runs; nil if that was not
-- its last take.
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
    if record[STATUS] == 'Started' and record[TOKEN] == token then
      local env_vars = redis.call('HGET', tx.prefix .. record[RUN], 'env_vars') or '{}'
      local inputs = inputs_of(tx, job, record[PARENTS])
      attempts[#attempts + 1] = {tonumber(record[ATTEMPT]), token, env_vars, slice(record, 1, STATUS), inputs}
    end
  end
  return attempts
end

-- Hand queued jobs to a runner, each with a new attempt and a lease.
-- Arguments: 1 runner id, 2 its session or '', 3 its topic, 4 lease in ms, 5 how many at most, 6 bytes of them after which
-- it is enough, 7 who asks (its last take is remembered), 8 which of its takes this is, then script types.
-- Result: 'more' (there may be) | 'all', attempts as begin_attempt returns them. Asked for the take that was the last one
-- again: 'again', the same attempts, as far as they still run.
local function take(tx, args, o, last)
  local runner, session, topic, lease = args[o + 1], args[o + 2], args[o + 3], tonumber(args[o + 4])
  local count, bytes, holder, number = tonumber(args[o + 5]), tonumber(args[o + 6]), args[o + 7], args[o + 8]
  local again = taken_before(tx, holder, number)
  if again then
    return 'again', again
  end
  local popped, more = pop(tx, count, bytes, slice(args, o + 9, last))
  if #popped == 0 then
    return more and 'more' or 'all', {}
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
  redis.call('PEXPIRE', remembered, math.max(lease, 60000))
  return more and 'more' or 'all', attempts
end

-- A running attempt by its token: what is always wanted of it, and `more` fields as they are stored; or nil and 'none' |
-- 'stale', and the end last reported of the job.
local function running(tx, job, token, ...)
  local key = tx.prefix .. job
  local status, current, run, attempt, runner, first, second, third =
    unpack(redis.call('HMGET', key, 'status', 'x_token', 'x_run', 'x_attempt', 'x_runner', ...))
  if not status then
    return nil, 'none'
  end
  if status == 'Started' and current == token then
    return {job = job, run = run, attempt = tonumber(attempt), runner = runner, token = token, more = {first, second, third}}
  end
  return nil, 'stale', redis.call('HGET', key, 'x_last')
end

-- A running attempt with its retries, lease and deadline (ms).
local function running_timed(tx, job, token)
  local attempt, fault, last = running(tx, job, token, 'retries', 'x_lease', 'x_deadline')
  if attempt then
    attempt.retries, attempt.lease, attempt.deadline =
      tonumber(attempt.more[1]), tonumber(attempt.more[2]), tonumber(attempt.more[3])
  end
  return attempt, fault, last
end

-- Answer a report on an attempt that does not run: as the first time, if it has ended with just this report.
-- `how`: 'finish' or 'fail'; `last`: the end last reported.
local function report_again(tx, fault, last, how, token)
  local was, of, status, attempt = unpack(split(last or ''))
  if was == how and of == token then
    return 'ok', status, tonumber(attempt)
  end
  return fault
end

-- An attempt has failed: the job is tried again after a pause, or it and its run end in Error.
-- Returns the job's status.
local function fail_attempt(tx, attempt, reason, result, may_retry)
  local key = tx.prefix .. attempt.job
  redis.call('HSET', key, 'x_failure', reason, 'x_ended', tx.at, 'updated_at', tx.seconds)
  redis.call('HDEL', key, 'x_token', 'x_deadline', 'x_session', 'x_queued')
  if result then
    redis.call('HSET', key, 'result', result)
  end
  disarm(tx, 'lease:' .. attempt.job)
  local active = is_active(tx, attempt.run)
  local id = job_id(attempt.job)
  if may_retry and active and attempt.attempt <= attempt.retries then
    local pause = math.min(60, 2 ^ math.min(attempt.attempt - 1, 6)) * 1000 * (0.5 + tx.jitter / 2)
    local at = tx.now + math.floor(pause)
    redis.call('HSET', key, 'status', 'Dispatched', 'x_retry', at)
    arm(tx, 'retry:' .. attempt.job, at)
    emit(tx, attempt.run, 'job', 's', 'Dispatched', 'j', id, 'a', attempt.attempt, 'r', attempt.runner, 'w', reason)
    return 'Dispatched'
  end
  redis.call('HSET', key, 'status', 'Error')
  emit(tx, attempt.run, 'job', 's', 'Error', 'j', id, 'a', attempt.attempt, 'r', attempt.runner, 'w', reason)
  if active then
    fail_run(tx, attempt.run, 'job ' .. id .. ': ' .. reason, attempt.job)
  end
  return 'Error'
end

-- Accept a running attempt's result: store it, release the jobs that waited for it, end the run if it was the last.
-- Arguments: 1 the job, 2 token, 3 result as JSON.
-- Result: 'ok', status, attempt | 'none' | 'stale'.
local function finish(tx, args, o)
  local attempt, fault, last = running(tx, args[o + 1], args[o + 2], 'x_next')
  if not attempt then
    return report_again(tx, fault, last, 'finish', args[o + 2])
  end
  local key = tx.prefix .. attempt.job
  redis.call('HSET', key, 'status', 'Finished', 'result', args[o + 3], 'x_ended', tx.at, 'updated_at', tx.seconds,
    'x_last', 'finish ' .. attempt.token .. ' Finished ' .. attempt.attempt)
  if attempt.attempt > 1 then
    redis.call('HDEL', key, 'x_failure')
  end
  disarm(tx, 'lease:' .. attempt.job)
  deliver(tx, attempt.run)
  emit(tx, attempt.run, 'job', 's', 'Finished', 'j', job_id(attempt.job), 'a', attempt.attempt, 'r', attempt.runner)
  count_off(tx, attempt.run, attempt.more[1])
  return 'ok', 'Finished', attempt.attempt
end

-- Report that a running attempt has failed.
-- Arguments: 1 the job, 2 token, 3 why, 4 result as JSON or '', 5 '1' if it may be tried again.
-- Result: 'ok', status, attempt | 'none' | 'stale'.
local function fail(tx, args, o)
  local attempt, fault, last = running_timed(tx, args[o + 1], args[o + 2])
  if not attempt then
    return report_again(tx, fault, last, 'fail', args[o + 2])
  end
  deliver(tx, attempt.run)
  local status = fail_attempt(tx, attempt, args[o + 3], args[o + 4] ~= '' and args[o + 4] or nil, args[o + 5] == '1')
  redis.call('HSET', tx.prefix .. attempt.job, 'x_last', table.concat({'fail', attempt.token, status, attempt.attempt}, ' '))
  return 'ok', status, attempt.attempt
end

local function renew(tx, attempt)
  local expires = tx.now + attempt.lease
  if attempt.deadline then
    expires = math.min(expires, attempt.deadline)
  end
  arm(tx, 'lease:' .. attempt.job, expires)
  deliver(tx, attempt.run)
end

-- Renew a running attempt's lease.
-- Arguments: 1 the job, 2 token.
-- Result: 'ok', lease in ms | 'none' | 'stale'.
local function heartbeat(tx, args, o)
  local attempt, fault = running_timed(tx, args[o + 1], args[o + 2])
  if not attempt then
    return fault
  end
  renew(tx, attempt)
  return 'ok', attempt.lease
end

-- Append log lines of a running attempt to the events of its flow, or the logs of its message, as long as the run's are
-- below their limit; a heartbeat too.
-- Arguments: 1 the job, 2 token, 3 stream, 4 lines as JSON, then the lines.
-- Result: 'ok', 1 if the lines were kept or 0 | 'none' | 'stale'.
local function append_log(tx, args, o, last)
  local attempt, fault = running_timed(tx, args[o + 1], args[o + 2])
  if not attempt then
    return fault
  end
  renew(tx, attempt)
  if redis.call('HINCRBY', tx.prefix .. attempt.run, 'x_logged', #args[o + 4]) > LOG_BYTES then
    return 'ok', 0
  end
  emit(tx, attempt.run, 'log', 'j', job_id(attempt.job), 'a', attempt.attempt, 'o', args[o + 3], 'l', args[o + 4])
  local message = string.match(attempt.run, '^message:(.*)$')
  if message and last > o + 4 then
    local logs = tx.prefix .. 'logs:' .. message
    call_each('RPUSH', logs, slice(args, o + 5, last))
    redis.call('LTRIM', logs, -EVENTS_KEPT, -1)
  end
  return 'ok', 1
end

-- An attempt never reached its runner: it does not count, and its job is the next of its queue.
local function give_back(tx, job)
  local key = tx.prefix .. job
  local type, attempt, run = unpack(redis.call('HMGET', key, 'script_type', 'x_attempt', 'x_run'))
  local active = is_active(tx, run)
  local status = active and 'Dispatched' or 'WaitingForPrerequisites'
  disarm(tx, 'lease:' .. job)
  redis.call('HDEL', key, 'x_token', 'x_session', 'x_deadline', 'x_runner', 'x_started')
  redis.call('HSET', key, 'x_attempt', attempt - 1, 'status', status, 'updated_at', tx.seconds)
  emit(tx, run, 'job', 's', status, 'j', job_id(job))
  if active then
    redis.call('HSET', key, 'x_queued', tx.at)
    redis.call('RPUSH', tx.prefix .. 'queue:' .. string.lower(type), job)
    announce(tx, 'ready:' .. type)
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
      local status, current = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_token'))
      if status == 'Started' and current == token then
        give_back(tx, job)
      end
    end
    redis.call('DEL', remembered)
  end
  return 'ok'
end

-- A runner has (re)connected and says which attempts it works on. Those of its session, if it has one, that it does not name
-- never reached it.
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
      local token, of_runner, of_session =
        unpack(redis.call('HMGET', tx.prefix .. job, 'x_token', 'x_runner', 'x_session'))
      if lost[token] then
        lost[token] = nil
      elseif session ~= '' and of_runner == runner and of_session == session then
        give_back(tx, job)
      end
    end
  end
  local tokens = {}
  for token in pairs(lost) do
    tokens[#tokens + 1] = token
  end
  return 'ok', tokens
end

register('hc_take', take)
register('hc_untake', untake)
register('hc_finish', finish)
register('hc_fail', fail)
register('hc_heartbeat', heartbeat)
register('hc_log', append_log)
register('hc_resume', resume)
