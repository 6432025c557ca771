-- Prerequisites: which are satisfied, and who waits for them. The hash `prerequisites` has those of the whole context,
-- the hash `prerequisites:FLOW` those of one flow's jobs: name → when (ms), then more members of a
-- SatisfiedPrerequisite as JSON, each with a comma before it. The sorted set `index:prerequisite` has both for lists:
-- the name, NUL, the flow's id or nothing. A job waits for all of its prerequisites until it is released; whether they
-- are satisfied is looked at whenever that may have become so. Until then it is in the set `awaiting:RUN NAME`, and its
-- run in the set `waiting:NAME` (earlier versions: the job, for as long as the name was not satisfied, which x_wait
-- counted too); `awaits` is a sorted set of those names. When a name becomes satisfied, the set
-- `awaiting:RUN NAME` is renamed to `awaited:NUMBER RUN NAME`, and `waiting:NAME` to `spread:TOKEN NAME`, from which
-- jobs and runs are taken some at a time; those that have to wait on are in the first ones again.

local PREREQUISITES = {
  AT_ONCE = 100, -- jobs released in one call
  RUNS_AT_ONCE = 50, -- runs whose jobs are
  RUNS = 1000, -- runs looked at for a list
  SHOWN = 10, -- of the jobs that wait, in a list
}

-- What a prerequisite is satisfied by for the jobs of a run, as it is stored, and whether that is for its 'flow' or the
-- whole 'context'; or nil.
local function satisfied_by(tx, run, name)
  local value = string.sub(run, 1, 5) == 'flow:' and redis.call('HGET', tx.prefix .. 'prerequisites:' .. run, name)
  if value then
    return value, 'flow'
  end
  value = redis.call('HGET', tx.prefix .. 'prerequisites', name)
  return value or nil, 'context'
end

-- A stored value as the members of a SatisfiedPrerequisite behind its name.
local function encode_satisfied(value, scope)
  local at, more = string.match(value, '^(%d+)(.*)$')
  return '"satisfied_at":' .. at .. ',"scope":"' .. scope .. '"' .. more
end

-- Names (JSON), each once.
local function names_in(prerequisites)
  local names, seen = {}, {}
  for _, name in ipairs(cjson.decode(prerequisites)) do
    if not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  return names
end

-- What the prerequisites of a job of a run are satisfied by, as a JSON object by name; nil if not all of them are.
local function all_met(tx, run, names)
  local met = {}
  for i, name in ipairs(names) do
    tx.work = tx.work - 2
    local value, scope = satisfied_by(tx, run, name)
    if not value then
      return nil
    end
    met[i] = cjson.encode(name) .. ':{' .. encode_satisfied(value, scope) .. '}'
  end
  return '{' .. table.concat(met, ',') .. '}'
end

-- Have a job wait for its prerequisites.
local function enroll(tx, run, job, names)
  for _, name in ipairs(names) do
    tx.work = tx.work - 3
    redis.call('SADD', tx.prefix .. 'awaiting:' .. run .. ' ' .. name, job)
    redis.call('SADD', tx.prefix .. 'waiting:' .. name, run)
    redis.call('ZADD', tx.prefix .. 'awaits', '0', name)
  end
end

-- Whether the prerequisites (JSON) of a job, of which nothing else is unmet if `is_last`, let it start. If so, what
-- they are satisfied by is kept in its x_met; else it waits for them.
function PREREQUISITES.let_start(tx, run, job, prerequisites, is_last)
  if prerequisites == '[]' then
    return true
  end
  local names = names_in(prerequisites)
  local met = is_last and all_met(tx, run, names)
  if met then
    redis.call('HSET', tx.prefix .. job, 'x_met', met)
    return true
  end
  enroll(tx, run, job, names)
  return false
end

-- Wait for a job's prerequisites no longer. `awaits`: their names, as JSON.
function PREREQUISITES.stop_awaiting(tx, run, job, awaits)
  for _, name in ipairs(awaits and names_in(awaits) or {}) do
    tx.work = tx.work - 3
    local waiting, awaiting = tx.prefix .. 'waiting:' .. name, tx.prefix .. 'awaiting:' .. run .. ' ' .. name
    redis.call('SREM', awaiting, job)
    if redis.call('EXISTS', awaiting) == 0 then
      redis.call('SREM', waiting, run, job)
      if redis.call('EXISTS', waiting) == 0 then
        redis.call('ZREM', tx.prefix .. 'awaits', name)
        redis.call('SREM', tx.prefix .. 'awaited', name)
      end
    end
  end
end

-- Forget what is satisfied for a flow's jobs alone: it is deleted.
function PREREQUISITES.forget(tx, run)
  local key, entries = tx.prefix .. 'prerequisites:' .. run, {}
  for i, name in ipairs(redis.call('HKEYS', key)) do
    entries[i] = name .. '\0' .. job_id(run)
  end
  if #entries > 0 then
    call_each('ZREM', tx.prefix .. 'index:prerequisite', entries)
    redis.call('DEL', key)
  end
