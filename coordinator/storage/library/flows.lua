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
local function launch_flow(tx, flow, before)
  local plan, fault, job = read_plan(tx, flow, flow_jobs(tx, flow))
  if not plan then
    return fault, job, redis.call('HGET', tx.prefix .. job, 'x_run') or ''
  end
  if before then
    before(tx, flow, plan)
  end
  launch(tx, flow, plan)
  return WORD.OK, redis.call('HGETALL', tx.prefix .. flow)
end

-- Start a flow that was never started; one that was stays as it is.
-- Arguments: 1 the flow.
-- Result: 'ok', the record | 'none' | 'missing', job | 'changed', job: its DAG is none | 'busy', job, its run.
local function flow_start(tx, args, o)
  local flow = args[o + 1]
  local status = redis.call('HGET', tx.prefix .. flow, 'status')
  if not status then
    return WORD.NONE
  end
  if status ~= 'Dispatched' then
    return WORD.OK, redis.call('HGETALL', tx.prefix .. flow)
  end
  return launch_flow(tx, flow)
end

-- Start the unfinished part of a flow in Error again; one that is Started stays as it is.
-- Arguments, Result: as flow_start, and 'state', status: it is neither.
local function flow_retry(tx, args, o)
  local flow = args[o + 1]
  local status = redis.call('HGET', tx.prefix .. flow, 'status')
  if not status then
    return WORD.NONE
  end
  if status == 'Started' then
    return WORD.OK, redis.call('HGETALL', tx.prefix .. flow)
  end
  if status ~= 'Error' then
    return WORD.STATE, status
  end
  return launch_flow(tx, flow, reopen)
end

-- Stop a flow: running attempts are stopped, the rest never starts, it ends in Error.
-- Arguments: 1 the flow, 2 the reason.
-- Result: 'ok', the record | 'none' | 'state', status: it is Finished.
local function flow_cancel(tx, args, o)
  local flow = args[o + 1]
  local status = redis.call('HGET', tx.prefix .. flow, 'status')
  if not status then
    return WORD.NONE
  end
  if status == 'Finished' then
    return WORD.STATE, status
  end
  cancel_run(tx, flow, args[o + 2])
  return WORD.OK, redis.call('HGETALL', tx.prefix .. flow)
end

local NEW = {}

local KNOWN = {'status', 'x_run', 'created_at'}

