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
    return fault, job, redis.call('HGET', tx.prefix .. job, 'x_run') or ''
  end
  if before then
    before(tx, flow, plan)
  end
  launch(tx, flow, plan, {'updated_at', tx.seconds})
  return 'ok', redis.call('HGETALL', tx.prefix .. flow)
end

-- Start a flow that was never started; one that was stays as it is.
-- Arguments: 1 the flow.
-- Result: 'ok', the record | 'none' | 'missing', job | 'changed', job: its DAG is none | 'busy', job, its run.
local function flow_start(tx, args, o)
  local flow = args[o + 1]
  local status = redis.call('HGET', tx.prefix .. flow, 'status')
  if not status then
    return 'none'
  end
  if status ~= 'Dispatched' then
    return 'ok', redis.call('HGETALL', tx.prefix .. flow)
  end
  return go(tx, flow)
end

-- Start the unfinished part of a flow in Error again; one that is Started stays as it is.
-- Arguments, Result: as flow_start, and 'state', status: it is neither.
local function flow_retry(tx, args, o)
  local flow = args[o + 1]
  local status = redis.call('HGET', tx.prefix .. flow, 'status')
  if not status then
    return 'none'
  end
  if status == 'Started' then
    return 'ok', redis.call('HGETALL', tx.prefix .. flow)
  end
  if status ~= 'Error' then
    return 'state', status
  end
  return go(tx, flow, reopen)
end

-- Stop a flow: running attempts are stopped, the rest never starts, it ends in Error.
-- Arguments: 1 the flow, 2 the reason.
-- Result: 'ok', the record | 'none' | 'state', status: it is Finished.
local function flow_cancel(tx, args, o)
  local flow = args[o + 1]
  local status = redis.call('HGET', tx.prefix .. flow, 'status')
  if not status then
    return 'none'
  end
  if status == 'Finished' then
    return 'state', status
  end
  cancel_run(tx, flow, args[o + 2])
  return 'ok', redis.call('HGETALL', tx.prefix .. flow)
end

-- Create a flow and all its jobs, and start it. Of a flow that was started before nothing changes.
-- Arguments: 1 the flow, 2 how many items its fields are, then those (name, value, …), then how many jobs; for each: the job, its script_type, depends, prerequisites, how many items its fields are, the
-- items.
-- Result: 'ok', the record | 'busy', job, its run | 'changed', job: the jobs are no DAG.
local function flow_submit(tx, args, o)
  local flow = args[o + 1]
  local status = redis.call('HGET', tx.prefix .. flow, 'status')
  if status and status ~= 'Dispatched' then
    return 'ok', redis.call('HGETALL', tx.prefix .. flow)
  end
  local at = o + 3 + args[o + 2]
  local nodes, places, keys = {}, {}, {}
  for i = 1, args[at] do
    local last = at + 5 + args[at + 5]
    nodes[i] = {job = args[at + 1], type = args[at + 2], depends = args[at + 3], prerequisites = args[at + 4]}
    places[nodes[i]] = {at + 6, last}
    keys[i] = tx.prefix .. nodes[i].job
    at = last
  end
  if exists_any(keys) then
    for _, node in ipairs(nodes) do
      node.status, node.owner = unpack(redis.call('HMGET', tx.prefix .. node.job, 'status', 'x_run'))
      if is_taken(tx, flow, node.status, node.owner) then
        return 'busy', node.job, node.owner
      end
    end
  end
  local fault, job = link(nodes)
  if fault then
    return fault, job
  end
  local new = {}
  local function members(record, is_new, first, last)
    local fields = {'updated_at', tx.seconds}
    if is_new then
      new[#new + 1] = tx.prefix .. record
      fields = {'updated_at', tx.seconds, 'created_at', tx.seconds, 'result', '{}'}
    end
    for i = first, last do
      fields[#fields + 1] = args[i]
    end
    return fields
  end
  launch(tx, flow, nodes, members(flow, not status, o + 3, o + 2 + args[o + 2]), function(node)
    return members(node.job, not node.status, unpack(places[node]))
  end)
  index(new)
  return 'ok', redis.call('HGETALL', tx.prefix .. flow)
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
-- Arguments: 1 the flow, 2 the event after which they are asked for.
-- Result: 'ok', 1 if some are not or 0 | 'none'.
local function flow_missed(tx, args, o)
  local flow = args[o + 1]
  if redis.call('EXISTS', tx.prefix .. flow) == 0 then
    return 'none'
  end
  return 'ok', has_missed(tx, flow, args[o + 2]) and 1 or 0
end

-- Begin to follow a flow's events: for a while they are announced.
-- Arguments: 1 the flow, 2 ms it is announced for, 3 the event after which to begin.
-- Result: as flow_missed.
local function flow_follow(tx, args, o)
  local flow = args[o + 1]
  if redis.call('EXISTS', tx.prefix .. flow) == 0 then
    return 'none'
  end
  redis.call('SET', tx.prefix .. 'followed:' .. job_id(flow), '1', 'PX', args[o + 2])
  return 'ok', has_missed(tx, flow, args[o + 3]) and 1 or 0
end

register('hc_flow_missed', flow_missed)
register('hc_flow_follow', flow_follow)
register('hc_flow_start', flow_start)
register('hc_flow_retry', flow_retry)
register('hc_flow_cancel', flow_cancel)
register('hc_flow_submit', flow_submit)
