-- Messages: sent, that is their embedded jobs run; and prerequisites: satisfied, revoked.

-- Make the jobs embedded in a message jobs of the context and run them. One that was sent before stays as it is, and so
-- do jobs that are Finished, which count as done.
-- Arguments: 1 the message, 2 its `job` field as the caller read it, 3 a transport id, 4 how many jobs; for each: the
-- job, how many items follow, those as `write` takes them.
-- Result: 'ok' | 'none' | 'changed': `job` is another by now | 'busy', job, its run | 'missing', job |
-- 'differs', a job that is Finished, the member that is another, its status.
local function message_send(tx, args, o)
  local message = args[o + 1]
  local key = tx.prefix .. message
  local embedded, sent, total, ack =
    unpack(redis.call('HMGET', key, 'job', 'x_started', 'timeout', 'timeout_ack'))
  if not embedded then
    return WORD.NONE
  end
  if sent then
    return WORD.OK
  end
  if embedded ~= args[o + 2] then
    return WORD.CHANGED
  end
  local at, jobs = o + 5, {}
  for i = 1, args[o + 4] do
    local job, count = args[at], tonumber(args[at + 1])
    local status, owner, created_at = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_run', 'created_at'))
    if is_taken(tx, message, status, owner) then
      return WORD.BUSY, job, owner
    end
    local is_done = status == 'Finished'
    if is_done then
      local other = SHARING.difference(tx, job, SHARING.given(args[at + 3]), args, at + 4, JOB_DEFAULTS)
      if other then
        return WORD.DIFFERS, job, other, status
      end
    end
    jobs[i] = {job, created_at, at + 2, is_done}
    at = at + 2 + count
  end
  local names = {}
  for i, job in ipairs(jobs) do
    names[i] = job[1]
    if not job[4] then
      write(tx, job[1], job[2], args, job[3])
    end
  end
  local plan, fault, job = read_plan(tx, message, names, math.huge)
  if not plan then
    return fault, job
  end
  redis.call('HSET', key, 'transport_id', args[o + 3], 'transport_status', 'Queued')
  for name, limit in pairs({ack = ack, total = total}) do
    if limit ~= '0' then
      arm(tx, name .. ':' .. message, tx.now + limit * 1000)
    end
  end
  launch(tx, message, plan)
  return WORD.OK
end

-- Release jobs, as far as their prerequisites are satisfied now and nothing else is unmet.
local function release_all(tx, jobs)
  local ready = {}
  for _, job in ipairs(jobs) do
    local run = redis.call('HGET', tx.prefix .. job, 'x_run')
    if run and is_active(tx, run) then
      release(tx, run, job, 0, ready)
    end
  end
  enqueue(tx, ready)
end

-- Release jobs of the set `releasing`, some now and the others when its timer is due, which is at once.
local function release_some(tx, releasing)
  release_all(tx, redis.call('SPOP', tx.prefix .. releasing, PREREQUISITES.AT_ONCE))
  if redis.call('EXISTS', tx.prefix .. releasing) == 1 then
    arm(tx, 'release:' .. releasing, tx.now)
  end
end

-- Remember a prerequisite as satisfied, for the jobs of one flow or of the whole context, and release those that waited
-- for it. One that was satisfied before stays as it is.
-- Arguments: 1 its name, 2 the flow or '', 3 what is said of it, as the more members of a SatisfiedPrerequisite in
-- JSON: by, payload; each with a comma before it.
-- Result: 'ok', what is stored of it (see prerequisites.lua), how many jobs had waited | 'none': there is no such flow
-- | 'differs': it was satisfied with another payload.
local function prerequisite_satisfy(tx, args, o)
  local name, flow, more = args[o + 1], args[o + 2], args[o + 3]
  local satisfied, scope = tx.prefix .. 'prerequisites', ''
  if flow ~= '' then
    if redis.call('EXISTS', tx.prefix .. flow) == 0 then
      return WORD.NONE
    end
    satisfied, scope = satisfied .. ':' .. flow, job_id(flow)
  end
  local waiting, old, sets, count = tx.prefix .. 'waiting:' .. name, {}, {}, 0
  for _, run in ipairs(flow ~= '' and {flow} or redis.call('SMEMBERS', waiting)) do
    if string.sub(run, 1, 4) == 'job:' then
      old[#old + 1] = run
      count = count + 1
    else
      local awaiting = tx.prefix .. 'awaiting:' .. run .. ' ' .. name
      sets[#sets + 1] = awaiting
      count = count + (satisfied_by(tx, run, name) and 0 or redis.call('SCARD', awaiting))
    end
  end
  local stored, payload = redis.call('HGET', satisfied, name), string.match(more, ',"payload":(.*)$')
  if stored then
    if payload and not SHARING.is_same(string.match(stored, ',"payload":(.*)$') or '{}', payload) then
      return WORD.DIFFERS
    end
  else
    stored = tx.at .. more
    redis.call('HSET', satisfied, name, stored)
    redis.call('ZADD', tx.prefix .. 'index:prerequisite', '0', name .. '\0' .. scope)
  end
  if #old > 0 then -- of an earlier version: x_wait counts it
    local ready = {}
    for _, job in ipairs(old) do
      redis.call('SREM', waiting, job)
      release(tx, redis.call('HGET', tx.prefix .. job, 'x_run'), job, 1, ready)
    end
    if redis.call('EXISTS', waiting) == 0 then
      redis.call('ZREM', tx.prefix .. 'awaits', name)
      redis.call('SREM', tx.prefix .. 'awaited', name)
    end
    enqueue(tx, ready)
  end
  local releasing = 'releasing:' .. name
  for first = 1, #sets, 1000 do
    local key = tx.prefix .. releasing
    redis.call('SUNIONSTORE', key, key, unpack(sets, first, math.min(first + 999, #sets)))
  end
  release_some(tx, releasing)
  return WORD.OK, stored, count
end

-- Let a prerequisite be satisfied no longer. What has been released stays so.
-- Arguments: 1 its name, 2 the flow or ''.
-- Result: 'ok', 1 if it was satisfied or 0 | 'none': there is no such flow.
local function prerequisite_revoke(tx, args, o)
  local name, flow = args[o + 1], args[o + 2]
  local satisfied, scope = tx.prefix .. 'prerequisites', ''
  if flow ~= '' then
    if redis.call('EXISTS', tx.prefix .. flow) == 0 then
      return WORD.NONE
    end
    satisfied, scope = satisfied .. ':' .. flow, job_id(flow)
  end
  redis.call('ZREM', tx.prefix .. 'index:prerequisite', name .. '\0' .. scope)
  return WORD.OK, redis.call('HDEL', satisfied, name)
end

register('hc_message_send', message_send, GROWS)
register('hc_prerequisite_satisfy', prerequisite_satisfy)
register('hc_prerequisite_revoke', prerequisite_revoke)
register('hc_prerequisite_list', prerequisite_list)
