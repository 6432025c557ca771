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

local EVENTS_AT_ONCE = 4 -- read of a stream before it is looked at how large they are

-- Read the events of a flow until there are so many, or they have so many bytes, but one at least.
-- KEYS: 1 the engine. ARGV: 1 the flow's id, 2 the event after which to begin, 3 how many at most, 4 bytes.
-- Returns: {events as XRANGE returns them, 1 if there are no more for now or 0}.
local function read_events(keys, args)
  local stream = string.sub(keys[1], 1, -7) .. 'events:' .. args[1]
  local after, count, bytes = args[2], tonumber(args[3]), tonumber(args[4])
  local found = {}
  while #found < count do
    local wanted = math.min(count - #found, EVENTS_AT_ONCE)
    local entries = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', wanted)
    for _, entry in ipairs(entries) do
      if bytes <= 0 then
        return {found, 0}
      end
      found[#found + 1] = entry
      after = entry[1]
      bytes = bytes - #entry[2][2]
    end
    if #entries < wanted then
      return {found, 1}
    end
  end
  return {found, 0}
end

redis.register_function{function_name = 'hc_events', callback = read_events, flags = {'no-writes'}}
redis.register_function{function_name = 'hc_read', callback = read_records, flags = {'no-writes'}}