-- Which of these records are there: record → its status, owner, created_at, and `kept`: what is stored of the members
-- that `optional` names.
local function known_of(tx, records, optional)
  local fields = slice(KNOWN, 1, #KNOWN)
  for _, name in ipairs(optional) do
    fields[#fields + 1] = name
  end
  local known = {}
  for _, record in ipairs(records) do
    local values = redis.call('HMGET', tx.prefix .. record, unpack(fields))
    if values[1] then
      local it = {status = values[1], owner = values[2], created_at = values[3], kept = {}}
      for at = #KNOWN + 1, #fields do
        it.kept[fields[at]] = values[at]
      end
      known[record] = it
    end
  end
  return known
end

-- Put the members `names` of a record behind `fields`, from the arguments of the call from `first` on. One that was not
-- given is what is stored, `kept`, or its default; it is left out if there is neither.
local function put_members(fields, names, args, first, kept, defaults)
  local count = #fields
  for i, name in ipairs(names) do
    local value = args[first + i - 1]
    if value == NOT_GIVEN then
      value = kept and kept[name] or defaults[name]
    end
    if value then
      fields[count + 1], fields[count + 2] = name, value
      count = count + 2
    end
  end
end

-- Where a member is among those of a job that may be given.
local GIVEN_AT = {}
for at = 1, #JOB_GIVEN do -- there is no ipairs yet while the library is loaded
  GIVEN_AT[JOB_GIVEN[at]] = at - 1
end

-- How many of the jobs a job depends on, `depends` (JSON), are not Finished.
local function count_unfinished(known, job, depends)
  local caller, seen, count = string.match(job, '^job:%d+:'), {}, 0
  for id in string.gmatch(depends, '%d+') do
    if not seen[id] and (known[caller .. id] or NEW).status ~= 'Finished' then
      count = count + 1
    end
    seen[id] = true
  end
  return count
end

-- Create a flow and all its jobs, which are a DAG, and start it. Of a flow that was started before nothing changes.
-- Arguments: 1 the flow, 2 its index entry, 3 x_jobs, 4 x_leaves, 5 how many jobs, then the members FLOW_GIVEN names,
-- each NOT_GIVEN if it is; for each job: the job, how many others it depends on, how many items the rest of its fields
-- are, its index entry, the members JOB_GIVEN names, the rest (name, value, …): x_next and x_parents as far as it has
-- them.
-- Result: 'new', when it was created (s) | 'ok', the record | 'busy', job, its run.
local function flow_submit(tx, args, o)
  local flow, count = args[o + 1], tonumber(args[o + 5])
  local keys, jobs, places, at = {tx.prefix .. flow}, {}, {}, o + 6 + #FLOW_GIVEN
  for i = 1, count do
    jobs[i], places[i] = args[at], at
    keys[i + 1] = tx.prefix .. args[at]
    at = at + 4 + #JOB_GIVEN + args[at + 2]
  end
  local was, known = NEW, nil
  if exists_any(keys) then
    was = known_of(tx, {flow}, FLOW_OPTIONAL)[flow] or NEW
    if was.status and was.status ~= 'Dispatched' then
      return WORD.OK, redis.call('HGETALL', tx.prefix .. flow)
    end
    known = known_of(tx, jobs, JOB_OPTIONAL)
    for _, job in ipairs(jobs) do
      local it = known[job]
      if it and is_taken(tx, flow, it.status, it.owner) then
        return WORD.BUSY, job, it.owner
      end
    end
  end
  local new, ready, pending = {}, {}, count
  for i, job in ipairs(jobs) do
    local at = places[i]
    local members = at + 4
    local depends, prerequisites = args[members + GIVEN_AT.depends], args[members + GIVEN_AT.prerequisites]
    local status, name, value, owner, created_at = nil, nil, nil, flow, tx.seconds
    local it = known and known[job]
    if it then
      created_at = it.created_at
    else
      put(new, '0', args[at + 3])
    end
    if not it or is_startable(it.status) then
      if it and it.owner then
        forget_run(tx, job)
      end
      local wait = known and count_unfinished(known, job, depends) or tonumber(args[at + 1])
      status, name, value = begin_job(tx, job, args[members + GIVEN_AT.script_type], prerequisites, wait, ready)
    else
      status, name, value, owner = it.status, 'updated_at', tx.seconds, it.owner or flow
      pending = status == 'Finished' and pending - 1 or pending
    end
    local fields = {'status', status, 'x_run', owner, 'created_at', created_at, 'updated_at', tx.seconds, name, value}
    put_members(fields, JOB_GIVEN, args, members, it and it.kept, JOB_DEFAULTS)
    if prerequisites ~= '[]' then
      put(fields, 'x_awaits', prerequisites)
    end
    local rest, before = members + #JOB_GIVEN, #fields
    for place = rest, rest + args[at + 2] - 1 do
      before = before + 1
      fields[before] = args[place]
    end
    redis.call('HSET', keys[i + 1], unpack(fields))
  end
  local fields = {'status', 'Started', 'x_active', '1', 'x_pending', pending, 'x_started', tx.at, 'x_jobs', args[o + 3],
    'x_leaves', args[o + 4], 'created_at', was.created_at or tx.seconds, 'updated_at', tx.seconds}
  put_members(fields, FLOW_GIVEN, args, o + 6, was.kept, FLOW_DEFAULTS)
  redis.call('HSET', keys[1], unpack(fields))
  if #new > 0 then
    call_each('ZADD', tx.prefix .. 'index:job', new)
  end
  if not was.status then
    redis.call('ZADD', tx.prefix .. 'index:flow', '0', args[o + 2])
  end
  begin_run(tx, flow, ready, pending, args[o + 4])
  if known or pending == 0 then
    return WORD.OK, redis.call('HGETALL', keys[1])
  end
  return WORD.NEW, tx.seconds
end

-- Whether event id `a` comes before `b`.
local function is_before(a, b)
  local a_ms, a_number = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_number = string.match(b, '^(%d+)-(%d+)$')
  a_ms, a_number, b_ms, b_number = tonumber(a_ms), tonumber(a_number), tonumber(b_ms), tonumber(b_number)
  return a_ms < b_ms or (a_ms == b_ms and a_number < b_number)
end

-- Whether events of a flow after event `after` are no longer kept: some are not, and `after` is older than those that
-- are.
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
    return WORD.NONE
  end
  return WORD.OK, has_missed(tx, flow, args[o + 2]) and 1 or 0
end

-- Begin to follow a flow's events: for a while they are announced.
-- Arguments: 1 the flow, 2 ms it is announced for, 3 the event after which to begin.
-- Result: as flow_missed.
local function flow_follow(tx, args, o)
  local flow = args[o + 1]
  if redis.call('EXISTS', tx.prefix .. flow) == 0 then
    return WORD.NONE
  end
  redis.call('SET', tx.prefix .. 'followed:' .. job_id(flow), '1', 'PX', args[o + 2])
  return WORD.OK, has_missed(tx, flow, args[o + 3]) and 1 or 0
end

register('hc_flow_missed', flow_missed)
register('hc_flow_follow', flow_follow)
register('hc_flow_start', flow_start)
register('hc_flow_retry', flow_retry)
register('hc_flow_cancel', flow_cancel)
register('hc_flow_submit', flow_submit)
