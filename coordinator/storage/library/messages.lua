-- Messages: sent, that is their embedded jobs run; and prerequisites: satisfied, revoked.

-- Why a message cannot be sent now: 'none' | 'ok': it was sent before | what go_on_first returns. Nothing if it can.
local function refuse_send(tx, message)
  local status, step, sent = unpack(redis.call('HMGET', tx.prefix .. message, 'status', 'x_step', 'x_started'))
  if not status then
    return WORD.NONE
  end
  if sent then
    return WORD.OK
  end
  if step then
    return go_on_first(tx, message, step)
  end
end

-- Make the jobs embedded in a message jobs of the context and run them. One that was sent before stays as it is, and so
-- do jobs that are Finished, which count as done.
-- Arguments: 1 the message, 2 its `job` field as the caller read it, 3 a transport id, 4 how many jobs; for each: the
-- job, how many items follow, those as `write` takes them.
-- Result: 'ok' | 'none' | 'changed': `job` is another by now | 'busy', job, its run | 'missing', job |
-- 'differs', a job that is Finished, the member that is another, its status | 'more': it is being sent in slices, to be
-- called again | 'state', what it is in.
local function message_send(tx, args, o)
  local message = args[o + 1]
  local word, detail, owner = refuse_send(tx, message)
  if word then
    return word, detail, owner
  end
  if redis.call('HGET', tx.prefix .. message, 'job') ~= args[o + 2] then
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
  queue_message(tx, message, args[o + 3])
  launch(tx, message, plan)
  return WORD.OK
end

-- Whether a message with many jobs may be sent with these ones of them. It is sent as a large flow is created (see
-- steps.lua): message_begin, flow_add, message_start.
-- Arguments: 1 the message; for each job: the job, the members JOB_GIVEN names.
-- Result: 'new': as far as this shows | 'ok', 'none', 'busy', 'differs', 'more', 'state': as message_send.
local function message_check(tx, args, o, last)
  local message = args[o + 1]
  local word, detail, owner = refuse_send(tx, message)
  if word then
    return word, detail, owner
  end
  return refuse_jobs(tx, message, args, o + 2, last, false)
end

-- Begin to send a message with many jobs, which flow_add brings. `job` is what is sent, whatever it becomes meanwhile.
-- Arguments: 1 the message, 2 its `job` field as the caller read it, 3 a token that names these calls, which becomes
-- its transport id.
-- Result: 'new' | 'changed', 'ok', 'none', 'more', 'state': as message_send.
local function message_begin(tx, args, o)
  local message, token = args[o + 1], args[o + 3]
  local embedded, step, whose = unpack(redis.call('HMGET', tx.prefix .. message, 'job', 'x_step', 'x_token'))
  if step and is_step(step, 'create') and whose == token then
    return WORD.NEW
  end
  local word, detail, owner = refuse_send(tx, message)
  if word then
    return word, detail, owner
  end
  if embedded ~= args[o + 2] then
    return WORD.CHANGED
  end
  begin_launch(tx, message, token)
  arm(tx, 'step:' .. message, tx.now + CREATE_PAUSE)
  return WORD.NEW
end

-- Send a message all of whose jobs were brought.
-- Arguments: 1 the message, 2 the token of those calls.
-- Result: 'changed': it was given up | 'ok', 'none', 'busy', 'missing', 'more', 'state': as message_send.
local function message_start(tx, args, o)
  local message = args[o + 1]
  local step, token = unpack(redis.call('HMGET', tx.prefix .. message, 'x_step', 'x_token'))
  if step and is_step(step, 'create') and token == args[o + 2] then
    redis.call('HSET', tx.prefix .. message, 'x_pending', split(step)[3])
    begin_step(tx, message, 'link 0 1 0 0', STEP_PAUSE)
    return WORD.MORE
  end
  local word, detail, owner = refuse_send(tx, message)
  return word or WORD.CHANGED, detail, owner
end

