-- Prerequisites: which are satisfied, and who waits for them. The hash `prerequisites` has those of the whole context,
-- the hash `prerequisites:FLOW` those of one flow's jobs: name to when (ms), and '+' if by and payload were given,
-- which the string `satisfied:FLOW WHEN NAME` has ('-' for FLOW: for the context), as members of a
-- SatisfiedPrerequisite in JSON, each with a comma before it. A job that is released keeps in x_met, for each of its
-- prerequisites in turn, 'f' or 'c' (for the flow, the context) and that value, with spaces between; a payload has one
-- place, however many jobs get it. (Earlier versions: the members behind the time, and x_met is a JSON object.) The
-- sorted set `index:prerequisite` has both for lists: the name, NUL, the flow's id or nothing. A job waits for all of
-- its prerequisites until it is released; whether they are satisfied is looked at whenever that may have become so.
-- Until then it is in the set `awaiting:RUN NAME`, and its run in the set `waiting:NAME` (earlier versions: the job,
-- for as long as the name was not satisfied, which x_wait counted too); `awaits` is a sorted set of those names. When a
-- name becomes satisfied, the set `awaiting:RUN NAME` is renamed to `awaited:NUMBER RUN NAME`, and `waiting:NAME` to
-- `spread:TOKEN NAME`, from which jobs and runs are taken some at a time; those that have to wait on are in the first
-- ones again.

local PREREQUISITES = {
  AT_ONCE = 100, -- jobs released in one call, if they have few prerequisites
  NAMES = 10, -- looked at for as much work as a job is
  RUNS_AT_ONCE = 50, -- runs whose jobs are
  RUNS = 1000, -- runs looked at for a list
  SHOWN = 10, -- of the jobs that wait, in a list
  BYTES = 1048576, -- of by and payload, after which a page is full, and a job is told no more of them
  KEPT = '604800000', -- ms for which a payload that was revoked is kept, for jobs released with it
}

-- What prerequisites are satisfied by.
local SATISFIED = {}

function SATISFIED.key(tx, flow)
  return tx.prefix .. (flow == '-' and 'prerequisites' or 'prerequisites:' .. flow)
end

function SATISFIED.key_of_said(tx, flow, at, name)
  return tx.prefix .. 'satisfied:' .. flow .. ' ' .. at .. ' ' .. name
end

-- When a prerequisite was satisfied (ms) that is stored so.
function SATISFIED.since(value)
  return string.match(value, '^%d+')
end

-- Store a prerequisite as satisfied at a time, with these members of a SatisfiedPrerequisite; a ms later if one that
-- was satisfied then was revoked, for jobs may have been released with that. Returns what is stored.
function SATISFIED.store(tx, flow, name, at, said)
  if said ~= '' then
    while not redis.call('SET', SATISFIED.key_of_said(tx, flow, at, name), said, 'NX') do
      at = string.format('%.0f', at + 1)
    end
    at = at .. '+'
  end
  redis.call('HSET', SATISFIED.key(tx, flow), name, at)
  return at
end

-- Whether what was said is stored behind the time, as earlier versions did.
function SATISFIED.is_inline(value)
  return string.find(value, ',', 1, true) ~= nil
end

-- What is stored of a prerequisite that is satisfied for a flow, or '-': for the context; or nil.
function SATISFIED.read(tx, flow, name)
  local value = redis.call('HGET', SATISFIED.key(tx, flow), name)
  if value and SATISFIED.is_inline(value) then
    return SATISFIED.store(tx, flow, name, string.match(value, '^(%d+)(.*)$'))
  end
  return value or nil
end

-- Where a call that names this flow, or '' for the context, finds a prerequisite: the flow or '-', and what the entry
-- in `index:prerequisite` has of it; nil if there is no such flow.
function SATISFIED.scope(tx, flow)
  if flow == '' then
    return '-', ''
  elseif redis.call('EXISTS', tx.prefix .. flow) == 1 then
    return flow, job_id(flow)
  end
end

-- Whether a prerequisite is satisfied for the jobs of a run.
function SATISFIED.is(tx, run, name)
  return string.sub(run, 1, 5) == 'flow:' and redis.call('HEXISTS', SATISFIED.key(tx, run), name) == 1
    or redis.call('HEXISTS', SATISFIED.key(tx, '-'), name) == 1
end

local function is_more_said(value)
  return string.byte(value, -1) == 43 -- '+'
end

-- By whom and with what a prerequisite was satisfied that is stored so, as members of a SatisfiedPrerequisite; '' if
-- nothing was said; nil if that was revoked long ago.
function SATISFIED.said(tx, flow, name, value)
  if not is_more_said(value) then
    return ''
  end
  return redis.call('GET', SATISFIED.key_of_said(tx, flow, SATISFIED.since(value), name)) or nil
end

-- The payload in that, or nil.
function SATISFIED.payload(said)
  return string.match(said, ',"payload":(.*)$')
end

