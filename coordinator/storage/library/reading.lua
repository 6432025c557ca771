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

redis.register_function{function_name = 'hc_read', callback = read_records, flags = {'no-writes'}}
