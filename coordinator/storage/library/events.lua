-- What happens to a flow, for those who follow it.
--
-- `<prefix>events:FLOW` is a stream. An entry has one field: e, events on a line each, as `emit` makes them; or l, a
-- log, that is in the stream `lines:FLOW` under the same id, so that logs can be dropped without the rest. An entry of
-- several events has the id of the last of them; those before it have the numbers before that. So each has the id it
-- would have in an entry of its own, as all had in earlier versions.

local STREAM_KEPT = '1000000' -- entries, about
local PLACES = 1000000 -- more events than one call has of a flow
local ENTRY_BYTES = 4096 -- at which an entry is not added to

-- Append an entry. Only what happens to the flow itself begins the stream: what happens to its jobs when events are no
-- longer kept leaves none behind. Returns whether it may have that id.
local function append_entry(tx, run, it, id, text, is_again)
  local key, reply, call = tx.prefix .. 'events:' .. string.sub(run, 6), nil, is_again and redis.call or redis.pcall
  if it.begins then
    reply = call('XADD', key, 'MAXLEN', '~', STREAM_KEPT, id, 'e', text)
  elseif it.trims then
    reply = call('XADD', key, 'NOMKSTREAM', 'MAXLEN', '~', STREAM_KEPT, id, 'e', text)
  else
    reply = call('XADD', key, 'NOMKSTREAM', id, 'e', text)
  end
  if type(reply) == 'table' and id == '*' then -- what is there is no stream
    redis.call('DEL', key)
    redis.pcall('HSET', tx.prefix .. run, 'x_forgotten', '1')
    return append_entry(tx, run, it, id, text, true)
  end
  return type(reply) ~= 'table'
end

-- The last event of an entry that begins with this one, if there are more than it may have.
local function last_of_entry(lines, first)
  local last, bytes = first, #lines[first]
  while bytes < ENTRY_BYTES do
    last = last + 1
    bytes = bytes + 1 + #lines[last]
  end
  return last
end

-- Write what has happened to a flow in this call so far. Several events have numbers that begin with the microsecond,
-- so that no other call of the same millisecond has given any of them; if the newest entry is later all the same, as
-- after the clock was set back, each gets an entry with the number the server gives.
function EVENTS.write(tx, run)
  local it = tx.events[run]
  if not it then
    return
  end
  local lines, last = it.lines, it.count
  while it.kept < last do
    local first, to, text = it.kept + 1, last, nil
    if to > first then
      text = table.concat(lines, '\n', first, to)
      if #text - #lines[to] > ENTRY_BYTES then
        to = last_of_entry(lines, first)
        text = table.concat(lines, '\n', first, to)
      end
    end
    it.kept = to
    if to > first and not it.is_late then
      local number = to + (it.logs or 0)
      local id = tx.ids[number] -- mostly several flows have as many
      if not id then
        id = tx.at .. '-' .. string.format('%.0f', (tx.micros + 1) * PLACES + number)
        tx.ids[number] = id
      end
      it.is_late = not append_entry(tx, run, it, id, text) or nil
    end
    if to == first or it.is_late then
      for at = first, to do
        append_entry(tx, run, it, '*', lines[at])
      end
    end
    it.begins = false
  end
  it.trims = false
  if it.ttl then
    redis.call('PEXPIRE', tx.prefix .. 'events:' .. string.sub(run, 6), it.ttl)
    it.ttl = false
  end
end

function EVENTS.write_all(tx)
  for run in pairs(tx.events) do
    EVENTS.write(tx, run)
  end
end

-- The first event of an entry: its number, and the time in front of that.
function EVENTS.first_of(entry)
  local time, number = string.match(entry[1], '^(%d+)%-(%d+)$')
  local _, more = string.gsub(entry[2][2], '\n', '')
  return number - more, time
end

local function id_of(time, number)
  return time .. '-' .. string.format('%.0f', number)
end

function EVENTS.first_id(entry)
  local number, time = EVENTS.first_of(entry)
  return id_of(time, number)
end

-- Add the events of an entry that come after event `after` to a list, each its id and what it says, until there are so
-- many or they have so many bytes. Returns how many more there may be, and how many more bytes, and the last one's id.
function EVENTS.read(events, entry, after, count, bytes)
  local number, time = EVENTS.first_of(entry)
  local after_time, after_number = string.match(after, '^(%d+)%-(%d+)$')
  local is_read = tonumber(after_time) == tonumber(time) and tonumber(after_number) or -1
  for event in string.gmatch(entry[2][2], '[^\n]+') do
    if number > is_read then
      if count <= 0 or bytes <= 0 then
        break
      end
      after = id_of(time, number)
      events[#events + 1] = after
      events[#events + 1] = event
      count, bytes = count - 1, bytes - #event
    end
    number = number + 1
  end
  return count, bytes, after
end
