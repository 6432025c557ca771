-- What nobody asks for: deletion of records, and timers that are due.

local LOOK_AGAIN = 60000 -- ms after which it is seen whether a run that should go can go now

-- The first of `jobs` that is running, or whose run is: that needs its result.
local function first_busy(tx, jobs)
  for _, job in ipairs(jobs) do
    local status, owner = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_run'))
    if status == 'Started' or owner and is_active(tx, owner) then
      return job
    end
  end
end

-- Delete a run that has ended, or was never started, with the jobs it had. Returns how many records.
local function remove_run(tx, run, jobs)
  local count = remove(tx.prefix .. run)
  for _, job in ipairs(jobs) do
    count = count + remove(tx.prefix .. job)
  end
  redis.call('DEL', tx.prefix .. 'events:' .. string.sub(run, 6), tx.prefix .. 'logs:' .. string.sub(run, 9))
  disarm(tx, 'keep:' .. run)
  disarm_message(tx, run)
  return count
end

-- The jobs that go with a run: those it was started with, and those a flow lists. A job another run has had since
-- stays.
local function jobs_of(tx, run)
  local jobs, seen = {}, {}
  local function look_at(names)
    for _, job in ipairs(names) do
      local owner = redis.call('HGET', tx.prefix .. job, 'x_run')
      if not seen[job] and (not owner or owner == run) then
        seen[job] = true
        jobs[#jobs + 1] = job
      end
    end
  end
  look_at(split(redis.call('HGET', tx.prefix .. run, 'x_jobs')))
  if string.sub(run, 1, 5) == 'flow:' then
    look_at(flow_jobs(tx, run))
  end
  return jobs
end

-- Delete a record: a flow or message with its jobs, a job, a runner.
-- Arguments: 1 the record.
-- Result: 'ok', how many records were deleted | 'busy', the record that is in use.
local function record_delete(tx, args, o)
  local record = args[o + 1]
  if redis.call('EXISTS', tx.prefix .. record) == 0 then
    return WORD.OK, 0
  end
  local kind = string.match(record, '^%l+')
  if kind == 'runner' then
    return WORD.OK, remove(tx.prefix .. record)
  end
  local jobs = kind == 'job' and {record} or jobs_of(tx, record)
  local busy = kind ~= 'job' and is_active(tx, record) and record or first_busy(tx, jobs)
  if busy then
    return WORD.BUSY, busy
  end
  return WORD.OK, kind == 'job' and remove(tx.prefix .. record) or remove_run(tx, record, jobs)
end

local TIMER = {}

-- A lease has run out, or the job's timeout.
function TIMER.lease(tx, job)
  local status, field = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_attempt'))
  if status ~= 'Started' then
    return
  end
  local last = attempt_of(field)
  if not last then -- begun by an older version of this library
    return give_back(tx, job)
  end
  local attempt = running(tx, job, last.token, 'retries')
  local reason = 'lost: runner ' .. attempt.runner .. ' gave no sign of life for ' .. attempt.lease / 1000 .. ' s'
  if attempt.deadline ~= '0' and tonumber(attempt.deadline) <= tx.now then
    reason = 'timed out after ' .. redis.call('HGET', tx.prefix .. job, 'timeout') .. ' s'
  end
  announce_cancel(tx, attempt.runner, job, attempt.token, reason)
  fail_attempt(tx, attempt, reason, nil, true)
end

-- A pause between attempts is over.
function TIMER.retry(tx, job)
  local key = tx.prefix .. job
  local status, run, type = unpack(redis.call('HMGET', key, 'status', 'x_run', 'script_type'))
  if status == 'Dispatched' and is_active(tx, run) then
    redis.call('HSET', key, 'x_queued', tx.at)
    redis.call('HDEL', key, 'x_retry', 'x_ended')
    enqueue(tx, {[type] = {job}})
  end
end

local function expire_message(tx, message, reason)
  if is_active(tx, message) then
    cancel_run(tx, message, reason)
  end
end

function TIMER.ack(tx, message)
  local limit = redis.call('HGET', tx.prefix .. message, 'timeout_ack')
  expire_message(tx, message, 'not acknowledged within ' .. limit .. ' s')
end

function TIMER.result(tx, message)
  local limit = redis.call('HGET', tx.prefix .. message, 'timeout_result')
  expire_message(tx, message, 'no result within ' .. limit .. ' s of the acknowledgement')
end

function TIMER.total(tx, message)
  expire_message(tx, message, 'not processed within ' .. redis.call('HGET', tx.prefix .. message, 'timeout') .. ' s')
end

-- An ended run has been kept long enough. It is kept on while a job of it still runs.
function TIMER.keep(tx, run)
  if redis.call('HGET', tx.prefix .. run, 'x_active') ~= '0' then
    return
  end
  local jobs = jobs_of(tx, run)
  if first_busy(tx, jobs) then
    arm(tx, 'keep:' .. run, tx.now + LOOK_AGAIN)
  else
    remove_run(tx, run, jobs)
  end
end

-- Act on the timers that are due, at most so many, and report on the queues.
-- Arguments: 1 how many.
-- Result: 'ok', 1 if the context is quiet (no timer is set and no queue has a job) or 0.
local function tick(tx, args, o)
  local timers = tx.prefix .. 'timers'
  set_timers(tx)
  for _, name in ipairs(redis.call('ZRANGE', timers, '-inf', tx.now, 'BYSCORE', 'LIMIT', 0, args[o + 1])) do
    redis.call('ZREM', timers, name)
    local kind, record = string.match(name, '^(%l+):(.*)$')
    if redis.call('EXISTS', tx.prefix .. record) == 1 then
      TIMER[kind](tx, record)
    end
  end
  set_timers(tx)
  local quiet = 1
  local nearest = redis.call('ZRANGE', timers, 0, 0, 'WITHSCORES')
  if nearest[2] then
    quiet = 0
    local at = tonumber(nearest[2])
    tx.due = math.min(tx.due or at, at)
  end
  for type, queue in pairs({Osis = 'osis', Sal = 'sal', V = 'v', Python = 'python'}) do
    if redis.call('EXISTS', tx.prefix .. 'queue:' .. queue) == 1 then
      quiet = 0
      tx.effects[#tx.effects + 1] = EFFECT.READY .. type
    end
  end
  return WORD.OK, quiet
end

-- Say that a coordinator lives, and find those that do not any more.
-- KEYS: 1 the coordinators, a sorted set by when they were last heard of (ms). ARGV: 1 the one that lives, 2 ms of
-- silence after which one is dead.
-- Returns: {1 if it was known before or 0, the dead}.
local function presence(keys, args)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local added = redis.call('ZADD', keys[1], now, args[1])
  return {1 - added, redis.call('ZRANGE', keys[1], '-inf', now - args[2], 'BYSCORE')}
end

redis.register_function('hc_presence', presence)
register('hc_record_delete', record_delete)
register('hc_tick', tick)
