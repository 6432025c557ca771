-- Flows: started, retried, cancelled, submitted, deleted.

-- The names of the jobs a flow lists, each once.
local function flow_jobs(caller, listed)
  local jobs, seen = {}, {}
  for id in string.gmatch(listed, '%d+') do
    if not seen[id] then
      seen[id] = true
      jobs[#jobs + 1] = 'job:' .. caller .. ':' .. id
    end
  end
  return jobs
end

-- Make a flow in Error one that goes on, without the jobs it no longer has.
local function go_on_with(tx, flow, plan)
  reopen(tx, flow)
  local kept = {}
  for _, node in ipairs(plan) do
    kept[node.job] = true
  end
  for _, job in ipairs(split(redis.call('HGET', tx.prefix .. flow, 'x_jobs'))) do
    if not kept[job] and redis.call('HGET', tx.prefix .. job, 'x_run') == flow then
      stop(tx, flow, job, 'the flow no longer lists it')
      forget_run(tx, job)
    end
    if not kept[job] then
      SHARING.look_again(tx, flow)
    end
  end
end

-- Launch a flow by the plan of its jobs, if it has one; `before` is given the plan first. `is_again`: see read_plan.
-- Result: as flow_start.
local function launch_flow(tx, flow, before, is_again)
  local caller, listed, jobs = unpack(redis.call('HMGET', tx.prefix .. flow, 'caller_id', 'jobs', 'x_jobs'))
  if is_large(listed, jobs) then
    begin_launch(tx, flow)
    return WORD.MORE
  end
  local plan, fault, job, run = read_plan(tx, flow, flow_jobs(caller, listed), ONE_CALL_BYTES, is_again)
  if fault then
    return fault, job, run or ''
  end
  if not plan then
    begin_launch(tx, flow)
    return WORD.MORE
  end
  if before then
    before(tx, flow, plan)
  end
  launch(tx, flow, plan)
  return WORD.OK, redis.call('HGETALL', tx.prefix .. flow)
end

local function is_step(step, name)
  return string.sub(step, 1, #name) == name
end

-- What is under way with a flow comes first: go on with it.
-- Returns what the caller is answered: 'more', or what was in the way of a start.
local function go_on_first(tx, flow, step)
  if is_step(step, 'create') then -- only its client can, or it has gone away
    local given_up_at = redis.call('ZSCORE', tx.prefix .. 'timers', 'step:' .. flow)
    if given_up_at and tx.now < given_up_at - CREATE_PAUSE + CREATE_SILENCE then
      return WORD.STATE, 'being submitted'
    end
  end
  local more, result = go_on(tx, flow, step, STEP_PAUSE)
  if not more and is_step(step, 'undo') and #result > 0 then
    return result[1], result[2], result[3] or ''
  end
  return WORD.MORE
end

-- Start a flow that was never started; one that was stays as it is.
-- Arguments: 1 the flow, 2 if its jobs were given by flow_add: the token of those calls.
-- Result: 'ok', the record | 'more': it is being started, to be called again | 'none' | 'missing', job | 'changed',
-- job: its DAG is none | 'busy', job, its run | 'state', what it is in.
local function flow_start(tx, args, o, last)
  local flow = args[o + 1]
  local status, step, token = unpack(redis.call('HMGET', tx.prefix .. flow, 'status', 'x_step', 'x_token'))
  if not status then
    return WORD.NONE
  end
  if status ~= 'Dispatched' then
    return WORD.OK, redis.call('HGETALL', tx.prefix .. flow)
  end
  if step and is_step(step, 'create') and last > o + 1 and args[o + 2] == token then
    redis.call('HSET', tx.prefix .. flow, 'x_pending', split(step)[3])
    begin_step(tx, flow, 'link 0 1 0 0', STEP_PAUSE)
    return WORD.MORE
  end
  if step then
    return go_on_first(tx, flow, step)
  end
  return launch_flow(tx, flow)
end

-- Start the unfinished part of a flow in Error again; one that is Started stays as it is.
-- Arguments: 1 the flow. Result: as flow_start; 'state', status: it is neither.
local function flow_retry(tx, args, o)
  local flow = args[o + 1]
  local status, step = unpack(redis.call('HMGET', tx.prefix .. flow, 'status', 'x_step'))
  if not status then
    return WORD.NONE
  end
  if status == 'Started' then
    return WORD.OK, redis.call('HGETALL', tx.prefix .. flow)
  end
  if step then
    return go_on_first(tx, flow, step)
  end
  if status ~= 'Error' then
    return WORD.STATE, status
  end
  return launch_flow(tx, flow, go_on_with)
end

-- Stop a flow: running attempts are stopped, the rest never starts, it ends in Error.
-- Arguments: 1 the flow, 2 the reason.
-- Result: 'ok', the record | 'more': its jobs are being stopped, or something else is under way, to be called again |
-- 'none' | 'state', status: it is Finished.
local function flow_cancel(tx, args, o)
  local flow = args[o + 1]
  local status, step = unpack(redis.call('HMGET', tx.prefix .. flow, 'status', 'x_step'))
  if not status then
    return WORD.NONE
  end
  if status == 'Finished' and not step then -- else it may be about to run again
    return WORD.STATE, status
  end
  if step and is_step(step, 'stop') then
    if go_on(tx, flow, step, STEP_PAUSE) then
      return WORD.MORE
    end
  elseif step then
    local word, detail = go_on_first(tx, flow, step)
    if word == WORD.STATE then
      return word, detail
    end
    return WORD.MORE
  else
    cancel_run(tx, flow, args[o + 2])
    if redis.call('HEXISTS', tx.prefix .. flow, 'x_step') == 1 then
      return WORD.MORE
    end
  end
  return WORD.OK, redis.call('HGETALL', tx.prefix .. flow)
end

-- Go on with what is under way with a run, so that it can be looked at again. Returns 'more', or 'state' and what it is
-- in if only its client can.
local function wait_for_step(tx, run, step)
  if is_step(step, 'create') then
    local word, detail = go_on_first(tx, run, step)
    return word == WORD.STATE and word or WORD.MORE, detail
  end
  go_on(tx, run, step, 0) -- whoever calls may need no more of it, so a timer goes on
  return WORD.MORE
end

do -- what is local to this block takes no place among the 200 locals a chunk may have

-- Remember what is to run again of a flow that has ended, and with what. It is kept for a minute.
-- Arguments: 1 the flow, 2 a token that names this, then fields and values of `again:RUN` (see AGAIN).
-- Result: 'ok' | 'more': something is under way with the flow, to be called again | 'none' | 'state', its status.
local function flow_mark(tx, args, o, last)
  local flow, marks = args[o + 1], tx.prefix .. 'again:' .. args[o + 2]
  local status, step = unpack(redis.call('HMGET', tx.prefix .. flow, 'status', 'x_step'))
  if not status then
    return WORD.NONE
  end
  if step then
    return wait_for_step(tx, flow, step)
  end
  if status ~= 'Finished' and status ~= 'Error' then
    return WORD.STATE, status
  end
  call_each('HSET', marks, slice(args, o + 3, last))
  redis.call('PEXPIRE', marks, ANSWER_KEPT)
  return WORD.OK
end

-- Write what the jobs of a plan, and their flow, are to have when they run again.
local function renew_all(tx, flow, plan)
  go_on_with(tx, flow, plan)
  for _, node in ipairs(plan) do
    AGAIN.renew(tx, flow, node.job, node.status == 'Again')
  end
  AGAIN.renew(tx, flow, flow)
end

-- Start a flow that has ended again, with what flow_mark was told.
-- Arguments: 1 the flow, 2 the token.
-- Result: as flow_start; 'changed', the flow: what was told is not remembered any longer.
local function flow_rerun(tx, args, o)
  local flow, token = args[o + 1], args[o + 2]
  local key, again = tx.prefix .. flow, AGAIN.key(tx, flow)
  local status, step, last = unpack(redis.call('HMGET', key, 'status', 'x_step', 'x_again'))
  if not status then
    return WORD.NONE
  end
  if step then
    return go_on_first(tx, flow, step)
  end
  if last == token then -- that was done, whatever has become of the flow since
    return WORD.OK, redis.call('HGETALL', key)
  end
  if status ~= 'Finished' and status ~= 'Error' then
    return WORD.STATE, status
  end
  if redis.call('EXISTS', tx.prefix .. 'again:' .. token) == 0 then
    return WORD.CHANGED, flow
  end
  redis.call('RENAME', tx.prefix .. 'again:' .. token, again)
  redis.call('PERSIST', again)
  redis.call('HSET', key, 'x_again', token)
  local word, detail, run = launch_flow(tx, flow, renew_all, true)
  if word ~= WORD.MORE then
    redis.call('UNLINK', again)
  end
  if word ~= WORD.MORE and word ~= WORD.OK then
    redis.call('HDEL', key, 'x_again')
  end
  return word, detail, run
end

register('hc_flow_mark', flow_mark, GROWS)
register('hc_flow_rerun', flow_rerun, GROWS)

end

-- Create or update a flow.
-- Arguments, Result: as record_upsert.
local function flow_upsert(tx, args, o)
  SHARING.look_again(tx, args[o + 1])
  local written = upsert(tx, args, o)
  if not string.find(written, '\0', 1, true) then -- it is new
    FEED.tell(tx, args[o + 1], 'Dispatched')
  end
  return written
end
do -- what is local to this block takes no place among the 200 locals a chunk may have

local NEW = {}

local TYPE_GIVEN -- which of JOB_GIVEN is the script type
for at = 1, #JOB_GIVEN do -- there is no ipairs yet while the library is loaded
  TYPE_GIVEN = JOB_GIVEN[at] == 'script_type' and at or TYPE_GIVEN
end

local KNOWN = {'status', 'x_run', 'created_at', 'script_type'}

-- Which of these records are there: record → its status, owner, created_at, script type, and `kept`: what is stored
-- of the members that `optional` names.
local function known_of(tx, records, optional)
  local fields = slice(KNOWN, 1, #KNOWN)
  for _, name in ipairs(optional) do
    fields[#fields + 1] = name
  end
  local known = {}
  for _, record in ipairs(records) do
    local values = redis.call('HMGET', tx.prefix .. record, unpack(fields))
    if values[1] then
      local it = {status = values[1], owner = values[2], created_at = values[3], type = values[4], kept = {}}
      for at = #KNOWN + 1, #fields do
        it.kept[fields[at]] = values[at]
      end
      known[record] = it
    end
  end
  return known
end

-- Put the members `names` of a record behind the first `count` items of `fields`, behind all if it is nil, from the
-- arguments of the call from `first` on. One that was not given is what is stored, `kept`, or its default; it is left
-- out if there is neither. A new record, without `kept`, is stored without what is empty; see LEAN for `lean`. Returns
-- how many items there are then.
local function put_members(fields, names, args, first, kept, lean, count)
  count = count or #fields
  for i, name in ipairs(names) do
    local value = args[first + i - 1]
    if value == NOT_GIVEN then
      value = kept and kept[name] or lean.defaults[name]
    end
    if value and (kept or value ~= lean.empty[name]) then
      fields[count + 1], fields[count + 2] = name, value
      count = count + 2
    end
  end
  return count
end

-- What jobs are submitted with. `seen`: by the text of its names, which fields that are, a few kinds: their `names`, in
-- order, how many, `count`, and `at`, name → which of them; of some members the same.
local SUBMITTED = {seen = {}, is_optional = {}}
for at = 1, #JOB_OPTIONAL do -- there is no ipairs yet while the library is loaded
  SUBMITTED.is_optional[JOB_OPTIONAL[at]] = true
end

function SUBMITTED.read(text)
  local kind = SUBMITTED.seen[text]
  if not kind then
    kind = {names = split(text), at = {}}
    kind.count = #kind.names
    for at, name in ipairs(kind.names) do
      kind.at[name] = at
    end
    kind.parents, kind.type, kind.prerequisites = kind.at.x_parents, kind.at.script_type, kind.at.prerequisites
    SUBMITTED.seen[text] = kind
  end
  return kind
end

-- The member `name` of the job at `place` among the arguments.
function SUBMITTED.member(kind, name, args, place)
  local at = kind.at[name]
  return at and args[place + 2 + at] or JOB_DEFAULTS[name]
end

-- All members of that job, in the order of JOB_GIVEN.
function SUBMITTED.members(kind, args, place)
  local members = {}
  for i, name in ipairs(JOB_GIVEN) do
    local is_given = kind.at[name] or not SUBMITTED.is_optional[name]
    members[i] = is_given and SUBMITTED.member(kind, name, args, place) or NOT_GIVEN
  end
  return members
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
-- Jobs that are Finished count as done and stay as they are.
-- Arguments: 1 the flow, 2 its index entry, 3 x_jobs, 4 x_leaves, 5 how many jobs, and how many members, with a space
-- between, then so many of the members FLOW_GIVEN names, each NOT_GIVEN if it is, as the others are; for each job: the
-- job, its index entry, the names of fields, with spaces between, their
-- values. Of the members JOB_GIVEN names those are left out which the job's key tells, or which are at their default
-- and must be given; x_next and x_parents are added, as far as it has them.
-- Result: 'new', when it was created (s) | 'ok', the record | 'busy', job, its run | 'differs', the flow, or a job that
-- is Finished or was submitted with the flow before, the member that is another, its status. Or 'more', 'state': as
-- flow_create.
local function flow_submit(tx, args, o)
  local flow, count, members = args[o + 1], string.match(args[o + 5], '^(%d+) (%d+)$')
  local keys, jobs, places, kinds, at = {tx.prefix .. flow}, {}, {}, {}, o + 6 + members
  local given = slice(FLOW_GIVEN, 1, members)
  count = tonumber(count)
  for i = 1, count do
    jobs[i], places[i], kinds[i] = args[at], at, SUBMITTED.read(args[at + 2])
    keys[i + 1] = tx.prefix .. args[at]
    at = at + 3 + kinds[i].count
  end
  local was, known = NEW, nil
  if exists_any(keys) then
    was = known_of(tx, {flow}, FLOW_OPTIONAL)[flow] or NEW
    local step = was.status and redis.call('HGET', tx.prefix .. flow, 'x_step')
    if step and was.status == 'Dispatched' then
      local word, detail = go_on_first(tx, flow, step)
      return word == WORD.STATE and word or WORD.MORE, detail
    end
    known = known_of(tx, jobs, JOB_OPTIONAL)
    local other = was.status and SHARING.difference(tx, flow, given, args, o + 6, FLOW_DEFAULTS)
    if other then
      return WORD.DIFFERS, flow, other, was.status
    end
    local is_begun = was.status and was.status ~= 'Dispatched'
    for i, job in ipairs(jobs) do
      local it = known[job]
      if it and not is_begun and is_taken(tx, flow, it.status, it.owner) then
        return WORD.BUSY, job, it.owner
      end
      if it and (is_begun or it.status == 'Finished') then
        local members = SUBMITTED.members(kinds[i], args, places[i])
        other = SHARING.difference(tx, job, JOB_GIVEN, members, 1, JOB_DEFAULTS)
        if other then
          return WORD.DIFFERS, job, other, it.status
        end
      end
    end
    if is_begun then
      return WORD.OK, redis.call('HGETALL', tx.prefix .. flow)
    end
  end
  local ready, pending = {}, count
  local fields = {'status', '', 'x_run', '', 'created_at', ''} -- of each, in its turn
  local filled = nil -- the kind of job whose names are in it
  for i, job in ipairs(jobs) do
    local place, kind = places[i], kinds[i]
    local parents, prerequisites = kind.parents, kind.prerequisites and args[place + 2 + kind.prerequisites] or '[]'
    local status, name, value, owner, created_at = nil, nil, nil, flow, tx.seconds
    local it = known and known[job]
    if it then
      created_at = it.created_at
    else
      INDEX.add(tx, 'job', args[place + 1])
    end
    local is_done, type = it and it.status == 'Finished', args[place + 2 + kind.type]
    if is_done then
      pending = pending - 1
      if it.owner ~= flow then
        SHARING.count_as_done(tx, flow, job)
      end
    elseif not it or is_startable(it.status) then
      if it and it.owner then
        forget_run(tx, job)
        if it.owner ~= flow then
          SHARING.look_again(tx, it.owner)
        end
      end
      local wait = 0
      if parents then
        wait = count_unfinished(known or NEW, job, args[place + 2 + parents])
      end
      status, name, value = begin_job(tx, flow, job, type, prerequisites, wait, ready)
    else
      status, name, value, owner = it.status, 'updated_at', tx.seconds, it.owner or flow
    end
    if not is_done then
      fields[2], fields[4], fields[6], fields[7], fields[8] = status, owner, created_at, name, value
      local last = 8
      if it then -- what it was stored with is not at its default, perhaps
        fields[9], fields[10], last = 'updated_at', tx.seconds, 10
        last = put_members(fields, JOB_GIVEN, SUBMITTED.members(kind, args, place), 1, it.kept, LEAN.job, last)
      end
      if it or filled ~= kind then
        for at, name in ipairs(kind.names) do
          fields[last + 2 * at - 1] = name
        end
        filled = not it and kind
      end
      for at = 1, kind.count do
        fields[last + 2 * at] = args[place + 2 + at]
      end
      last = last + 2 * kind.count
      if prerequisites ~= '[]' then
        fields[last + 1], fields[last + 2] = 'x_awaits', prerequisites
        last = last + 2
      end
      redis.call('HSET', keys[i + 1], unpack(fields, 1, last))
      if it then
        COUNT.job(tx, it.status, status)
        COUNT.job(tx, it.type, type)
      else
        COUNT.created(tx, type, status)
      end
      if tx.counts then
        BYTES.count(tx, job)
      end
    end
  end
  fields = {'status', 'Started', 'x_active', '1', 'x_pending', in_digits(pending), 'x_started', tx.at,
    'x_jobs', args[o + 3], 'x_leaves', args[o + 4], 'created_at', was.created_at or tx.seconds,
    'updated_at', tx.seconds}
  if tx.origin or was.status then
    put(fields, 'x_origin', tx.origin or '')
  end
  put_members(fields, given, args, o + 6, was.kept, LEAN.flow)
  redis.call('HSET', keys[1], unpack(fields))
  COUNT.flow(tx, was.status or '', 'Started')
  BYTES.count(tx, flow)
  if was.status then
    SHARING.look_again(tx, flow) -- it may have listed others
  else
    INDEX.add(tx, 'flow', args[o + 2])
  end
  begin_run(tx, flow, ready, pending, args[o + 4])
  if known or pending == 0 then
    return WORD.OK, redis.call('HGETALL', keys[1])
  end
  return WORD.NEW, tx.seconds
end

-- Whether a flow may be created and started. Returns nothing if so, else what flow_create does; and the flow's status.
local function refuse_create(tx, flow)
  local status, step = unpack(redis.call('HMGET', tx.prefix .. flow, 'status', 'x_step'))
  if status and status ~= 'Dispatched' then
    return WORD.OK, redis.call('HGETALL', tx.prefix .. flow)
  end
  if step then
    local word, detail = go_on_first(tx, flow, step)
    return word == WORD.STATE and word or WORD.MORE, detail
  end
  return nil, status
end

-- Whether a job may be created for a run, its members being the arguments from `first` on, or is what was created
-- before. Returns nothing if so; else 'busy', the job, its run | 'differs', the job, the member that is another, its
-- status.
local function refuse_job(tx, run, job, args, first, is_begun)
  local status, owner = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_run'))
  if status and not is_begun and is_taken(tx, run, status, owner) then
    return WORD.BUSY, job, owner
  end
  if status and (is_begun or status == 'Finished') then
    local other = SHARING.difference(tx, job, JOB_GIVEN, args, first, JOB_DEFAULTS)
    if other then
      return WORD.DIFFERS, job, other, status
    end
  end
end

-- The same of many jobs. Each is named by one of the arguments from `first` to `last`, and its members follow. Returns
-- 'new' if all of them may be created; else what refuse_job does of the first that may not.
local function refuse_jobs(tx, run, args, first, last, is_begun)
  for at = first, last, 1 + #JOB_GIVEN do
    local word, job, detail, was = refuse_job(tx, run, args[at], args, at + 1, is_begun)
    if word then
      return word, job, detail, was
    end
  end
  return WORD.NEW
end

-- Whether a flow and these jobs of it may be created, or are what was created before.
-- Arguments: 1 the flow, then the members FLOW_GIVEN names; for each job: the job, the members JOB_GIVEN names.
-- Result: 'new': as far as this shows | 'more', 'state': as flow_create | 'busy', 'differs': as flow_submit.
local function flow_check(tx, args, o, last)
  local flow = args[o + 1]
  local status, step = unpack(redis.call('HMGET', tx.prefix .. flow, 'status', 'x_step'))
  local is_begun = status and status ~= 'Dispatched'
  if step and not is_begun then
    local word, detail = go_on_first(tx, flow, step)
    return word == WORD.STATE and word or WORD.MORE, detail
  end
  local other = status and SHARING.difference(tx, flow, FLOW_GIVEN, args, o + 2, FLOW_DEFAULTS)
  if other then
    return WORD.DIFFERS, flow, other, status
  end
  return refuse_jobs(tx, flow, args, o + 2 + #FLOW_GIVEN, last, is_begun)
end

-- Begin to create a flow of many jobs, which flow_add brings and flow_start starts.
-- Arguments: 1 the flow, 2 its index entry, 3 a token that names these calls, then the members FLOW_GIVEN names.
-- Result: 'new' | 'ok', the record: it was started before | 'more': something is under way with it, to be called again
-- | 'state', what it is in.
local function flow_create(tx, args, o)
  local flow, token = args[o + 1], args[o + 3]
  local key = tx.prefix .. flow
  local step, whose = unpack(redis.call('HMGET', key, 'x_step', 'x_token'))
  if step and is_step(step, 'create') and whose == token then
    return WORD.NEW
  end
  local word, status = refuse_create(tx, flow)
  if word then
    return word, status
  end
  local was = known_of(tx, {flow}, FLOW_OPTIONAL)[flow] or NEW
  local fields = {'status', 'Dispatched', 'created_at', was.created_at or tx.seconds, 'updated_at', tx.seconds}
  put_members(fields, FLOW_GIVEN, args, o + 4, was.kept, LEAN.flow)
  redis.call('HSET', key, unpack(fields))
  COUNT.flow(tx, status or '', 'Dispatched')
  BYTES.count(tx, flow)
  if status then
    SHARING.look_again(tx, flow) -- it may have listed others
  else
    INDEX.add(tx, 'flow', args[o + 2])
    FEED.tell(tx, flow, 'Dispatched')
  end
  begin_launch(tx, flow, token)
  if not status then
    redis.call('HSET', key, 'x_before', 'New')
  end
  arm(tx, 'step:' .. flow, tx.now + CREATE_PAUSE)
  return WORD.NEW
end

-- Nobody brings more jobs: what was created is given up.
function STEP.create(tx, flow)
  return give_up(tx, flow, {})
end

-- Create jobs of a flow that is being created, or a message that is being sent.
-- Arguments: 1 the flow, 2 the token, 3 how many jobs; for each: the job, its index entry, the members JOB_GIVEN names.
-- Result: 'ok' | 'busy', job, its run: the flow is given up | 'none': it was given up.
local function flow_add(tx, args, o)
  local flow, token = args[o + 1], args[o + 2]
  local step, whose, serial = unpack(redis.call('HMGET', tx.prefix .. flow, 'x_step', 'x_token', 'x_serial'))
  if not step or not is_step(step, 'create') or whose ~= token then
    return WORD.NONE
  end
  local _, count, pending = unpack(split(step))
  local at, jobs, keys = o + 4, {}, {}
  for i = 1, args[o + 3] do
    jobs[i] = args[at + (i - 1) * (2 + #JOB_GIVEN)]
    keys[i] = tx.prefix .. jobs[i]
  end
  local known = exists_any(keys) and known_of(tx, jobs, JOB_OPTIONAL) or {}
  local plan, new = new_plan(tx, flow), {}
  for _, job in ipairs(jobs) do
    local it = known[job]
    if it and is_taken(tx, flow, it.status, it.owner) then
      give_up(tx, flow, {})
      begin_step(tx, flow, 'undo 0')
      return WORD.BUSY, job, it.owner
    end
  end
  for i, job in ipairs(jobs) do
    local it, key = known[job], keys[i]
    if not it or not claimed(redis.call('HGET', key, 'x_was'), serial) then -- it may be asked again
      local fields = {'created_at', it and it.created_at or tx.seconds, 'updated_at', tx.seconds}
      put_members(fields, JOB_GIVEN, args, at + 2, it and it.kept, LEAN.job)
      count = count + 1
      local is_pending = true
      local type = args[at + 1 + TYPE_GIVEN]
      if it then
        redis.call('HSET', key, unpack(fields))
        COUNT.job(tx, it.type, type ~= NOT_GIVEN and type)
        call_each('RPUSH', plan, new) -- `claim` puts its job behind them
        new = {}
        is_pending = claim(tx, flow, serial, count, job)
      else
        put(fields, 'status', 'WaitingForPrerequisites')
        put(fields, 'x_run', flow)
        put(fields, 'x_was', table.concat({serial, count, 'New', '-'}, ' '))
        redis.call('HSET', key, unpack(fields))
        COUNT.created(tx, type, 'WaitingForPrerequisites')
        INDEX.add(tx, 'job', args[at + 1])
        new[#new + 1] = job
      end
      BYTES.count(tx, job)
      pending = is_pending and pending + 1 or pending
    end
    at = at + 2 + #JOB_GIVEN
  end
  call_each('RPUSH', plan, new)
  redis.call('HSET', tx.prefix .. flow, 'x_step', table.concat({'create', count, pending}, ' '))
  arm(tx, 'step:' .. flow, tx.now + CREATE_PAUSE)
  return WORD.OK
end

register('hc_flow_submit', flow_submit, GROWS)
register('hc_flow_check', flow_check)
register('hc_flow_create', flow_create, GROWS)
register('hc_flow_add', flow_add, GROWS)

end

-- Whether events of a flow after event `after` are no longer kept: some are not, and `after` is older than those that
-- are, or than the last one that was dropped. Second, whether there is no event yet that is not before `after`.
local function has_missed(tx, flow, after)
  local events = tx.prefix .. 'events:' .. job_id(flow)
  EVENTS.write(tx, flow)
  local status, forgotten = unpack(redis.call('HMGET', tx.prefix .. flow, 'status', 'x_forgotten'))
  if redis.call('EXISTS', events) == 0 then
    local is_new = status == 'Dispatched'
    return not is_new, is_new and FEED.is_before('0-0', after)
  end
  local info = FEED.state_of(events)
  if FEED.is_before(info['last-generated-id'], after) then
    return false, true
  end
  if FEED.is_before(after, info['max-deleted-entry-id']) then
    return true, false
  end
  local first = info['first-entry']
  local is_partial = forgotten or info['entries-added'] > info['length']
  return is_partial and first and FEED.is_before(after, EVENTS.first_id(first)), false
end

local READ_AT_ONCE = 8 -- entries, before it is looked at how large they are

-- So many entries of a flow's events, by its id, that have events after this one; a log as if it was in the entry.
local function read_entries(tx, id, after, wanted)
  local entries = redis.call('XRANGE', tx.prefix .. 'events:' .. id, '(' .. after, '+', 'COUNT', wanted)
  local first, last, count = nil, nil, 0
  for _, entry in ipairs(entries) do
    if entry[2][1] == 'l' then
      first, last, count = first or entry[1], entry[1], count + 1
    end
  end
  local logs = first and redis.call('XRANGE', tx.prefix .. 'lines:' .. id, first, last, 'COUNT', count) or {}
  local log = 1
  for _, entry in ipairs(entries) do
    if entry[2][1] == 'l' then -- if it is no longer kept, it goes together with its entry
      entry[2][2] = logs[log] and logs[log][2][2] or '"kind":"log","at":0'
      log = log + 1
    end
  end
  return entries
end

-- Some events of a flow.
-- Arguments: 1 the flow, 2 the event after which they begin, 3 how many at most, 4 how many bytes, but one at least.
-- Result: 'ok', 1 if others after that one are no longer kept or 0, 1 if there are no more for now or 0, and for each
-- event its id and the members of a FlowEvent without it | 'none', the time (ms) | 'changed': there is no event yet
-- after which these could be.
local function flow_read(tx, args, o)
  local flow, after, count, bytes = args[o + 1], args[o + 2], tonumber(args[o + 3]), tonumber(args[o + 4])
  if redis.call('EXISTS', tx.prefix .. flow) == 0 then
    return WORD.NONE, tx.at
  end
  local missed, is_beyond = has_missed(tx, flow, after)
  if is_beyond then
    return WORD.CHANGED
  end
  local events, is_last = {}, false
  while count > 0 and bytes > 0 and not is_last do
    local wanted = math.min(count, READ_AT_ONCE)
    local found = read_entries(tx, job_id(flow), after, wanted)
    for _, entry in ipairs(found) do
      count, bytes, after = EVENTS.read(events, entry, after, count, bytes)
    end
    is_last = #found < wanted and (#found == 0 or after == found[#found][1])
  end
  return WORD.OK, missed and 1 or 0, is_last and 1 or 0, events
end

-- Begin to follow a flow's events: for a while they are announced.
-- Arguments: 1 the flow, 2 ms it is announced for, 3 the event after which to begin.
-- Result: 'ok', 1 if events after that one are no longer kept or 0 | 'none' | 'changed': there is no event yet after
-- which to begin.
local function flow_follow(tx, args, o)
  local flow = args[o + 1]
  if redis.call('EXISTS', tx.prefix .. flow) == 0 then
    return WORD.NONE
  end
  local missed, is_beyond = has_missed(tx, flow, args[o + 3])
  if is_beyond then
    return WORD.CHANGED
  end
  redis.call('SET', tx.prefix .. 'followed:' .. job_id(flow), '1', 'PX', args[o + 2])
  return WORD.OK, missed and 1 or 0
end

register('hc_flow_upsert', flow_upsert, GROWS)
register('hc_flow_read', flow_read, READS, true)
register('hc_flow_follow', flow_follow, nil, true)
register('hc_flow_start', flow_start, GROWS)
register('hc_flow_retry', flow_retry, GROWS)
register('hc_flow_cancel', flow_cancel)
