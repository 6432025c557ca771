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

-- Make a flow in Error one that goes on: what it keeps only because it had ended, and the jobs it no longer has.
local function reopen(tx, flow, plan)
  local events = tx.prefix .. 'events:' .. job_id(flow)
  if redis.call('EXISTS', events) == 1 then
    redis.call('PERSIST', events)
  else
    redis.call('HSET', tx.prefix .. flow, 'x_forgotten', '1')
  end
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
      forget_run(tx, job)
    end
  end
end

-- Launch a flow by the plan of its jobs, if it has one; `before` is given the plan first.
-- Result: as flow_start.
local function go(tx, flow, before)
  local plan, fault, job = read_plan(tx, flow, flow_jobs(tx, flow))
  if not plan then
    return done(tx, fault, job, redis.call('HGET', tx.prefix .. job, 'x_run') or '')
  end
  if before then
    before(tx, flow, plan)
  end
  launch(tx, flow, plan)
  return done(tx, 'ok', redis.call('HGETALL', tx.prefix .. flow))
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
  return go(tx, flow)
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
  return go(tx, flow, reopen)
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

-- Whether event id `a` comes before `b`.
local function is_before(a, b)
  local a_ms, a_number = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_number = string.match(b, '^(%d+)-(%d+)$')
  a_ms, a_number, b_ms, b_number = tonumber(a_ms), tonumber(a_number), tonumber(b_ms), tonumber(b_number)
  return a_ms < b_ms or (a_ms == b_ms and a_number < b_number)
end

-- Whether events of a flow after event `after` are no longer kept: some are not, and `after` is older than those that are.
local function has_missed(tx, flow, after)
  local events = tx.prefix .. 'events:' .. job_id(flow)
  local status, forgotten = unpack(redis.call('HMGET', tx.prefix .. flow, 'status', 'x_forgotten'))
  if redis.call('EXISTS', events) == 0 then
    return status ~= 'Dispatched'
  end
  local info, reply = {}, redis.call('XINFO', 'STREAM', events)
  for at = 1, #reply, 2 do
    info[reply[at]] = reply[at + 1]
  end
  local is_partial = forgotten or info['entries-added'] > info['length']
  return is_partial and is_before(after, info['first-entry'][1])
end

-- Whether events of a flow are no longer kept.
-- KEYS: 1 the engine. ARGV: 1 channel, 2 coordinator, 3 the flow, 4 the event after which they are asked for.
-- Result: 'ok', 1 if some are not or 0 | 'none'.
local function flow_missed(keys, args)
  local tx, flow = begin(keys, args), args[3]
  if redis.call('EXISTS', tx.prefix .. flow) == 0 then
    return done(tx, 'none')
  end
  return done(tx, 'ok', has_missed(tx, flow, args[4]) and 1 or 0)
end

-- Begin to follow a flow's events: for a while they are announced.
-- KEYS: 1 the engine. ARGV: 1 channel, 2 coordinator, 3 the flow, 4 ms it is announced for, 5 the event after which to
-- begin.
-- Result: as flow_missed.
local function flow_follow(keys, args)
  local tx, flow = begin(keys, args), args[3]
  if redis.call('EXISTS', tx.prefix .. flow) == 0 then
    return done(tx, 'none')
  end
  redis.call('SET', tx.prefix .. 'followed:' .. job_id(flow), '1', 'PX', args[4])
  return done(tx, 'ok', has_missed(tx, flow, args[5]) and 1 or 0)
end

redis.register_function('hc_flow_missed', flow_missed)
redis.register_function('hc_flow_follow', flow_follow)
redis.register_function('hc_flow_start', flow_start)
redis.register_function('hc_flow_retry', flow_retry)
redis.register_function('hc_flow_cancel', flow_cancel)
redis.register_function('hc_flow_submit', flow_submit)
