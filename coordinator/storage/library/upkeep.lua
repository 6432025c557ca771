-- What nobody asks for: deletion of records, and timers that are due.

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

-- What becomes of `jobs` when `run` goes, to which they belong: those that go too, those others need, and, if it must
-- not go, the job in the way and the run that needs it, if it is not itself running.
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

-- Delete a run that has ended, or was never started, with the jobs that go with it; it leaves the others. Returns how
-- many records.
local function remove_run(tx, run, jobs, kept)
  local count = remove(tx, tx.prefix .. run)
  for _, job in ipairs(jobs) do
    count = count + remove(tx, tx.prefix .. job)
  end
  for _, job in ipairs(kept) do
    disown(tx, run, job)
  end
  SHARING.forget(tx, run)
  PREREQUISITES.forget(tx, run)
  tx.events[run] = nil
  redis.call('DEL', tx.prefix .. 'events:' .. string.sub(run, 6), tx.prefix .. 'lines:' .. string.sub(run, 6),
    tx.prefix .. 'logs:' .. string.sub(run, 9))
  if string.sub(run, 1, 5) == 'flow:' and redis.call('DEL', tx.prefix .. 'followed:' .. job_id(run)) == 1 then
    announce(tx, EFFECT.EVENTS .. job_id(run)) -- its followers find that it is gone
  end
  FEED.tell(tx, run, 'Deleted')
  disarm(tx, 'keep:' .. run)
  disarm_message(tx, run)
  return count
end

-- Whether a job goes with a run: another run has not had it since.
local function goes_with(tx, run, job)
  local owner = redis.call('HGET', tx.prefix .. job, 'x_run')
  return not owner or owner == run
end

