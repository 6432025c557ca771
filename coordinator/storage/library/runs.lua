-- Runs: a flow's jobs, or a message's, on their way from started to ended.

local function is_active(tx, run)
  return redis.call('HGET', tx.prefix .. run, 'x_active') == '1'
end

-- Whether another run has this job: it is being run for it, or may be.
local function is_taken(tx, run, job, known)
  local status, other = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_run'))
  if not other or other == run then
    return false
  end
  if known[other] == nil then
    known[other] = is_active(tx, other)
  end
  return (known[other] and status ~= 'Finished' and status ~= 'Error') or status == 'Started'
end

-- Delete an ended run's events, and its records too, once they have been kept long enough.
local function retain(tx, run)
  local events_ttl, retention = string.match(tx.coordinator, ' (%d+) (%d+)$')
  local flow = string.match(run, '^flow:(%d+)$')
  if flow then
    redis.call('PEXPIRE', tx.prefix .. 'events:' .. flow, events_ttl)
  end
  if retention ~= '0' then
    arm(tx, 'keep:' .. run, tx.now + retention)
  end
end

local function disarm_message(tx, run)
  redis.call('ZREM', tx.prefix .. 'timers', 'ack:' .. run, 'result:' .. run, 'total:' .. run)
end

-- The result of a flow: each leaf job's id → its result map, as JSON text.
local function leaf_results(tx, leaves)
  local entries = {}
  for _, leaf in ipairs(split(leaves)) do
    local result = redis.call('HGET', tx.prefix .. leaf, 'result') or '{}'
    entries[#entries + 1] = '"' .. job_id(leaf) .. '":' .. cjson.encode(result)
  end
  return '{' .. table.concat(entries, ',') .. '}'
end

local function finish_run(tx, run)
  local key = tx.prefix .. run
  local ended = {'x_active', '0', 'x_ended', whole(tx.now), 'updated_at', tx.seconds}
  if string.sub(run, 1, 5) == 'flow:' then
    local leaves = redis.call('HGET', key, 'x_leaves')
    redis.call('HSET', key, 'status', 'Finished', 'result', leaf_results(tx, leaves), unpack(ended))
    emit(tx, run, 'flow', 's', 'Finished')
  else
    redis.call('HSET', key, 'status', 'Processed', 'transport_status', 'Read', unpack(ended))
    disarm_message(tx, run)
  end
  redis.call('HDEL', key, 'x_pending', 'x_leaves')
  retain(tx, run)
end

-- End a run in Error. `job`: the one that failed, or nil. What has not started stays WaitingForPrerequisites.
local function fail_run(tx, run, reason, job)
  local key = tx.prefix .. run
  local ended = {'x_active', '0', 'x_ended', whole(tx.now), 'updated_at', tx.seconds}
  if string.sub(run, 1, 5) == 'flow:' then
    local result = '{"error":' .. cjson.encode(reason) .. (job and ',"job":"' .. job_id(job) .. '"}' or '}')
    redis.call('HSET', key, 'status', 'Error', 'result', result, unpack(ended))
    emit(tx, run, 'flow', 's', 'Error', 'w', reason)
  else
    redis.call('HSET', key, 'status', 'Error', 'transport_status', 'Failed', unpack(ended))
    redis.call('RPUSH', tx.prefix .. 'logs:' .. string.sub(run, 9), reason)
    disarm_message(tx, run)
  end
  for _, other in ipairs(split(redis.call('HGET', key, 'x_jobs'))) do
    if redis.call('HGET', tx.prefix .. other, 'status') == 'Dispatched' then
      redis.call('HSET', tx.prefix .. other, 'status', 'WaitingForPrerequisites')
      redis.call('HDEL', tx.prefix .. other, 'x_queued', 'x_retry')
      disarm(tx, 'retry:' .. other)
    end
  end
  retain(tx, run)
end

-- Stop what a run has running, and end it in Error if it has not ended.
local function cancel_run(tx, run, reason)
  local key = tx.prefix .. run
  for _, job in ipairs(split(redis.call('HGET', key, 'x_jobs'))) do
    local status, token, runner = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_token', 'x_runner'))
    if status == 'Started' then
      redis.call('HSET', tx.prefix .. job, 'status', 'Error', 'x_failure', reason, 'x_ended', whole(tx.now), 'updated_at', tx.seconds)
      redis.call('HDEL', tx.prefix .. job, 'x_token')
      disarm(tx, 'lease:' .. job)
      announce_cancel(tx, runner, job, token, reason)
      emit(tx, run, 'job', 's', 'Error', 'j', job_id(job), 'w', reason)
    end
  end
  if redis.call('HGET', key, 'x_active') ~= '0' then
    fail_run(tx, run, reason)
  end
end

-- What the jobs of a run wait for. Returns a plan, or nil and why there is none: 'missing', 'busy' or 'changed' (not a
-- DAG any more), and the job.
local function read_plan(tx, run, jobs)
  local plan, known = {}, {}
  for i, job in ipairs(jobs) do
    local depends, prerequisites, status, type, awaits =
      unpack(redis.call('HMGET', tx.prefix .. job, 'depends', 'prerequisites', 'status', 'script_type', 'x_awaits'))
    if not depends then
      return nil, 'missing', job
    end
    if is_taken(tx, run, job, known) then
      return nil, 'busy', job
    end
    plan[i] = {job = job, status = status, type = type, awaits = awaits, next = {}, parents = 0, wait = 0,
      prerequisites = prerequisites, depends = depends}
    plan[job] = plan[i]
  end
  for i, node in ipairs(plan) do
    local caller = string.match(node.job, '^job:%d+:')
    local seen = {}
    for id in string.gmatch(node.depends, '%d+') do
      local parent = plan[caller .. id]
      if not parent then
        return nil, 'changed', node.job
      end
      if not seen[id] then
        seen[id] = true
        parent.next[#parent.next + 1] = node.job
        node.parents = node.parents + 1
        if parent.status ~= 'Finished' then
          node.wait = node.wait + 1
        end
      end
    end
  end
  local unmet, ready = {}, {}
  for i, node in ipairs(plan) do
    unmet[node.job] = node.parents
    if node.parents == 0 then
      ready[#ready + 1] = node
    end
  end
  local placed = 0
  while placed < #ready do
    placed = placed + 1
    for _, child in ipairs(ready[placed].next) do
      unmet[child] = unmet[child] - 1
      if unmet[child] == 0 then
        ready[#ready + 1] = plan[child]
      end
    end
  end
  if placed < #plan then
    return nil, 'changed', plan[1].job
  end
  return plan
end

-- Wait in the sets of the prerequisites that are not satisfied yet. Returns how many.
local function await(tx, node)
  for _, name in ipairs(node.awaits and node.awaits ~= '' and cjson.decode(node.awaits) or {}) do
    redis.call('SREM', tx.prefix .. 'waiting:' .. name, node.job)
  end
  if node.prerequisites == '[]' then
    return 0
  end
  local count, seen = 0, {}
  for _, name in ipairs(cjson.decode(node.prerequisites)) do
    if not seen[name] and redis.call('HEXISTS', tx.prefix .. 'prerequisites', name) == 0 then
      redis.call('SADD', tx.prefix .. 'waiting:' .. name, node.job)
      redis.call('SADD', tx.prefix .. 'awaited', name)
      count = count + 1
    end
    seen[name] = true
  end
  return count
end

-- Start a run by its plan: jobs not Finished and not running get all their attempts, those that wait for nothing are
-- queued.
local function launch(tx, run, plan)
  local ready, pending, leaves, jobs = {}, 0, {}, {}
  for i, node in ipairs(plan) do
    local key = tx.prefix .. node.job
    jobs[i] = node.job
    if #node.next == 0 then
      leaves[#leaves + 1] = node.job
    end
    if node.status ~= 'Finished' then
      pending = pending + 1
    end
    if node.status == 'Started' then
      redis.call('HSET', key, 'x_next', table.concat(node.next, ' '))
    elseif node.status ~= 'Finished' then
      local wait = node.wait + await(tx, node)
      local status = wait == 0 and 'Dispatched' or 'WaitingForPrerequisites'
      redis.call('HSET', key, 'status', status, 'updated_at', tx.seconds, 'x_run', run, 'x_wait', wait, 'x_attempt', 0,
        'x_next', table.concat(node.next, ' '), 'x_awaits', node.prerequisites == '[]' and '' or node.prerequisites)
      redis.call('HDEL', key, 'x_token', 'x_last', 'x_runner', 'x_queued', 'x_started', 'x_ended', 'x_retry', 'x_failure')
      if wait == 0 then
        redis.call('HSET', key, 'x_queued', whole(tx.now))
        add(ready, node.type, node.job)
      end
    end
  end
  redis.call('HSET', tx.prefix .. run, 'x_active', '1', 'x_pending', pending, 'x_jobs', table.concat(jobs, ' '),
    'x_leaves', table.concat(leaves, ' '), 'x_started', whole(tx.now), 'updated_at', tx.seconds)
  redis.call('HDEL', tx.prefix .. run, 'x_ended')
  disarm(tx, 'keep:' .. run)
  if string.sub(run, 1, 5) == 'flow:' then
    local flow = string.sub(run, 6)
    redis.call('PERSIST', tx.prefix .. 'events:' .. flow)
    redis.call('HSET', tx.prefix .. run, 'status', 'Started')
    emit(tx, run, 'flow', 's', 'Started')
  end
  enqueue(tx, ready)
  if pending == 0 then
    finish_run(tx, run)
  end
end

-- One dependency or prerequisite of a job is met: queue it if that was the last one and its run still goes on.
local function release(tx, job, ready)
  local key = tx.prefix .. job
  local status, run, type = unpack(redis.call('HMGET', key, 'status', 'x_run', 'script_type'))
  if status ~= 'WaitingForPrerequisites' or not run then
    return
  end
  if redis.call('HINCRBY', key, 'x_wait', -1) > 0 or not is_active(tx, run) then
    return
  end
  redis.call('HSET', key, 'status', 'Dispatched', 'x_queued', whole(tx.now), 'updated_at', tx.seconds)
  emit(tx, run, 'job', 's', 'Dispatched', 'j', job_id(job))
  add(ready, type, job)
end
