-- Flows: started, retried, cancelled, submitted, deleted.

local function flow_jobs(tx, flow)
  local caller, listed = unpack(redis.call('HMGET', tx.prefix .. flow, 'caller_id', 'jobs'))
  local jobs, seen = {}, {}
  for id in string.gmatch(listed, '%d+') do
    if not seen[id] then
      seen[id] = true
      jobs[#jobs + 1] = 'job:' .. caller .. ':' .. id
    end
  end
  return jobs
end

-- There is no plan: say why.
local function refused(tx, fault, job)
  return done(tx, fault, job, redis.call('HGET', tx.prefix .. job, 'x_run') or '')
end

-- Make a flow in Error one that goes on: what it keeps only because it had ended, and the jobs it no longer has.
local function reopen(tx, flow, plan)
  redis.call('PERSIST', tx.prefix .. 'events:' .. job_id(flow))
  redis.call('HDEL', tx.prefix .. flow, 'x_ended')
  redis.call('HSET', tx.prefix .. flow, 'result', '{}')
  disarm(tx, 'keep:' .. flow)
  local kept = {}
  for _, node in ipairs(plan) do
    kept[node.job] = true
  end
  for _, job in ipairs(split(redis.call('HGET', tx.prefix .. flow, 'x_jobs'))) do
    if not kept[job] and redis.call('HGET', tx.prefix .. job, 'x_run') == flow then
      stop(tx, flow, job, 'the flow no longer lists it')
      redis.call('HDEL', tx.prefix .. job, 'x_run')
    end
  end
end

-- Start a flow that was never started; one that was stays as it is.
-- KEYS: 1 the engine. ARGV: 1 channel, 2 coordinator, 3 the flow.
-- Result: 'ok', the record | 'none' | 'missing', job | 'changed', job: its DAG is none | 'busy', job, its run.
local function flow_start(keys, args)
  local tx, flow = begin(keys, args), args[3]
  local status = redis.call('HGET', tx.prefix .. flow, 'status')
  if not status then
    return done(tx, 'none')
  end
  if status ~= 'Dispatched' then
    return done(tx, 'ok', redis.call('HGETALL', tx.prefix .. flow))
  end
  local plan, fault, job = read_plan(tx, flow, flow_jobs(tx, flow))
  if not plan then
    return refused(tx, fault, job)
  end
  launch(tx, flow, plan)
  return done(tx, 'ok', redis.call('HGETALL', tx.prefix .. flow))
end

-- Start the unfinished part of a flow in Error again; one that is Started stays as it is.
-- KEYS, ARGV, Result: as flow_start, and 'state', status: it is neither.
local function flow_retry(keys, args)
  local tx, flow = begin(keys, args), args[3]
  local status = redis.call('HGET', tx.prefix .. flow, 'status')
  if not status then
    return done(tx, 'none')
  end
  if status == 'Started' then
    return done(tx, 'ok', redis.call('HGETALL', tx.prefix .. flow))
  end
  if status ~= 'Error' then
    return done(tx, 'state', status)
  end
  local plan, fault, job = read_plan(tx, flow, flow_jobs(tx, flow))
  if not plan then
    return refused(tx, fault, job)
  end
  reopen(tx, flow, plan)
  launch(tx, flow, plan)
  return done(tx, 'ok', redis.call('HGETALL', tx.prefix .. flow))
end

-- Stop a flow: running attempts are stopped, the rest never starts, it ends in Error.
-- KEYS: 1 the engine. ARGV: 1 channel, 2 coordinator, 3 the flow, 4 the reason.
-- Result: 'ok', the record | 'none' | 'state', status: it is Finished.
local function flow_cancel(keys, args)
  local tx, flow = begin(keys, args), args[3]
  local status = redis.call('HGET', tx.prefix .. flow, 'status')
  if not status then
    return done(tx, 'none')
  end
  if status == 'Finished' then
    return done(tx, 'state', status)
  end
  cancel_run(tx, flow, args[4])
  return done(tx, 'ok', redis.call('HGETALL', tx.prefix .. flow))
end

-- Create a flow and all its jobs, and start it. Of a flow that was started before nothing changes.
-- KEYS: 1 the engine. ARGV: 1 channel, 2 coordinator, 3 the flow, 4 how many items its fields are, then those (name, value,
-- …), then how many jobs; for each: the job, its script_type, depends, prerequisites, how many items its fields are, the
-- items.
-- Result: 'ok', the record | 'busy', job, its run | 'changed', job: the jobs are no DAG.
local function flow_submit(keys, args)
  local tx, flow = begin(keys, args), args[3]
  local status = redis.call('HGET', tx.prefix .. flow, 'status')
  if status and status ~= 'Dispatched' then
    return done(tx, 'ok', redis.call('HGETALL', tx.prefix .. flow))
  end
  local at = 5 + args[4]
  local nodes, known, places = {}, {}, {}
  for i = 1, args[at] do
    local job, last = args[at + 1], at + 5 + args[at + 5]
    local status, owner, created = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_run', 'created_at'))
    if is_taken(tx, flow, status, owner, known) then
      return done(tx, 'busy', job, owner)
    end
    local node = {job = job, type = args[at + 2], depends = args[at + 3], prerequisites = args[at + 4], status = status,
      owner = owner}
    nodes[i], places[node] = node, {at + 6, last, created}
    at = last
  end
  local fault, job = link(nodes)
  if fault then
    return done(tx, fault, job)
  end
  write(tx.prefix .. flow, tx.seconds, {'result', '{}'}, slice(args, 5, 4 + args[4]))
  launch(tx, flow, nodes, function(node)
    local first, last, created = unpack(places[node])
    local fields = {'updated_at', tx.seconds}
    if not created then
      fields = {'created_at', tx.seconds, 'updated_at', tx.seconds, 'result', '{}'}
    end
    for i = first, last do
      fields[#fields + 1] = args[i]
    end
    if not created then
      index(tx.prefix .. node.job)
    end
    return fields
  end)
  return done(tx, 'ok', redis.call('HGETALL', tx.prefix .. flow))
end

-- Begin to follow a flow's events: for a while they are announced.
-- KEYS: 1 the engine. ARGV: 1 channel, 2 coordinator, 3 the flow, 4 ms it is announced for, 5 the event after which to
-- begin.
-- Result: 'ok', 1 if events after that one are no longer kept or 0 | 'none'.
local function flow_follow(keys, args)
  local tx, flow, after = begin(keys, args), args[3], args[5]
  local id = job_id(flow)
  local status = redis.call('HGET', tx.prefix .. flow, 'status')
  if not status then
    return done(tx, 'none')
  end
  -- Whoever looks once must not end what others follow.
  if redis.call('PTTL', tx.prefix .. 'followed:' .. id) < tonumber(args[4]) then
    redis.call('SET', tx.prefix .. 'followed:' .. id, '1', 'PX', args[4])
  end
  local events = tx.prefix .. 'events:' .. id
  if redis.call('EXISTS', events) == 0 then
    return done(tx, 'ok', status ~= 'Dispatched' and 1 or 0)
  end
  local info = redis.call('XINFO', 'STREAM', events)
  for at = 1, #info, 2 do
    if info[at] == 'max-deleted-entry-id' then
      local gone_ms, gone_seq = string.match(info[at + 1], '^(%d+)-(%d+)$')
      local ms, seq = string.match(after, '^(%d+)-(%d+)$')
      gone_ms, gone_seq, ms, seq = tonumber(gone_ms), tonumber(gone_seq), tonumber(ms), tonumber(seq)
      return done(tx, 'ok', (gone_ms > ms or (gone_ms == ms and gone_seq > seq)) and 1 or 0)
    end
  end
  return done(tx, 'ok', 0)
end

redis.register_function('hc_flow_follow', flow_follow)
redis.register_function('hc_flow_start', flow_start)
redis.register_function('hc_flow_retry', flow_retry)
redis.register_function('hc_flow_cancel', flow_cancel)
redis.register_function('hc_flow_submit', flow_submit)
