-- Runs: a flow's jobs, or a message's, on their way from started to ended.

local function is_active(tx, run)
  if tx.active[run] == nil then
    tx.active[run] = redis.call('HGET', tx.prefix .. run, 'x_active') == '1'
  end
  return tx.active[run]
end

-- Whether another run has a job: it is being run for it, or may be.
local function is_taken(tx, run, status, owner)
  if not owner or owner == run then
    return false
  end
  return status == 'Started' or (status ~= 'Finished' and status ~= 'Error' and is_active(tx, owner))
end

-- Delete an ended run's events, and its records too, once they have been kept long enough.
local function retain(tx, run)
  local events_ttl, retention = string.match(tx.coordinator, ' (%d+) (%d+) %d+$')
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
    local result = tx.result_of[leaf] or redis.call('HGET', tx.prefix .. leaf, 'result') or '{}'
    entries[#entries + 1] = '"' .. job_id(leaf) .. '":' .. cjson.encode(result)
  end
  return '{' .. table.concat(entries, ',') .. '}'
end

-- Every job of a run has finished. `leaves`: those no other waits for.
local function finish_run(tx, run, leaves)
  local key = tx.prefix .. run
  tx.active[run] = false
  local ended = {'x_active', '0', 'x_pending', '0', 'x_leaves', '', 'x_ended', tx.at, 'updated_at', tx.seconds}
  if string.sub(run, 1, 5) == 'flow:' then
    redis.call('HSET', key, 'status', 'Finished', 'result', leaf_results(tx, leaves), unpack(ended))
    emit_flow(tx, run, 'Finished')
  else
    redis.call('HSET', key, 'status', 'Processed', 'transport_status', 'Read', unpack(ended))
    disarm_message(tx, run)
  end
  retain(tx, run)
end

-- Wait for a job's prerequisites no longer. `awaits`: their names, as JSON.
local function stop_awaiting(tx, job, awaits)
  for _, name in ipairs(awaits and cjson.decode(awaits) or {}) do
    local waiting = tx.prefix .. 'waiting:' .. name
    redis.call('SREM', waiting, job)
    if redis.call('EXISTS', waiting) == 0 then
      redis.call('SREM', tx.prefix .. 'awaited', name)
    end
  end
end

-- Put a job of a run that ends back: it waits to be started again.
local function reset_job(tx, job, status, awaits)
  local key = tx.prefix .. job
  if status == 'Dispatched' then
    redis.call('HSET', key, 'status', 'WaitingForPrerequisites', 'updated_at', tx.seconds)
    redis.call('HDEL', key, 'x_queued', 'x_retry')
    disarm(tx, 'retry:' .. job)
  elseif status == 'WaitingForPrerequisites' then
    stop_awaiting(tx, job, awaits)
  end
end

-- End a run in Error. `job`: the one that failed, or nil. What has not started stays WaitingForPrerequisites.
local function fail_run(tx, run, reason, job)
  local key = tx.prefix .. run
  tx.active[run] = false
  local ended = {'x_active', '0', 'x_ended', tx.at, 'updated_at', tx.seconds}
  if string.sub(run, 1, 5) == 'flow:' then
    local result = '{"error":' .. cjson.encode(reason) .. (job and ',"job":"' .. job_id(job) .. '"}' or '}')
    redis.call('HSET', key, 'status', 'Error', 'result', result, unpack(ended))
    emit_flow(tx, run, 'Error', because(reason))
  else
    redis.call('HSET', key, 'status', 'Error', 'transport_status', 'Failed', unpack(ended))
    redis.call('RPUSH', tx.prefix .. 'logs:' .. string.sub(run, 9), reason)
    disarm_message(tx, run)
  end
  for _, other in ipairs(split(redis.call('HGET', key, 'x_jobs'))) do
    local status, owner, awaits = unpack(redis.call('HMGET', tx.prefix .. other, 'status', 'x_run', 'x_awaits'))
    if owner == run then
      reset_job(tx, other, status, awaits)
    end
  end
  retain(tx, run)
end

-- The last attempt at a job from its field x_attempt, everything as text: number, token, runner, lease and deadline
-- (ms), session. nil if there was none, or nothing is known of it but its number.
local function attempt_of(field)
  local number, token, runner, lease, deadline, session =
    string.match(field or '', '^(%d+) (%S+) (%d+) (%d+) %d+ (%d+) (.*)$')
  return number
    and {number = number, token = token, runner = runner, lease = lease, deadline = deadline, session = session}
end

-- Stop the attempt at a job of a run, if it has one: the job is in Error, the runner is told.
local function stop(tx, run, job, reason)
  local key = tx.prefix .. job
  local status, owner, field = unpack(redis.call('HMGET', key, 'status', 'x_run', 'x_attempt'))
  if status == 'Started' and owner == run then
    local attempt = attempt_of(field)
    redis.call('HSET', key, 'status', 'Error', 'x_failure', reason, 'x_ended', tx.at, 'updated_at', tx.seconds)
    disarm(tx, 'lease:' .. job)
    announce_cancel(tx, attempt.runner, job, attempt.token, reason)
    emit_job(tx, run, job, 'Error', attempt, because(reason))
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

-- What the jobs of a run wait for. A node: job, type, depends and prerequisites (JSON), status and owner as far as it
-- has them; `link` adds children, parents (their ids) and wait (how many of them are not Finished).
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
          return WORD.CHANGED, node.job
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
    return WORD.CHANGED, nodes[1].job
  end
end

-- The plan of a run of stored jobs. Returns it, or nil and what is wrong, 'missing', 'busy' or 'changed', and with
-- which job.
local function read_plan(tx, run, jobs)
  local nodes = {}
  for i, job in ipairs(jobs) do
    local depends, prerequisites, status, type, owner =
      unpack(redis.call('HMGET', tx.prefix .. job, 'depends', 'prerequisites', 'status', 'script_type', 'x_run'))
    if not depends then
      return nil, WORD.MISSING, job
    end
    if is_taken(tx, run, status, owner) then
      return nil, WORD.BUSY, job
    end
    nodes[i] =
      {job = job, depends = depends, prerequisites = prerequisites, status = status, type = type, owner = owner}
  end
  local fault, job = link(nodes)
  if fault then
    return nil, fault, job
  end
  return nodes
end

-- Wait in the sets of the prerequisites (JSON) that are not satisfied yet. Returns how many.
local function await(tx, job, prerequisites)
  if prerequisites == '[]' then
    return 0
  end
  local count, seen = 0, {}
  for _, name in ipairs(cjson.decode(prerequisites)) do
    if not seen[name] and redis.call('HEXISTS', tx.prefix .. 'prerequisites', name) == 0 then
      redis.call('SADD', tx.prefix .. 'waiting:' .. name, job)
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

local function is_startable(status)
  return status ~= 'Finished' and status ~= 'Started'
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
  redis.call('HDEL', tx.prefix .. job, 'x_run', 'x_queued', 'x_ended', 'x_retry', 'x_failure', 'x_attempt', 'x_next',
    'x_parents', 'x_awaits')
end

-- What a job that starts to wait for `wait` others, and its prerequisites, is in: its status, and the name and value of
-- the field that says how many or since when. Adds it to `ready` if it waits for nothing.
local function begin_job(tx, job, type, prerequisites, wait, ready)
  wait = wait + await(tx, job, prerequisites)
  if wait > 0 then
    return 'WaitingForPrerequisites', 'x_wait', wait
  end
  add(ready, type, job)
  return 'Dispatched', 'x_queued', tx.at
end

-- A run has started: its jobs that wait for nothing are queued.
local function begin_run(tx, run, ready, pending, leaves)
  tx.active[run] = true
  if string.sub(run, 1, 5) == 'flow:' then
    emit_flow(tx, run, 'Started')
  end
  enqueue(tx, ready)
  if pending == 0 then
    finish_run(tx, run, leaves)
  end
end

-- Start a run of stored jobs by its plan: those not Finished and not running get all their attempts.
local function launch(tx, run, nodes)
  local ready, pending = {}, 0
  for _, node in ipairs(nodes) do
    local key, fields = tx.prefix .. node.job, {}
    if is_startable(node.status) then
      if node.owner then
        forget_run(tx, node.job)
      end
      local status, name, value = begin_job(tx, node.job, node.type, node.prerequisites, node.wait, ready)
      fields = {'updated_at', tx.seconds, 'x_run', run, 'status', status, name, value}
      if #node.parents > 0 then
        put(fields, 'x_parents', table.concat(node.parents, ' '))
      end
      if node.prerequisites ~= '[]' then
        put(fields, 'x_awaits', node.prerequisites)
      end
    end
    if node.status ~= 'Finished' then
      pending = pending + 1
      if #node.children > 0 or node.status == 'Started' then -- of one that is running, others may wait now
        put(fields, 'x_next', names_of(node.children))
      end
    end
    if #fields > 0 then
      redis.call('HSET', key, unpack(fields))
    end
  end
  local leaves = names_of(nodes, is_leaf)
  local fields = {'updated_at', tx.seconds, 'x_active', '1', 'x_pending', pending, 'x_jobs', names_of(nodes),
    'x_leaves', leaves, 'x_started', tx.at}
  if string.sub(run, 1, 5) == 'flow:' then
    put(fields, 'status', 'Started')
  end
  redis.call('HSET', tx.prefix .. run, unpack(fields))
  begin_run(tx, run, ready, pending, leaves)
end

-- So many dependencies or prerequisites of a job are met: queue it if it still waits, for `run`, and those were the
-- last.
local function release(tx, run, job, count, ready)
  local key = tx.prefix .. job
  local status, owner, wait, type = unpack(redis.call('HMGET', key, 'status', 'x_run', 'x_wait', 'script_type'))
  if status ~= 'WaitingForPrerequisites' or owner ~= run then
    return
  end
  wait = wait - count
  if wait > 0 then
    redis.call('HSET', key, 'x_wait', wait)
    return
  end
  redis.call('HSET', key, 'x_wait', '0', 'status', 'Dispatched', 'x_queued', tx.at, 'updated_at', tx.seconds)
  emit_job(tx, run, job, 'Dispatched')
  add(ready, type, job)
end

-- A job of a run has finished, and these waited for it. What comes of that is for `flush_finished`, so that many jobs
-- of one run that finish at once are counted off at once.
local function note_finished(tx, run, waiting)
  local count = tx.count_of[run]
  if not count then
    count = 0
    tx.ended[#tx.ended + 1] = run
    tx.freed[run] = {}
  end
  tx.count_of[run] = count + 1
  if waiting then
    local freed = tx.freed[run]
    for job in string.gmatch(waiting, '%S+') do
      local met = tx.met_of[job]
      if not met then
        met = 0
        freed[#freed + 1] = job
      end
      tx.met_of[job] = met + 1
    end
  end
end

-- Queue the jobs that waited for those counted off, and end the runs of which those were the last.
local function flush_finished(tx)
  if #tx.ended == 0 then
    return
  end
  local ready = {}
  for _, run in ipairs(tx.ended) do
    local key = tx.prefix .. run
    local active, pending, leaves = unpack(redis.call('HMGET', key, 'x_active', 'x_pending', 'x_leaves'))
    pending = pending - tx.count_of[run]
    if active == '1' then
      for _, job in ipairs(tx.freed[run]) do
        release(tx, run, job, tx.met_of[job], ready)
      end
    end
    -- Of a run that has failed at least the job that did is never counted off.
    if pending == 0 then
      finish_run(tx, run, leaves)
    else
      redis.call('HSET', key, 'x_pending', pending)
    end
  end
  enqueue(tx, ready)
  tx.ended, tx.count_of, tx.freed, tx.met_of = {}, {}, {}, {}
end

-- Wake those who follow the flows that have new events.
local function announce_events(tx)
  local marks = {}
  for flow in pairs(tx.events) do
    marks[#marks + 1] = tx.prefix .. 'followed:' .. job_id(flow)
  end
  if exists_any(marks) then
    for _, mark in ipairs(marks) do
      if redis.call('EXISTS', mark) == 1 then
        announce(tx, EFFECT.EVENTS .. job_id(mark))
      end
    end
  end
end

local TRANSITIONS = {}

-- What is left to do at the end of a call, and its reply.
local function close(tx, result)
  flush_finished(tx)
  set_timers(tx)
  announce_events(tx)
  if #tx.news > 0 then
    redis.call('PUBLISH', tx.channel, tx.coordinator .. '\n' .. table.concat(tx.news, '\n'))
  end
  if tx.due then
    tx.effects[#tx.effects + 1] = EFFECT.DUE .. math.max(tx.due - tx.now, 0)
  end
  return {result, tx.effects}
end

local function register(name, transition)
  TRANSITIONS[name] = transition
  redis.register_function(name, function(keys, args)
    local tx = begin(keys, args)
    return close(tx, {transition(tx, args, 2, #args)})
  end)
end

local function attempt_transition(transition, ...)
  return {transition(...)}
end

-- Several transitions, each as if it was called by itself; a fault of one is its result and concerns no other.
-- KEYS: 1 the engine. ARGV: 1 channel, 2 coordinator, then for each: its function, how many arguments of its own,
-- those. Returns: {their results, the effects of all}. A result of one text is that text, for every table costs the
-- server much. One may be 'fault', what the server said.
local function many(keys, args)
  local tx = begin(keys, args)
  local results, at, before = {}, 3, nil
  while at <= #args do
    local name, o = args[at], at + 1
    if before ~= name then
      flush_finished(tx)
    end
    local went_well, result = pcall(attempt_transition, TRANSITIONS[name], tx, args, o, o + args[o])
    if not went_well then
      result = {WORD.FAULT, type(result) == 'table' and result.err or tostring(result)}
    end
    results[#results + 1] = #result == 1 and type(result[1]) == 'string' and result[1] or result
    before, at = name, o + args[o] + 1
  end
  return close(tx, results)
end

redis.register_function('hc_many', many)
register('hc_record_upsert', record_upsert)
register('hc_message_upsert', message_upsert)
