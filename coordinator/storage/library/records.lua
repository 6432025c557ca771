-- Records: created, updated, deleted. The index of a kind is a sorted set of ids, each padded to ten digits, for lists.

local INDEXED = {flow = true, job = true, message = true, runner = true}

-- The index a record belongs into and its entry there; nil for kinds without one.
local function index_entry(key)
  local prefix, kind, first, second = string.match(key, '^(.-)(%l+):(%d+):?(%d*)$')
  if not INDEXED[kind] then
    return nil
  end
  local entry = second == '' and string.format('%010d', first) or string.format('%010d:%010d', first, second)
  return prefix .. 'index:' .. kind, entry
end

-- Put records into the indexes they belong into.
local function index(keys)
  local entries = {}
  for _, key in ipairs(keys) do
    local name, entry = index_entry(key)
    if name then
      add(entries, name, '0')
      add(entries, name, entry)
    end
  end
  for name, items in pairs(entries) do
    call_each('ZADD', name, items)
  end
end

-- Whether any of these records is there.
local function exists_any(keys)
  for first = 1, #keys, 1000 do
    if redis.call('EXISTS', unpack(keys, first, math.min(first + 999, #keys))) > 0 then
      return true
    end
  end
  return false
end

-- HSET the fields a record has only when it is new, then the given ones; created_at stays, updated_at moves.
local function write(key, time, initial, given)
  local fields = {'updated_at', time}
  if redis.call('EXISTS', key) == 0 then
    fields[3], fields[4] = 'created_at', time
    for _, item in ipairs(initial) do
      fields[#fields + 1] = item
    end
    index({key})
  end
  for _, item in ipairs(given) do
    fields[#fields + 1] = item
  end
  redis.call('HSET', key, unpack(fields))
end

local function store(key, time, initial, given)
  write(key, time, initial, given)
  return redis.call('HGETALL', key)
end

local function remove(key)
  local name, entry = index_entry(key)
  if name then
    redis.call('ZREM', name, entry)
  end
  return redis.call('DEL', key)
end

-- Create or update a record.
-- KEYS: 1 the record. ARGV: 1 how many items of `initial` follow, then `initial` (name, value, …: set only on a
-- new record), then the given fields (name, value, …).
-- Returns: the whole record, as HGETALL does.
local function record_upsert(keys, args)
  local count = tonumber(args[1])
  return store(keys[1], redis.call('TIME')[1], slice(args, 2, count + 1), slice(args, count + 2, #args))
end

-- Create or update a message, completing its embedded jobs.
-- An embedded job the stored message already has (same caller_id and id) keeps its created_at, status and,
-- unless a new one is given, result.
-- KEYS: 1 the message. ARGV: 1 how many items of `initial` follow, then `initial`, 1 how many jobs follow, for each
-- job: caller_id, id, its own members as JSON text without braces, its result as JSON or '' if not given; then the
-- given fields.
-- Returns: the whole record, as HGETALL does.
local function message_upsert(keys, args)
  local key, time = keys[1], redis.call('TIME')[1]
  local initial_count = tonumber(args[1])
  local at = initial_count + 2
  local job_count = tonumber(args[at])
  local known = {}
  local stored = job_count > 0 and redis.call('HGET', key, 'job')
  if stored then
    for _, job in ipairs(cjson.decode(stored)) do
      known[string.format('%.0f:%.0f', job.caller_id, job.id)] = job
    end
  end
  local jobs = {}
  for i = 0, job_count - 1 do
    local caller_id, id, members, result = unpack(args, at + 4 * i + 1, at + 4 * i + 4)
    local job = known[caller_id .. ':' .. id]
    local created_at, status = time, 'Dispatched'
    if job then
      created_at, status = string.format('%.0f', job.created_at), job.status
      if result == '' then
        -- keys of a decoded object are strings, so this is an object again, also when empty
        result = cjson.encode(job.result)
      end
    end
    if result == '' then
      result = '{}'
    end
    jobs[#jobs + 1] = '{' .. members .. ',"result":' .. result .. ',"created_at":' .. created_at
      .. ',"updated_at":' .. time .. ',"status":"' .. status .. '"}'
  end
  local given = slice(args, at + 4 * job_count + 1, #args)
  given[#given + 1] = 'job'
  given[#given + 1] = '[' .. table.concat(jobs, ',') .. ']'
  return store(key, time, slice(args, 2, initial_count + 1), given)
end

redis.register_function('hc_record_upsert', record_upsert)
redis.register_function('hc_message_upsert', message_upsert)
