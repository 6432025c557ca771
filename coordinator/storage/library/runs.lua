-- Runs: a flow's jobs, or a message's, on their way from started to ended.

local function is_active(tx, run)
  return redis.call('HGET', tx.prefix .. run, 'x_active') == '1'
end

-- Whether another run has a job: it is being run for it, or may be. `known` remembers which runs are active.
local function is_taken(tx, run, status, owner, known)
  if not owner or owner == run then
    return false
  end
  if known[owner] == nil then
    known[owner] = is_active(tx, owner)
  end
  return (known[owner] and status ~= 'Finished' and status ~= 'Error') or status == 'Started'
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
  for _, name in ipairs({'ack:', 'result:', 'total:'}) do
    disarm(tx, name .. run)
  end
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
  local ended = {'x_active', '0', 'x_ended', tx.at, 'updated_at', tx.seconds}
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

-- Wait for a job's prerequisites no longer. `awaits`: their names, as JSON.
local function leave(tx, job, awaits)
  for _, name in ipairs(awaits and cjson.decode(awaits) or {}) do
    local waiting = tx.prefix .. 'waiting:' .. name
    redis.call('SREM', waiting, job)
    if redis.call('EXISTS', waiting) == 0 then
      redis.call('SREM', tx.prefix .. 'awaited', name)
    end
  end
end

-- Put a job of a run that ends back: it waits to be started again.
local function put_back(tx, job, status, awaits)
  local key = tx.prefix .. job
  if status == 'Dispatched' then
    redis.call('HSET', key, 'status', 'WaitingForPrerequisites', 'updated_at', tx.seconds)
    redis.call('HDEL', key, 'x_queued', 'x_retry')
    disarm(tx, 'retry:' .. job)
  elseif status == 'WaitingForPrerequisites' then
    leave(tx, job, awaits)
  end
end

-- End a run in Error. `job`: the one that failed, or nil. What has not started stays WaitingForPrerequisites.
local function fail_run(tx, run, reason, job)
  local key = tx.prefix .. run
  local ended = {'x_active', '0', 'x_ended', tx.at, 'updated_at', tx.seconds}
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
    local status, owner, awaits = unpack(redis.call('HMGET', tx.prefix .. other, 'status', 'x_run', 'x_awaits'))
    if owner == run then
      put_back(tx, other, status, awaits)
    end
  end
  retain(tx, run)
end

-- Stop the attempt at a job of a run, if it has one: the job is in Error, the runner is told.
local function stop(tx, run, job, reason)
  local key = tx.prefix .. job
  local status, owner, token, runner, attempt =
    unpack(redis.call('HMGET', key, 'status', 'x_run', 'x_token', 'x_runner', 'x_attempt'))
  if status == 'Started' and owner == run then
    redis.call('HSET', key, 'status', 'Error', 'x_failure', reason, 'x_ended', tx.at, 'updated_at', tx.seconds)
    redis.call('HDEL', key, 'x_token')
    disarm(tx, 'lease:' .. job)
    announce_cancel(tx, runner, job, token, reason)
    emit(tx, run, 'job', 's', 'Error', 'j', job_id(job), 'a', attempt, 'r', runner, 'w', reason)
  end
end

-- Stop what a run has running, and end it in Error if it has not ended.
local function cancel_run(tx, run, reason)
  local key = tx.prefix .. run
  for _, job in ipairs(split(redis.call('HGET', key, 'x_jobs'))) do
    stop(tx, run, job, reason)
  end
  if redis.call('HGET', key, 'x_active') ~= '0' then
    fail_run(tx, run, reason)
  end
end

