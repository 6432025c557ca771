-- What happens to all flows of a context, for those who follow the context.
--
-- `<prefix>feed` is a stream. It is there only while somebody follows, and for some minutes after, as it expires unless
-- it is kept: see following.lua. So while nobody follows, nothing is written. An entry holds events of one call: field
-- e, a line for each, the members of a ContextEvent but its id, as JSON. Logs are not among them.

local ENTRIES_KEPT = '5000' -- about
local ENTRY_EVENTS = 32 -- at most; ENTRY_PLACES in storage/functions is larger
local ENTRY_BYTES = 4096 -- at which an entry is not added to
local TEXT_BYTES = 200 -- of a text in an event that is long

-- Make texts in a value shorter that are too long, without cutting a character.
local function shorten_text(text)
  local last = TEXT_BYTES
  while last > 0 and string.byte(text, last + 1) >= 128 and string.byte(text, last + 1) < 192 do
    last = last - 1
  end
  return string.sub(text, 1, last) .. '…'
end

-- An event of which no text is long.
local function shorten_event(event)
  if #event <= 2 * TEXT_BYTES then
    return event
  end
  local members = cjson.decode('{' .. event .. '}')
  for name, value in pairs(members) do
    if type(value) == 'string' and #value > TEXT_BYTES then
      members[name] = shorten_text(value)
    end
  end
  return string.sub(cjson.encode(members), 2, -2)
end

-- A run, if it is a flow, is in another status, of which its own events say nothing.
local function tell_feed(tx, run, status)
  if string.sub(run, 1, 5) == 'flow:' then
    local event = '"kind":"flow","at":' .. tx.at .. ',"status":"' .. status .. '"'
    tx.feed[#tx.feed + 1] = {flow = run, lines = {event}}
  end
end

-- Write what has happened in this call to the stream.
local function write_feed(tx, feed)
  local lines, bytes = {}, 0
  for at, it in ipairs(tx.feed) do
    it.fed = (it.fed or 0) + 1
    local line = '"flow_id":' .. string.sub(it.flow, 6) .. ',' .. shorten_event(it.lines[it.fed])
    lines[#lines + 1], bytes = line, bytes + #line
    if #lines == ENTRY_EVENTS or bytes >= ENTRY_BYTES or at == #tx.feed then
      redis.call('XADD', feed, 'NOMKSTREAM', 'MAXLEN', '~', ENTRIES_KEPT, '*', 'e', table.concat(lines, '\n'))
      lines, bytes = {}, 0
    end
  end
  tx.feed = {}
end

-- What the server says of a stream.
local function stream_info(key)
  local info, reply = {}, redis.call('XINFO', 'STREAM', key)
  for at = 1, #reply, 2 do
    info[reply[at]] = reply[at + 1]
  end
  return info
end

-- Whether a number written in decimal digits is below another. They may have more digits than Lua's numbers.
local function is_below(a, b)
  a, b = string.gsub(a, '^0+', ''), string.gsub(b, '^0+', '')
  if #a ~= #b then
    return #a < #b
  end
  return a < b
end

-- Whether event id `a` comes before `b`.
local function is_before(a, b)
  local a_ms, a_number = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_number = string.match(b, '^(%d+)-(%d+)$')
  return is_below(a_ms, b_ms) or (not is_below(b_ms, a_ms) and is_below(a_number, b_number))
end

local FEED = {tell = tell_feed, write = write_feed, state_of = stream_info, is_before = is_before}