-- The jobs that go with a run: those it was started with, and those a flow lists.
local function jobs_of(tx, run, started, caller, listed)
  local jobs, seen = {}, {}
  local function look_at(names)
    for _, job in ipairs(names) do
      if not seen[job] and goes_with(tx, run, job) then
        seen[job] = true
        jobs[#jobs + 1] = job
      end
    end
  end
  look_at(split(started))
  if listed then
    look_at(flow_jobs(caller, listed))
  end
  return jobs
end

-- Remember how many records a call has deleted, for whoever asks by this name.
local function remember_deleted(tx, name, count)
  redis.call('SET', tx.prefix .. 'deleted:' .. name, count, 'PX', ANSWER_KEPT)
end

-- Begin to delete a run that has many jobs, in these steps:
--   gather   the names it lists are written to plan:RUN:new;
--   check    nobody may need one of its jobs;
--   remove   they are deleted, and the run at the end.
-- The last two go through two lists: the jobs it was started with, and those it lists.
-- They go on once the index of who needs what (see sharing.lua) is current, so a flow that has come to list a job
-- meanwhile keeps it.
local function begin_delete(tx, run, token)
  local key = tx.prefix .. run
  local before = redis.call('HGET', key, 'x_active') or ''
  redis.call('HSET', key, 'x_active', IS.ENDING, 'x_before', before, 'x_token', token, 'x_deleted', '0')
  tx.active[run] = IS.ENDING
  if string.sub(run, 1, 5) == 'flow:' then
    begin_step(tx, run, 'gather ' .. begin_listing(tx, run) .. ' 1', token ~= '' and STEP_PAUSE)
  else
    begin_step(tx, run, 'check 1 0', token ~= '' and STEP_PAUSE)
  end
end

function STEP.gather(tx, flow, caller, from)
  local names = {}
  from = read_listed(tx, flow, caller, tonumber(from), function(job)
    tx.work = tx.work - 1
    names[#names + 1] = job
  end)
  if #names > 0 then
    call_each('RPUSH', new_plan(tx, flow), names)
  end
  if from then
    return 'gather ' .. caller .. ' ' .. from
  end
  redis.call('UNLINK', tx.prefix .. 'listed:' .. flow)
  return 'check 1 0'
end

local READ_LIST = {['1'] = jobs_from, ['2'] = from_new_plan}

-- Result: 'busy', a job, and the run that needs it, if it is not itself running: nothing is deleted.
function STEP.check(tx, run, list, at)
  if not SHARING.is_current(tx) then
    return 'check ' .. list .. ' ' .. at
  end
  local busy, user
  at = each_job(tx, run, at, READ_LIST[list], function(job)
    if not busy and goes_with(tx, run, job) then
      local fate, needs = SHARING.fate(tx, job, run)
      tx.work = tx.work - 2
      if fate == 'needed' then
        busy, user = job, needs
      end
    end
  end)
  if busy then
    local key = tx.prefix .. run
    local before, token = unpack(redis.call('HMGET', key, 'x_before', 'x_token'))
    if before == '' then
      redis.call('HDEL', key, 'x_active')
    else
      redis.call('HSET', key, 'x_active', before)
    end
    tx.active[run] = before ~= '' and before
    redis.call('HDEL', key, 'x_before', 'x_token', 'x_deleted')
    redis.call('UNLINK', new_plan(tx, run))
    if token == '' then -- it was to go because it had been kept long enough
      arm(tx, 'keep:' .. run, tx.now + LOOK_AGAIN)
    end
    return nil, {WORD.BUSY, busy, user}
  end
  if at then
    return 'check ' .. list .. ' ' .. at
  end
  return list == '1' and 'check 2 0' or 'remove 1 0'
end

-- Result: 'ok', how many records were deleted.
function STEP.remove(tx, run, list, at)
  local count, key = 0, tx.prefix .. run
  if not SHARING.is_current(tx) then
    return 'remove ' .. list .. ' ' .. at
  end
  at = each_job(tx, run, at, READ_LIST[list], function(job)
    if goes_with(tx, run, job) then
      if SHARING.fate(tx, job, run) == 'gone' then
        count = count + remove(tx, tx.prefix .. job)
      else
        disown(tx, run, job)
      end
      redis.call('UNLINK', tx.prefix .. 'next:' .. job)
      tx.work = tx.work - 4
    end
  end)
  count = redis.call('HINCRBY', key, 'x_deleted', count)
  if at then
    return 'remove ' .. list .. ' ' .. at
  end
  if list == '1' then
    return 'remove 2 0'
  end
  local token = redis.call('HGET', key, 'x_token')
  count = count + remove_run(tx, run, {}, {})
  for _, name in ipairs({'ready:', 'late:', 'free:', 'plan:'}) do
    redis.call('UNLINK', tx.prefix .. name .. run)
  end
  redis.call('UNLINK', new_plan(tx, run))
  disarm(tx, 'ready:' .. run)
  disarm(tx, 'free:' .. run)
  if token ~= '' then
    remember_deleted(tx, token, count)
  end
  remember_deleted(tx, run, count)
  return nil, {WORD.OK, count}
end

-- Delete a run with its jobs, if nothing needs them: at once if they are few.
-- Returns what record_delete does.
local function delete_run(tx, run, token)
  local started, caller, listed = unpack(redis.call('HMGET', tx.prefix .. run, 'x_jobs', 'caller_id', 'jobs'))
  if is_large(listed, started) then
    begin_delete(tx, run, token)
    return WORD.MORE
  end
  local jobs = jobs_of(tx, run, started, caller, listed)
  tx.work = tx.work - 4 * #jobs
  local gone, kept, busy, user = sort_out(tx, jobs, run)
  if busy then
    return WORD.BUSY, busy, user
  end
  return WORD.OK, remove_run(tx, run, gone, kept)
end

-- Delete a record: a flow or message with its jobs but for those others need, a job, a runner.
-- Arguments: 1 the record, 2 a token that names this call, 3 '1' if it was answered 'more' before.
-- Result: 'ok', how many records were deleted | 'more': they are being deleted, or it is not known yet who needs what:
-- to be called again | 'busy', the record that is in use, and, if it does not itself run, the run that needs it.
local function record_delete(tx, args, o)
  local record, token = args[o + 1], args[o + 2]
  local key, kind = tx.prefix .. record, string.match(record, '^%l+')
  if redis.call('EXISTS', key) == 0 then
    local before = redis.call('GET', tx.prefix .. 'deleted:' .. token)
      or args[o + 3] == '1' and redis.call('GET', tx.prefix .. 'deleted:' .. record)
    return WORD.OK, tonumber(before or 0)
  end
  local word, detail, user
  if kind == 'runner' then
    word, detail = WORD.OK, remove(tx, key)
    redis.call('HDEL', tx.prefix .. 'paused', record)
  elseif kind == 'job' then
    if not SHARING.is_current(tx) then
      return WORD.MORE
    end
    local fate, needs = SHARING.fate(tx, record)
    if fate == 'needed' then
      return WORD.BUSY, record, needs
    end
    word, detail = WORD.OK, remove(tx, key)
  else
    local step, active = unpack(redis.call('HMGET', key, 'x_step', 'x_active'))
    if step and not SHARING.is_open(active) then
      if is_step(step, 'create') then
        return go_on_first(tx, record, step) == WORD.STATE and WORD.BUSY or WORD.MORE, record
      end
      local more, result = go_on(tx, record, step, STEP_PAUSE)
      if not more and (is_step(step, 'check') or is_step(step, 'remove')) then
        return unpack(result)
      end
      return WORD.MORE
    end
    if is_active(tx, record) then
      return WORD.BUSY, record
    end
    if not SHARING.is_current(tx) then
      return WORD.MORE
    end
    word, detail, user = delete_run(tx, record, token)
  end
  if word == WORD.OK then
    remember_deleted(tx, token, detail)
  end
  return word, detail, user
end

local TIMER = {}

-- A lease has run out, or the job's timeout.
function TIMER.lease(tx, job)
  local status, field, run = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_attempt', 'x_run'))
  if status ~= 'Started' then
    return
  end
  local last = attempt_of(field)
  if not last then -- begun by an older version of this library
    return give_back(tx, job)
  end
  local attempt = last
  attempt.job, attempt.run = job, run
  local grace = tx.now - (tx.wall + clock.set - clock.since) + attempt.lease
  if tonumber(attempt.start) < clock.since_wall and tx.now < grace then
    return arm(tx, 'lease:' .. job, grace) -- its runner could not report
  end
  local is_lost, reason = attempt.deadline == '0' or tonumber(attempt.deadline) > tx.now, nil
  if is_lost then
    reason = 'lost: runner ' .. attempt.runner .. ' gave no sign of life for ' .. attempt.lease / 1000 .. ' s'
  else
    reason = 'timed out after ' .. (redis.call('HGET', tx.prefix .. job, 'timeout') or '0') .. ' s'
    redis.call('HSET', tx.prefix .. job, 'x_late', late_until(tx, attempt, attempt.run))
  end
  if is_lost then -- before it has room again
    blame_silence(tx, attempt)
    announce(tx, EFFECT.SILENT .. attempt.runner .. ' ' .. attempt.token)
  end
  announce_cancel(tx, attempt.runner, job, attempt.token, reason)
  local outcome = not is_lost and 'timed_out' or nil
  local status, ended = fail_attempt(tx, attempt, reason, nil, true, is_lost, outcome), tx.ended
  ended.lost = ended.lost + (is_lost and 1 or 0)
  ended.timed_out = ended.timed_out + (is_lost and 0 or 1)
  ended.retried = ended.retried + (status == 'Dispatched' and 1 or 0)
end

-- A pause between attempts is over.
function TIMER.retry(tx, job)
  local key = tx.prefix .. job
  local status, run, type, field = unpack(redis.call('HMGET', key, 'status', 'x_run', 'script_type', 'x_attempt'))
  if status == 'Dispatched' and is_active(tx, run) then
    redis.call('HSET', key, 'x_queued', tx.at)
    redis.call('HDEL', key, 'x_retry', 'x_ended')
    local last = attempt_of(field)
    if last and keep_for_others(tx, job, type, last.runner) then
      redis.call('LPUSH', tx.prefix .. 'queue:' .. string.lower(type), job)
      announce(tx, EFFECT.OTHER .. type .. ' ' .. last.runner)
    else
      enqueue(tx, {[type] = {job}})
    end
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

-- There are more runs with jobs to release.
function TIMER.spread(tx, spreading)
  local count = spread(tx, spreading, 0)
  local counted = tx.prefix .. 'released:' .. string.match(spreading, '^spread:(%S+)')
  redis.call('INCRBY', counted, count)
  redis.call('PEXPIRE', counted, ANSWER_KEPT)
end

-- An ended run has been kept long enough. It is kept on while a job of it still runs, or is needed by a run that is
-- active, or something is done with it.
function TIMER.keep(tx, run)
  local active = redis.call('HGET', tx.prefix .. run, 'x_active')
  if SHARING.is_open(active) then
    return
  end
  if active ~= IS.ENDED then
    return arm(tx, 'keep:' .. run, tx.now + LOOK_AGAIN)
  end
  if not SHARING.is_current(tx) then
    return arm(tx, 'keep:' .. run, tx.now + 1)
  end
  if delete_run(tx, run, '') == WORD.BUSY then
    arm(tx, 'keep:' .. run, tx.now + LOOK_AGAIN)
  end
end

-- Nobody has gone on with what is under way with a run, or nobody is to.
function TIMER.step(tx, run)
  local step = redis.call('HGET', tx.prefix .. run, 'x_step')
  if step then
    go_on(tx, run, step, 0)
  end
end

TIMER.ready = queue_ready

-- Jobs have finished for which more jobs waited than one call releases.
function TIMER.free(tx, run)
  local key, ready = tx.prefix .. 'free:' .. run, {}
  if not SHARING.is_open(active_of(tx, run)) then
    if not is_active(tx, run) then
      redis.call('UNLINK', key)
    end
    return
  end
  local entry = true
  while tx.work > 0 do
    entry = redis.call('LPOP', key)
    if not entry then
      break
    end
    tx.work = tx.work - 3
    local finished = string.match(entry, '^%+(.*)$')
    if finished then
      local jobs = redis.call('LPOP', tx.prefix .. 'next:' .. finished, 50) or {}
      for _, job in ipairs(jobs) do
        release(tx, run, job, 1, ready)
      end
      tx.work = tx.work - 2 * #jobs
      if #jobs == 50 then
        redis.call('RPUSH', key, entry)
      end
    else
      local count, job = string.match(entry, '^(%d+) (%S+)$')
      release(tx, run, job, tonumber(count), ready)
    end
  end
  enqueue(tx, ready)
  if entry then
    arm(tx, 'free:' .. run, tx.now)
  end
end

-- What the records of a context take is counted in the transitions that write and remove them, while a coordinator
-- limits it (BYTES.count). What was there before is counted when it is first asked for, some records in one call, the
-- others by a timer: then the engine's field `counting` is where it goes on: the kind, and the last entry of its
-- index. A count begins anew when something is to be refused and the last one is an hour old, for coordinators without
-- the limit may have written since. Until it is through, `bytes_before`, which was the sum, is what there is at least.
BYTES.AGAIN = 3600000 -- ms
BYTES.AT_ONCE = 100 -- records
BYTES.AFTER = {flow = 'job', job = 'message'}

function BYTES.go_on(tx)
  local place, looked_at = redis.call('HGET', tx.engine, 'counting'), 0
  while place and looked_at < BYTES.AT_ONCE do
    local kind, last = string.match(place, '^(%l+) ?(%S*)$')
    local after = last == '' and '-' or '(' .. last
    local entries =
      redis.call('ZRANGE', INDEX.key(tx, kind), after, '+', 'BYLEX', 'LIMIT', 0, BYTES.AT_ONCE - looked_at)
    for _, entry in ipairs(entries) do
      local ids = string.gsub(entry, '%d+', function(id) return string.format('%.0f', tonumber(id)) end)
      BYTES.count(tx, kind .. ':' .. ids)
    end
    looked_at = looked_at + #entries
    if looked_at < BYTES.AT_ONCE then
      place = BYTES.AFTER[kind]
    else
      place = kind .. ' ' .. entries[#entries]
    end
  end
  tx.work = tx.work - 5 * looked_at
  if place then
    redis.call('HSET', tx.engine, 'counting', place)
    arm(tx, 'count:engine', tx.now)
  else
    redis.call('HDEL', tx.engine, 'counting', 'bytes_before')
  end
end

function BYTES.begin(tx)
  local before = redis.call('HGET', tx.engine, 'bytes') or '0'
  tx.count = string.format('%.0f', redis.call('HINCRBY', tx.engine, 'count', 1))
  redis.call('HSET', tx.engine, 'bytes', '0', 'bytes_before', before, 'counting', 'flow', 'counted_at',
    string.format('%.0f', tx.now))
  BYTES.go_on(tx)
end

function TIMER.count(tx)
  if tx.counts then
    BYTES.go_on(tx)
  end
end

-- Drop what is next in the queues but does not wait there any more, up to the first job that does: whoever takes that
-- finds what is behind it.
function TIMER.stale(tx)
  for _, type in ipairs({'osis', 'sal', 'v', 'python'}) do
    local queue, is_waiting = tx.prefix .. 'queue:' .. type, false
    while not is_waiting do
      if tx.work <= 0 then
        arm(tx, 'stale:engine', tx.now)
        return
      end
      local entries, stale = redis.call('LRANGE', queue, -50, -1), 0
      for at = #entries, 1, -1 do
        local record = redis.pcall('HMGET', tx.prefix .. entries[at], 'status', 'x_queued', 'x_run')
        if record.err or record[1] == 'Dispatched' and record[2] and record[3] then
          is_waiting = true
          break
        end
        stale = stale + 1
      end
      if stale > 0 then
        redis.call('RPOP', queue, stale)
      end
      tx.work = tx.work - stale - 1
      is_waiting = is_waiting or #entries < 50
    end
  end
end

-- Act on the timers that are due, at most so many and until that was work enough, and report on the queues. One that
-- fails concerns no other, and is due again later.
-- Arguments: 1 how many.
-- Result: 'ok', 1 if the context is quiet (no timer is set and no queue has a job) or 0, how many attempts were lost,
-- have timed out, and how many of both are followed by another one, then a text for each timer that has failed.
local function tick(tx, args, o)
  local timers = tx.prefix .. 'timers'
  tx.ended = {lost = 0, timed_out = 0, retried = 0}
  set_timers(tx)
  for _, name in ipairs(redis.call('ZRANGE', timers, '-inf', tx.now, 'BYSCORE', 'LIMIT', 0, args[o + 1])) do
    if tx.work <= 0 then
      break
    end
    redis.call('ZREM', timers, name)
    local kind, record = string.match(name, '^(%l+):(.*)$')
    if redis.call('EXISTS', tx.prefix .. record) == 1 then
      local went_well, fault = attempt(tx, TIMER[kind], tx, record)
      if not went_well then
        note_fault(tx, name .. ': ' .. fault)
        arm(tx, name, tx.now + LOOK_AGAIN)
      end
    end
  end
  flush_finished(tx)
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
      if not SHARING.is_held(tx, type) then
        tx.effects[#tx.effects + 1] = EFFECT.READY .. type
      end
    end
  end
  local faults = {}
  for i, fault in ipairs(faults_of(tx)) do
    faults[i] = fault.text
  end
  local ended = tx.ended
  return WORD.OK, quiet, ended.lost, ended.timed_out, ended.retried, unpack(faults)
end

-- Say that a coordinator lives, and find those that do not any more.
-- KEYS: 1 the coordinators, a sorted set by when they were last heard of (ms). ARGV: 1 the one that lives, 2 ms of
-- silence after which one is dead.
-- Returns: {1 if it was known before or 0, the dead}.
local function presence(keys, args)
  local _, wall = read_clock()
  local now = wall + clock.set
  for _, name in ipairs(redis.call('ZRANGE', keys[1], '(' .. now, '+inf', 'BYSCORE')) do
    redis.call('ZADD', keys[1], now, name) -- heard of before the server's clock was set back
  end
  local added = redis.call('ZADD', keys[1], now, args[1])
  return {1 - added, redis.call('ZRANGE', keys[1], '-inf', now - args[2], 'BYSCORE')}
end

-- Remember contexts as known, and as owned by a coordinator, which handles their timers.
-- KEYS: 1 the known contexts, a sorted set of ids by themselves; beside it is the set of those the coordinator owns.
-- ARGV: 1 the owned ones' key without the prefix both have, then the ids.
-- Returns: 'OK'.
local function own(keys, args)
  local prefix = string.match(keys[1], '^(.-)contexts$')
  for i = 2, #args do
    redis.call('ZADD', keys[1], args[i], args[i])
    redis.call('SADD', prefix .. args[1], args[i])
  end
  return redis.status_reply('OK')
end

-- Let a coordinator own contexts, those of them that are known.
-- KEYS: 1 the known contexts, a sorted set. ARGV: 1 the set of the contexts that the coordinator owns, which is in the
-- slot of KEYS 1, then contexts.
-- Returns: 'ok' | 'none': nothing was ever written to one of them.
local function own_known(keys, args)
  local word = WORD.OK
  for i = 2, #args do
    if redis.call('ZSCORE', keys[1], args[i]) then
      redis.call('SADD', args[1], args[i])
    else
      word = WORD.NONE
    end
  end
  return word
end

redis.register_function{function_name = 'hc_presence', callback = presence, flags = {'allow-oom'}}
redis.register_function{function_name = 'hc_own', callback = own, flags = {'allow-oom'}}
redis.register_function{function_name = 'hc_own_known', callback = own_known, flags = {'allow-oom'}}
register('hc_record_delete', record_delete)
register('hc_tick', tick, nil, true)