-- The members of a SatisfiedPrerequisite behind its name. `said`: see SATISFIED.said.
function SATISFIED.encode(value, scope, said)
  return '"satisfied_at":' .. SATISFIED.since(value) .. ',"scope":"' .. scope .. '"' .. (said or ',"omitted":true')
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

-- What the prerequisites of a job of a run are satisfied by, as x_met has it; nil if not all of them are. All are asked
-- for at once, as there may be many jobs with many of them.
local function all_met(tx, run, names)
  tx.work = tx.work - 2 - math.floor(#names / PREREQUISITES.NAMES)
  local met, of_context = {}, nil
  local of_flow = string.sub(run, 1, 5) == 'flow:' and redis.call('HMGET', SATISFIED.key(tx, run), unpack(names)) or {}
  for i, name in ipairs(names) do
    local value, scope, flow = of_flow[i], 'f', run
    if not value then
      of_context = of_context or redis.call('HMGET', SATISFIED.key(tx, '-'), unpack(names))
      value, scope, flow = of_context[i], 'c', '-'
    end
    if not value then
      return nil
    end
    met[i] = scope .. (SATISFIED.is_inline(value) and SATISFIED.read(tx, flow, name) or value)
  end
  return table.concat(met, ' ')
end

-- The prerequisites (JSON) of a job that was released with `met`, as its runner gets them: a JSON object by name.
function PREREQUISITES.encode_met(tx, run, prerequisites, met)
  if string.byte(met) == 123 then -- '{', of an earlier version
    return met
  end
  local told, names, values, bytes = {}, names_in(prerequisites), split(met), 0
  for i = 1, math.min(#names, #values) do
    local name, value, said = names[i], string.sub(values[i], 2), nil
    local scope = string.byte(values[i]) == 102 and 'flow' or 'context' -- 'f'
    if bytes < PREREQUISITES.BYTES or not is_more_said(value) then
      said = SATISFIED.said(tx, scope == 'flow' and run or '-', name, value)
      bytes = bytes + #(said or '')
    end
    told[i] = cjson.encode(name) .. ':{' .. SATISFIED.encode(value, scope, said) .. '}'
  end
  return '{' .. table.concat(told, ',') .. '}'
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

-- Whether the prerequisites (names) of a job are satisfied. If so, what they are satisfied by is kept in its x_met.
local function are_met(tx, run, job, names)
  local met = all_met(tx, run, names)
  if met then
    redis.call('HSET', tx.prefix .. job, 'x_met', met)
  end
  return met ~= nil
end

-- Whether the prerequisites (JSON) of a job that begins to wait, for nothing else if `is_last`, let it start; else it
-- waits for them.
function PREREQUISITES.let_start(tx, run, job, prerequisites, is_last)
  local names = names_in(prerequisites)
  if is_last and are_met(tx, run, job, names) then
    return true
  end
  enroll(tx, run, job, names)
  return false
end

-- Whether those of a job that waits for nothing else let it start. It waits for them already, but for one that was just
-- satisfied.
function PREREQUISITES.let_go_on(tx, run, job, prerequisites)
  local names = names_in(prerequisites)
  if tx.releases then
    tx.releases = tx.releases - math.floor(#names / PREREQUISITES.NAMES)
  end
  return are_met(tx, run, job, names)
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
  local key, entries, said = SATISFIED.key(tx, run), {}, {}
  local stored = redis.call('HGETALL', key)
  for i = 1, #stored, 2 do
    local name, value = stored[i], stored[i + 1]
    entries[#entries + 1] = name .. '\0' .. job_id(run)
    if is_more_said(value) then
      said[#said + 1] = SATISFIED.key_of_said(tx, run, SATISFIED.since(value), name)
    end
  end
  if #entries > 0 then
    call_each('ZREM', tx.prefix .. 'index:prerequisite', entries)
    redis.call('DEL', key)
  end
  for _, key_of_one in ipairs(said) do
    redis.call('UNLINK', key_of_one)
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
    elseif not SATISFIED.is(tx, run, name) then
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
  local is_last, bytes = #entries <= limit - #awaited, 0
  for i = 1, math.min(#entries, limit - #awaited) do
    from = '(' .. entries[i]
    local name, id = string.match(entries[i], '^(.*)%z(%d*)$')
    local flow = id == '' and '-' or 'flow:' .. id
    local value = SATISFIED.read(tx, flow, name)
    local said = SATISFIED.said(tx, flow, name, value)
    local scope = id == '' and 'context' or 'flow'
    satisfied[i] = '{"name":' .. cjson.encode(name) .. ',' .. SATISFIED.encode(value, scope, said)
      .. (id == '' and '' or ',"flow_id":' .. id) .. '}'
    bytes = bytes + #satisfied[i]
    if bytes >= PREREQUISITES.BYTES and i < #entries then
      is_last = false
      break
    end
  end
  return WORD.OK, table.concat(awaited, ','), table.concat(satisfied, ','), is_last and '' or phase, from
end