-- What the jobs of a run wait for. A node: job, type, depends and prerequisites (JSON), status and owner as far as it has
-- them; `link` adds children, parents (their ids) and wait (how many of them are not Finished).
-- Returns nil, or what is wrong, 'changed' (not a DAG), and with which job.
local function link(nodes)
  local by_job = {}
  for _, node in ipairs(nodes) do
    node.children, node.parents, node.wait = {}, {}, 0
    by_job[node.job] = node
  end
  for _, node in ipairs(nodes) do
    if node.depends ~= '[]' then
      local caller, seen = string.match(node.job, '^job:%d+:'), {}
      for id in string.gmatch(node.depends, '%d+') do
        local parent = by_job[caller .. id]
        if not parent then
          return 'changed', node.job
        end
        if not seen[id] then
          seen[id] = true
          parent.children[#parent.children + 1] = node
          node.parents[#node.parents + 1] = id
          if parent.status ~= 'Finished' then
            node.wait = node.wait + 1
          end
        end
      end
    end
  end
  local unmet, placed = {}, {}
  for _, node in ipairs(nodes) do
    unmet[node] = #node.parents
    if #node.parents == 0 then
      placed[#placed + 1] = node
    end
  end
  local at = 0
  while at < #placed do
    at = at + 1
    for _, child in ipairs(placed[at].children) do
      unmet[child] = unmet[child] - 1
      if unmet[child] == 0 then
        placed[#placed + 1] = child
      end
    end
  end
  if #placed < #nodes then
    return 'changed', nodes[1].job
  end
end

-- The plan of a run of stored jobs. Returns it, or nil and what is wrong, 'missing', 'busy' or 'changed', and with which job.
local function read_plan(tx, run, jobs)
  local nodes, known = {}, {}
  for i, job in ipairs(jobs) do
    local depends, prerequisites, status, type, owner =
      unpack(redis.call('HMGET', tx.prefix .. job, 'depends', 'prerequisites', 'status', 'script_type', 'x_run'))
    if not depends then
      return nil, 'missing', job
    end
    if is_taken(tx, run, status, owner, known) then
      return nil, 'busy', job
    end
    nodes[i] = {job = job, depends = depends, prerequisites = prerequisites, status = status, type = type, owner = owner}
  end
  local fault, job = link(nodes)
  if fault then
    return nil, fault, job
  end
  return nodes
end

-- Wait in the sets of the prerequisites that are not satisfied yet. Returns how many.
local function await(tx, node)
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

local function names_of(nodes, filter)
  local names = {}
  for _, node in ipairs(nodes) do
    if not filter or filter(node) then
      names[#names + 1] = node.job
    end
  end
  return table.concat(names, ' ')
end

local function is_startable(node)
  return node.status ~= 'Finished' and node.status ~= 'Started'
end

local function is_leaf(node)
  return #node.children == 0
end

local function put(fields, name, value)
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end

-- Forget what a job's earlier run has left: its attempts, what it waited for, what waited for it.
local function forget_run(tx, job)
  redis.call('HDEL', tx.prefix .. job, 'x_run', 'x_token', 'x_runner', 'x_queued', 'x_started', 'x_ended', 'x_retry',
    'x_failure', 'x_attempt', 'x_next', 'x_parents', 'x_awaits')
end

-- Make a job ready to be run for `run`: with all its attempts, and waiting for what it has to wait for. Adds the engine's
-- fields to `fields`, and the job to `ready` if it waits for nothing.
local function prepare(tx, run, node, fields, ready)
  if node.owner then
    forget_run(tx, node.job)
  end
  local wait = node.wait + await(tx, node)
  put(fields, 'updated_at', tx.seconds)
  put(fields, 'x_run', run)
  if #node.children > 0 then
    put(fields, 'x_next', names_of(node.children, is_startable))
  end
  if #node.parents > 0 then
    put(fields, 'x_parents', table.concat(node.parents, ' '))
  end
  if node.prerequisites ~= '[]' then
    put(fields, 'x_awaits', node.prerequisites)
  end
  if wait > 0 then
    put(fields, 'status', 'WaitingForPrerequisites')
    put(fields, 'x_wait', wait)
  else
    put(fields, 'status', 'Dispatched')
    put(fields, 'x_queued', tx.at)
    add(ready, node.type, node.job)
  end
end

-- Start a run by its plan: jobs not Finished and not running get all their attempts, those that wait for nothing are
-- queued. `fields_of`: record fields (name, value, …) to write with each job's, nil for none.
local function launch(tx, run, nodes, fields_of)
  local ready, pending = {}, 0
  for _, node in ipairs(nodes) do
    local fields = fields_of and fields_of(node) or {}
    if node.status ~= 'Finished' then
      pending = pending + 1
    end
    if is_startable(node) then
      prepare(tx, run, node, fields, ready)
    elseif node.status == 'Started' then -- goes on; only who waits for it may have changed
      put(fields, 'x_next', names_of(node.children, is_startable))
    end
    if #fields > 0 then
      redis.call('HSET', tx.prefix .. node.job, unpack(fields))
    end
  end
  redis.call('HSET', tx.prefix .. run, 'x_active', '1', 'x_pending', pending, 'x_jobs', names_of(nodes),
    'x_leaves', names_of(nodes, is_leaf), 'x_started', tx.at, 'updated_at', tx.seconds)
  if string.sub(run, 1, 5) == 'flow:' then
    redis.call('HSET', tx.prefix .. run, 'status', 'Started')
    emit(tx, run, 'flow', 's', 'Started')
  end
  enqueue(tx, ready)
  if pending == 0 then
    finish_run(tx, run)
  end
end

-- One dependency or prerequisite of a job of a started run is met: queue it if that was the last one.
local function release(tx, run, job, ready)
  local key = tx.prefix .. job
  if redis.call('HINCRBY', key, 'x_wait', -1) > 0 then
    return
  end
  redis.call('HSET', key, 'status', 'Dispatched', 'x_queued', tx.at, 'updated_at', tx.seconds)
  emit(tx, run, 'job', 's', 'Dispatched', 'j', job_id(job))
  add(ready, redis.call('HGET', key, 'script_type'), job)
end
