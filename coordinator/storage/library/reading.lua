-- Reading of many records: it ends after so many bytes, for nobody knows before how large they are.

-- Read fields of records until they have so many bytes, but those of one record at least.
-- KEYS: 1 the engine. ARGV: 1 bytes, 2 how many fields, those (none: all that a record has), then the records.
-- Returns: for each record that was read the values of the fields, or all names and values.
local function read_records(keys, args)
  local prefix, bytes, count = string.sub(keys[1], 1, -7), tonumber(args[1]), tonumber(args[2])
  local found = {}
  for at = 3 + count, #args do
    local values
    if count == 0 then
      values = redis.call('HGETALL', prefix .. args[at])
    else
      values = redis.call('HMGET', prefix .. args[at], unpack(args, 3, 2 + count))
    end
    found[#found + 1] = values
    for _, value in ipairs(values) do
      bytes = bytes - (value and #value or 0)
    end
    if bytes <= 0 then
      break
    end
  end
  return found
end

-- How much there is of what; see also records.lua.
local COUNT = {}

-- How many entries the queue of a script type, in lower case, has, and for how many ms the job that is popped next has
-- been queued at the time `wall` (ms).
function COUNT.depth(prefix, name, wall)
  local queue, waited = prefix .. 'queue:' .. name, 0
  local length = redis.call('LLEN', queue)
  if length > 0 then -- its job may be gone, or no record any more
    local queued = tonumber(redis.pcall('HGET', prefix .. redis.call('LINDEX', queue, -1), 'x_queued'))
    waited = queued and math.max(0, wall - queued) or 0
  end
  return length, waited
end

-- How much there is in a context.
-- KEYS: 1 the engine. ARGV: queues.
-- Returns: of each queue how many entries it has, and for how many ms the job that is popped next has been queued; how
-- many flows, jobs and messages there are; moves and how often each was made (see COUNT.move).
local function read_depths(keys, args)
  local prefix, time, found = string.sub(keys[1], 1, -7), redis.call('TIME'), {}
  for _, name in ipairs(args) do
    local length, waited = COUNT.depth(prefix, name, time[1] * 1000 + math.floor(time[2] / 1000))
    found[#found + 1], found[#found + 2] = length, waited
  end
  for _, kind in ipairs({'flow', 'job', 'message'}) do
    found[#found + 1] = redis.call('ZCARD', prefix .. 'index:' .. kind)
  end
  found[#found + 1] = redis.call('HGETALL', prefix .. 'counts')
  return found
end

redis.register_function{function_name = 'hc_read', callback = read_records, flags = {'no-writes'}}
redis.register_function{function_name = 'hc_depths', callback = read_depths, flags = {'no-writes'}}