-- Release a job that waited for the prerequisite `name`, unless it waits for something else; then it waits on.
local function release_waiting(tx, job, name, ready)
  local status, run, wait = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_run', 'x_wait'))
  tx.work = tx.work - 10
  if status ~= 'WaitingForPrerequisites' or not run or not is_active(tx, run) then
    return
  end
  local waits_on = (tonumber(wait) or 0) > 0 or release(tx, run, job, 0, ready)
  if waits_on and name then -- it waits for all others still, and for this one, should that be revoked
    enroll(tx, run, job, {name})
  end
end

-- Release jobs of a set, as far as their prerequisites are satisfied now and nothing else is unmet: some now, until
-- that was work enough, and the others when its timer is due, which is at once.
local function release_some(tx, awaited)
  local name = string.match(awaited, '^awaited:%d+ %S+ (.*)$') -- nil: of an earlier version, which has kept them
  local ready, others = {}, {}
  tx.releases = tx.releases or PREREQUISITES.AT_ONCE
  for _, job in ipairs(redis.call('SPOP', tx.prefix .. awaited, math.max(tx.releases, 0))) do
    if tx.releases <= 0 then
      others[#others + 1] = job
    else
      tx.releases = tx.releases - 1
      local went_well, fault = attempt(tx, release_waiting, tx, job, name, ready)
      if not went_well then
        note_fault(tx, fault, tx.place)
      end
    end
  end
  call_each('SADD', tx.prefix .. awaited, others)
  if redis.call('EXISTS', tx.prefix .. awaited) == 1 then
    arm(tx, 'release:' .. awaited, tx.now)
  end
  enqueue(tx, ready)
end

-- A prerequisite is satisfied for the jobs of a run: release those that waited for it. Returns how many there are.
local function release_run(tx, run, name)
  local awaiting = tx.prefix .. 'awaiting:' .. run .. ' ' .. name
  local count = redis.call('SCARD', awaiting)
  if count == 0 then
    return 0
  end
  local awaited = 'awaited:' .. redis.call('HINCRBY', tx.engine, 'releases', 1) .. ' ' .. run .. ' ' .. name
  redis.call('RENAME', awaiting, tx.prefix .. awaited)
  release_some(tx, awaited)
  return count
end

-- Go on with a prerequisite that is satisfied for the whole context: with the next runs of `spread:TOKEN NAME`.
-- `pause`: ms after which a timer goes on. Returns how many jobs had waited, and whether there are more runs.
local function spread(tx, spreading, pause)
  local name, count, ready = string.match(spreading, '^spread:%S+ (.*)$'), 0, {}
  for _, run in ipairs(redis.call('SPOP', tx.prefix .. spreading, PREREQUISITES.RUNS_AT_ONCE)) do
    if string.sub(run, 1, 4) == 'job:' then -- of an earlier version: x_wait counts it
      local owner, awaits = unpack(redis.call('HMGET', tx.prefix .. run, 'x_run', 'x_awaits'))
      if release(tx, owner, run, 1, ready) then
        enroll(tx, owner, run, names_in(awaits or '[]'))
      end
      count = count + 1
    else
      local is_own = string.sub(run, 1, 5) == 'flow:'
        and redis.call('HEXISTS', tx.prefix .. 'prerequisites:' .. run, name) == 1
      local waited = release_run(tx, run, name)
      count = count + (is_own and 0 or waited) -- those wait for others
    end
    tx.work = tx.work - 6
  end
  enqueue(tx, ready)
  local has_more = redis.call('EXISTS', tx.prefix .. spreading) == 1
  if has_more then
    arm(tx, 'spread:' .. spreading, tx.now + pause)
  else
    disarm(tx, 'spread:' .. spreading)
    if redis.call('EXISTS', tx.prefix .. 'waiting:' .. name) == 0 then
      redis.call('ZREM', tx.prefix .. 'awaits', name)
      redis.call('SREM', tx.prefix .. 'awaited', name)
    end
  end
  return count, has_more
end

-- Remember a prerequisite as satisfied, for the jobs of one flow or of the whole context, and release those that waited
-- for it. One that was satisfied before stays as it is.
-- Arguments: 1 its name, 2 the flow or '', 3 what is said of it, as the more members of a SatisfiedPrerequisite in
-- JSON: by, payload; each with a comma before it; 4 a token that names this call.
-- Result: 'ok', when it was satisfied (ms) and what was said of it then, as one text, how many jobs had waited
-- | 'none': there is no such flow
-- | 'differs': it was satisfied with another payload | 'more': it is satisfied, but many have waited for it: to
-- be called again.
local function prerequisite_satisfy(tx, args, o)
  local name, flow, said = args[o + 1], args[o + 2], args[o + 3]
  local scope, id = SATISFIED.scope(tx, flow)
  if not scope then
    return WORD.NONE
  end
  local waiting, spreading = tx.prefix .. 'waiting:' .. name, 'spread:' .. args[o + 4] .. ' ' .. name
  local counted = tx.prefix .. 'released:' .. args[o + 4]
  local before, stored = redis.call('GET', counted), SATISFIED.read(tx, scope, name)
  local was_satisfied = flow ~= '' and SATISFIED.is(tx, flow, name)
  if stored then
    local given = SATISFIED.payload(said)
    said = SATISFIED.said(tx, scope, name, stored) or ''
    if given and not SHARING.is_same(SATISFIED.payload(said) or '{}', given) then
      return WORD.DIFFERS
    end
    if not before then
      return WORD.OK, SATISFIED.since(stored) .. said, 0
    end
  else
    stored = SATISFIED.store(tx, scope, name, tx.at, said)
    redis.call('ZADD', tx.prefix .. 'index:prerequisite', '0', name .. '\0' .. id)
  end
  local told = SATISFIED.since(stored) .. said
  if flow ~= '' then
    local count = release_run(tx, flow, name)
    return WORD.OK, told, was_satisfied and 0 or count
  end
  if not before then
    if redis.call('EXISTS', waiting) == 0 then
      return WORD.OK, told, 0
    end
    redis.call('RENAME', waiting, tx.prefix .. spreading)
  elseif redis.call('EXISTS', tx.prefix .. spreading) == 0 then
    return WORD.OK, told, tonumber(before)
  end
  local count, has_more = spread(tx, spreading, STEP_PAUSE)
  if before or has_more then
    count = redis.call('INCRBY', counted, count)
    redis.call('PEXPIRE', counted, ANSWER_KEPT)
  end
  if has_more then
    return WORD.MORE
  end
  return WORD.OK, told, count
end

-- Let a prerequisite be satisfied no longer. What has been released stays so, and is told with what.
-- Arguments: 1 its name, 2 the flow or ''.
-- Result: 'ok', 1 if it was satisfied or 0 | 'none': there is no such flow.
local function prerequisite_revoke(tx, args, o)
  local name, flow = args[o + 1], args[o + 2]
  local scope, id = SATISFIED.scope(tx, flow)
  if not scope then
    return WORD.NONE
  end
  local value = SATISFIED.read(tx, scope, name)
  if not value then
    return WORD.OK, 0
  end
  redis.call('PEXPIRE', SATISFIED.key_of_said(tx, scope, SATISFIED.since(value), name), PREREQUISITES.KEPT)
  redis.call('ZREM', tx.prefix .. 'index:prerequisite', name .. '\0' .. id)
  redis.call('HDEL', SATISFIED.key(tx, scope), name)
  return WORD.OK, 1
end

register('hc_message_send', message_send, GROWS)
register('hc_message_check', message_check)
register('hc_message_begin', message_begin, GROWS)
register('hc_message_start', message_start, GROWS)
register('hc_prerequisite_satisfy', prerequisite_satisfy, GROWS)
register('hc_prerequisite_revoke', prerequisite_revoke)
register('hc_prerequisite_list', prerequisite_list)
