-- What people look at: records found by a filter.

local FIND = {}

-- For each criterion which field of a record it looks at.
FIND.FIELD = {
  status = 'status', name = 'name', tag = 'tags', caller = 'caller_id', runner = 'x_attempt', created_from = 'created_at',
  created_to = 'created_at', ended_from = 'x_ended', ended_to = 'x_ended',
}
FIND.ENDED = {Finished = true, Error = true}
FIND.LAST = 9007199254740991 -- sorts what has not ended behind all that has; 0 does when the newest come first

-- When a record has ended (ms); nil if it has not. A job that is to be tried again has the end of its last attempt.
function FIND.ended(of)
  return FIND.ENDED[of.status] and tonumber(of.x_ended) or nil
end

FIND.IS = {
  status = function(of, wanted)
    return string.find(wanted, ' ' .. of.status .. ' ', 1, true)
  end,
  name = function(of, prefix)
    return of.name and string.sub(of.name, 1, #prefix) == prefix
  end,
  tag = function(of, tag) -- it is JSON, as each of them is in the list
    if not of.tags or not string.find(of.tags, tag, 1, true) then
      return false
    end
    for _, one in ipairs(cjson.decode(of.tags)) do
      if one == cjson.decode('[' .. tag .. ']')[1] then
        return true
      end
    end
  end,
  caller = function(of, id)
    return of.caller_id == id
  end,
  runner = function(of, id)
    local attempt = attempt_of(of.x_attempt)
    return attempt and attempt.runner == id
  end,
  created_from = function(of, time)
    return tonumber(of.created_at) >= tonumber(time)
  end,
  created_to = function(of, time)
    return tonumber(of.created_at) < tonumber(time)
  end,
  ended_from = function(of, time)
    local ended = FIND.ended(of)
    return ended and ended >= time * 1000
  end,
  ended_to = function(of, time)
    local ended = FIND.ended(of)
    return ended and ended < time * 1000
  end,
}

-- Whether a record that is sorted by `value`, and then by its entry, comes behind the place 'VALUE ENTRY' in a list.
function FIND.is_behind(value, entry, place, is_descending)
  local at, other = string.match(place, '^(%S+) (%S+)$')
  at = tonumber(at)
  if is_descending then
    return value < at or (value == at and entry < other)
  end
  return value > at or (value == at and entry > other)
end

-- Look through a part of an index for the records that a filter means.
-- KEYS: 1 the engine. ARGV: 1 the kind of the records, 2 and 3 where in its index that part begins and ends, as ZRANGE
-- BYLEX takes it, 4 'REV' if it is gone through from its end, in the other case '', 5 how many entries are looked at, 6
-- how many records are enough, 7 what they are sorted by, 'created' or 'ended', or '', 8 and 9 the places in that order
-- behind and before which they are, each 'VALUE ENTRY' or '', then the criteria: of each its name and a value.
-- Returns: {the last entry that was looked at, or '' if there are no more; then of each record that was found its entry
-- and, if it is sorted, by what}.
local function find(keys, args)
  local prefix, kind, is_descending = string.sub(keys[1], 1, -7), args[1], args[4] == 'REV'
  local enough, sort, behind, before = tonumber(args[6]), args[7], args[8], args[9]
  local order = is_descending and {'REV', 'LIMIT', 0, args[5]} or {'LIMIT', 0, args[5]}
  local entries = redis.call('ZRANGE', prefix .. 'index:' .. kind, args[2], args[3], 'BYLEX', unpack(order))
  local names, is_read = {'created_at', 'status'}, {created_at = true, status = true}
  local function need(name)
    if not is_read[name] then
      names[#names + 1], is_read[name] = name, true
    end
  end
  for at = 10, #args, 2 do
    need(FIND.FIELD[args[at]])
  end
  if sort == 'ended' then
    need('x_ended')
  end
  local found, of = {''}, {}
  for at, entry in ipairs(entries) do
    local first, second = string.match(entry, '^0*(%d+):?0*(%d*)$')
    local key = prefix .. kind .. ':' .. first .. (second == '' and '' or ':' .. second)
    local values = redis.call('HMGET', key, unpack(names))
    for i, name in ipairs(names) do
      of[name] = values[i] or nil
    end
    local is_meant = of.created_at and of.status
    for at = 10, is_meant and #args or 0, 2 do
      if not FIND.IS[args[at]](of, args[at + 1]) then
        is_meant = false
        break
      end
    end
    if is_meant and sort ~= '' then
      local value = tonumber(of.created_at)
      if sort == 'ended' then
        value = FIND.ended(of) or (is_descending and 0 or FIND.LAST)
      end
      if (behind == '' or FIND.is_behind(value, entry, behind, is_descending))
        and (before == '' or not FIND.is_behind(value, entry, before, is_descending)) then
        found[#found + 1], found[#found + 2] = entry, string.format('%.0f', value)
      end
    elseif is_meant then
      found[#found + 1] = entry
    end
    local is_last = at == #entries and #entries < tonumber(args[5])
    if not is_last and (at == #entries or #found > enough) then
      found[1] = entry
      break
    end
  end
  return found
end

redis.register_function{function_name = 'hc_find', callback = find, flags = {'no-writes'}}
