-- What nobody asks for: deletion of records, and timers that are due.

local LOOK_AGAIN = 60000 -- ms after which it is seen whether a run that should go can go now

-- A job stays when the run it belonged to is deleted: it is nobody's.
local function disown(tx, run, job)
  local key = tx.prefix .. job
  local status, owner = unpack(redis.call('HMGET', key, 'status', 'x_run'))
  if owner == run then
    if status == 'Finished' then
      redis.call('HDEL', key, 'x_run')
    else
      forget_run(tx, job)
    end
  end
end

-- What becomes of `jobs` when `run` goes, to which they belong: those that go too, those others need, and, if it must not go,
-- the job in the way and the run that needs it, if it is not itself running.
local function sort_out(tx, jobs, run)
  local gone, kept = {}, {}
  for _, job in ipairs(jobs) do
    local fate, user = SHARING.fate(tx, job, run)
    if fate == 'needed' then
      return gone, kept, job, user
    end
    local some = fate == 'gone' and gone or kept
    some[#some + 1] = job
  end
  return gone, kept
end

-- Delete a run that has ended, or was never started, with the jobs that go with it; it leaves the others. Returns how many
-- records.
local function remove_run(tx, run, jobs, kept)
  local count = remove(tx.prefix .. run)
  for _, job in ipairs(jobs) do
    count = count + remove(tx.prefix .. job)
  end
  for _, job in ipairs(kept) do
    disown(tx, run, job)
  end
  SHARING.forget(tx, run)
  PREREQUISITES.forget(tx, run)
  redis.call('DEL', tx.prefix .. 'events:' .. string.sub(run, 6), tx.prefix .. 'lines:' .. string.sub(run, 6),
    tx.prefix .. 'logs:' .. string.sub(run, 9))
  if string.sub(run, 1, 5) == 'flow:' and redis.call('DEL', tx.prefix .. 'followed:' .. job_id(run)) == 1 then
    announce(tx, EFFECT.EVENTS .. job_id(run)) -- its followers find that it is gone
  end
  disarm(tx, 'keep:' .. run)
  disarm_message(tx, run)
  return count
end

-- The jobs that go with a run: those it was started with, and those a flow lists. A job another run has had since stays.
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

-- Delete a record: a flow or message with its jobs but for those others need, a job, a runner.
-- Arguments: 1 the record.
-- Result: 'ok', how many records were deleted | 'busy', the record that is in use, and, if it does not itself run, the run that
-- needs it | 'more': it is not known yet who needs what; to be called again.
local function record_delete(tx, args, o)
  local record = args[o + 1]
  if redis.call('EXISTS', tx.prefix .. record) == 0 then
    return WORD.OK, 0
  end
  local kind = string.match(record, '^%l+')
  if kind == 'runner' then
    return WORD.OK, remove(tx.prefix .. record)
  end
  if kind ~= 'job' and is_active(tx, record) then
    return WORD.BUSY, record
  end
  if not SHARING.is_current(tx) then
    return WORD.MORE
  end
  if kind == 'job' then
    local fate, user = SHARING.fate(tx, record)
    if fate == 'needed' then
      return WORD.BUSY, record, user
    end
    return WORD.OK, remove(tx.prefix .. record)
  end
  local gone, kept, busy, user = sort_out(tx, jobs_of(tx, record), record)
  if busy then
    return WORD.BUSY, busy, user
  end
  return WORD.OK, remove_run(tx, record, gone, kept)
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

-- There are more jobs to release.
function TIMER.release(tx, releasing)
  release_some(tx, releasing)
end

-- An ended run has been kept long enough. It is kept on while a job of it still runs, or is needed by a run that is active.
function TIMER.keep(tx, run)
  if redis.call('HGET', tx.prefix .. run, 'x_active') ~= '0' then
    return
  end
  if not SHARING.is_current(tx) then
    return arm(tx, 'keep:' .. run, tx.now + 1)
  end
  local gone, kept, busy = sort_out(tx, jobs_of(tx, run), run)
  if busy then
    arm(tx, 'keep:' .. run, tx.now + LOOK_AGAIN)
  else
    remove_run(tx, run, gone, kept)
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
-- KEYS: 1 the coordinators, a sorted set by when they were last heard of (ms). ARGV: 1 the one that lives, 2 ms of silence
-- after which one is dead.
-- Returns: {1 if it was known before or 0, the dead}.
local function presence(keys, args)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local added = redis.call('ZADD', keys[1], now, args[1])
  return {1 - added, redis.call('ZRANGE', keys[1], '-inf', now - args[2], 'BYSCORE')}
end

-- Let a coordinator own a context, if that is known.
-- KEYS: 1 the known contexts, a sorted set. ARGV: 1 the set of the contexts that the coordinator owns, which is in the slot of
-- KEYS 1, 2 the context.
-- Returns: 'ok' | 'none': nothing was ever written to it.
local function own(keys, args)
  if not redis.call('ZSCORE', keys[1], args[2]) then
    return WORD.NONE
  end
  redis.call('SADD', args[1], args[2])
  return WORD.OK
end

redis.register_function('hc_own', own)
redis.register_function('hc_presence', presence)
register('hc_record_delete', record_delete)
register('hc_tick', tick)
