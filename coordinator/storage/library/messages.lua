-- Messages: sent, that is their embedded jobs run; and prerequisites, satisfied for a whole context.

-- Make the jobs embedded in a message jobs of the context and run them. One that was sent before stays as it is.
-- Arguments: 1 the message, 2 its `job` field as the caller read it, 3 a transport id, 4 how many jobs; for each: the
-- job, how many items follow, those as `write` takes them.
-- Result: 'ok' | 'none' | 'changed': `job` is another by now | 'busy', job, its run | 'missing', job.
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
    jobs[i] = {job, created_at, at + 2}
    at = at + 2 + count
  end
  local names = {}
  for i, job in ipairs(jobs) do
    names[i] = job[1]
    write(tx, job[1], job[2], args, job[3])
  end
  local plan, fault, job = read_plan(tx, message, names)
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

-- Remember a prerequisite as satisfied and release the jobs that waited for it.
-- Arguments: 1 its name.
-- Result: 'ok', when it was satisfied (ms), how many jobs had waited.
local function prerequisite_satisfy(tx, args, o)
  local name = args[o + 1]
  local satisfied, waiting = tx.prefix .. 'prerequisites', tx.prefix .. 'waiting:' .. name
  redis.call('HSETNX', satisfied, name, tx.at)
  local jobs, ready = redis.call('SMEMBERS', waiting), {}
  for _, job in ipairs(jobs) do
    release(tx, redis.call('HGET', tx.prefix .. job, 'x_run'), job, 1, ready)
  end
  redis.call('DEL', waiting)
  redis.call('SREM', tx.prefix .. 'awaited', name)
  enqueue(tx, ready)
  return WORD.OK, redis.call('HGET', satisfied, name), #jobs
end

register('hc_message_send', message_send)
register('hc_prerequisite_satisfy', prerequisite_satisfy)