end

-- Take what earlier versions have stored into the sets that lists read.
local function index_earlier(tx)
  local awaited = tx.prefix .. 'awaited'
  for _, name in ipairs(redis.call('SMEMBERS', awaited)) do
    redis.call('ZADD', tx.prefix .. 'awaits', '0', name)
  end
  redis.call('DEL', awaited)
  if not redis.call('HGET', tx.engine, 'prerequisites') then
    local names = redis.call('HKEYS', tx.prefix .. 'prerequisites')
    for _, name in ipairs(names) do
      redis.call('ZADD', tx.prefix .. 'index:prerequisite', '0', name .. '\0')
    end
    if #names > 0 then
      redis.call('HSET', tx.engine, 'prerequisites', '1')
    end
  end
end

-- The members of an AwaitedPrerequisite, and how many runs were looked at; nil if nobody waits.
local function encode_awaited(tx, name)
  if redis.call('HEXISTS', tx.prefix .. 'prerequisites', name) == 1 then
    return nil, 1
  end
  local runs = redis.call('SRANDMEMBER', tx.prefix .. 'waiting:' .. name, PREREQUISITES.RUNS)
  table.sort(runs)
  local count, shown = 0, {}
  for _, run in ipairs(runs) do
    local awaiting, jobs = tx.prefix .. 'awaiting:' .. run .. ' ' .. name, {}
    if string.sub(run, 1, 4) == 'job:' then -- of an earlier version
      count, jobs = count + 1, {run}
      run = redis.call('HGET', tx.prefix .. run, 'x_run') or ''
    elseif not satisfied_by(tx, run, name) then
      count = count + redis.call('SCARD', awaiting)
      jobs = #shown < PREREQUISITES.SHOWN and redis.call('SRANDMEMBER', awaiting, PREREQUISITES.SHOWN) or {}
      table.sort(jobs)
    end
    local flow = string.match(run, '^flow:(%d+)$')
    for _, job in ipairs(jobs) do
      if #shown < PREREQUISITES.SHOWN then
        local caller, id = string.match(job, '^job:(%d+):(%d+)$')
        local of_flow = flow and ',"flow_id":' .. flow or ''
        shown[#shown + 1] = '{"caller_id":' .. caller .. ',"job_id":' .. id .. of_flow .. '}'
      end
    end
  end
  if count == 0 then
    return nil, #runs + 1
  end
  local waiters = table.concat(shown, ',')
  return '{"name":' .. cjson.encode(name) .. ',"jobs":' .. count .. ',"waiters":[' .. waiters .. ']}', #runs + 1
end

-- A page of the prerequisites: first those jobs wait for, then those that are satisfied, by name.
-- Arguments: 1 'w' or 's': of which it is, 2 where it begins, as ZRANGE BYLEX takes it, 3 how many at most.
-- Result: 'ok', the first as JSON without brackets, the others, then 'w' or 's' and where the next page begins, or ''
-- at the end.
local function prerequisite_list(tx, args, o)
  index_earlier(tx)
  local phase, from, limit = args[o + 1], args[o + 2], tonumber(args[o + 3])
  local awaited, satisfied, looked_at = {}, {}, 0
  local function next_entries(key, count)
    return redis.call('ZRANGE', tx.prefix .. key, from, '+', 'BYLEX', 'LIMIT', 0, count)
  end
  while phase == 'w' do
    if #awaited >= limit or looked_at >= PREREQUISITES.RUNS then
      return WORD.OK, table.concat(awaited, ','), '', phase, from
    end
    local name = next_entries('awaits', 1)[1]
    if name then
      local members, looked = encode_awaited(tx, name)
      awaited[#awaited + 1] = members
      looked_at, from = looked_at + looked, '(' .. name
    else
      phase, from = 's', '-'
    end
  end
  local entries = next_entries('index:prerequisite', limit - #awaited + 1)
  for i = 1, math.min(#entries, limit - #awaited) do
    from = '(' .. entries[i]
    local name, flow = string.match(entries[i], '^(.*)%z(%d*)$')
    local key = flow == '' and 'prerequisites' or 'prerequisites:flow:' .. flow
    local value = redis.call('HGET', tx.prefix .. key, name)
    local scope = flow == '' and 'context' or 'flow'
    satisfied[i] = '{"name":' .. cjson.encode(name) .. ',' .. encode_satisfied(value, scope)
      .. (flow == '' and '' or ',"flow_id":' .. flow) .. '}'
  end
  local is_last = #entries <= limit - #awaited
  return WORD.OK, table.concat(awaited, ','), table.concat(satisfied, ','), is_last and '' or phase, from
end
