-- Records: created, updated, deleted. The index of a kind is a sorted set of ids, each padded to ten digits, for lists.

local INDEXED = {flow = true, job = true, message = true, runner = true}

-- The index a record belongs into and its entry there, as keys.index_entry makes it; nil for kinds without one.
local function index_entry(key)
  local prefix, kind, first, second = string.match(key, '^(.-)(%l+):(%d+):?(%d*)$')
  if not INDEXED[kind] then
    return nil
  end
  local entry = second == '' and string.format('%010d', first) or string.format('%010d:%010d', first, second)
  return prefix .. 'index:' .. kind, entry
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

-- How many jobs and flows there are, by their status, and jobs by script type. What changes a status notes a move, of a
-- job 'FROM>TO', of a flow 'flow FROM>TO'. One that is created comes from its script type, and goes there when it is
-- deleted; a flow comes from nothing. The hash `counts` has how often each move was made, which at the end of a call
-- costs a command for each kind of move in it, not for each job; whoever asks adds them up.
function COUNT.move(tx, move, times)
  local moves = tx.moves
  moves[move] = (moves[move] or 0) + (times or 1)
end

function COUNT.job(tx, from, to)
  if from and to and from ~= to then
    COUNT.move(tx, from .. '>' .. to)
  end
end

-- A job of this script type is created in a status. Of both there are but a few.
COUNT.moves = {}
function COUNT.created(tx, type, status)
  local moves = COUNT.moves[type]
  if not moves then
    moves = {}
    COUNT.moves[type] = moves
  end
  local move = moves[status]
  if not move then
    move = type .. '>' .. status
    moves[status] = move
  end
  COUNT.move(tx, move, 1)
end

function COUNT.flow(tx, from, to)
  if from ~= to then
    COUNT.move(tx, 'flow ' .. from .. '>' .. to)
  end
end

-- A fault in this must not be one of the call.
function COUNT.flush(tx)
  for move, count in pairs(tx.moves) do
    redis.pcall('HINCRBY', tx.prefix .. 'counts', move, count)
  end
  tx.moves = {}
end

-- Shapes that were seen, by their text: there are a few of each kind. What a record of the shape is written with is put
-- together in place, in `new` and `old`: those keep the last one's values.
local shapes = {}

-- A shape's text: the fields that are not set on a record that is there, as name=value, with spaces between, the value
-- empty for one that a new record does not have; '|'; the names of the given fields.
local function shape_of(text)
  local shape = shapes[text]
  if shape then
    return shape
  end
  local initial, given = string.match(text, '^(.-)|(.*)$')
  shape = {
    kept = {'created_at'}, -- what an update leaves as it is, with the names of the initial fields
    count = 0, -- given fields
    new = {'updated_at', '', 'created_at', ''},
    old = {'updated_at', ''},
  }
  for name, value in string.gmatch(initial, '([^%s=]+)=(%S*)') do
    shape.kept[#shape.kept + 1] = name
    if value ~= '' then
      shape.new[#shape.new + 1] = name
      shape.new[#shape.new + 1] = value
    end
  end
  shape.before_new, shape.before_old = #shape.new, #shape.old -- items in front of the given fields
  for name in string.gmatch(given, '%S+') do
    shape.count = shape.count + 1
    if name == 'script_type' then
      shape.type_at = shape.count
    end
    for _, items in ipairs({shape.new, shape.old}) do
      items[#items + 1] = name
      items[#items + 1] = ''
    end
  end
  shapes[text] = shape
  return shape
end

-- What records take, if a coordinator wants to limit that (tx.counts). Each job, flow and message has in its field
-- x_bytes the number of a count and the bytes of memory that were counted for it; the engine's field `bytes` is their
-- sum, in the count whose number is its field `count`; see upkeep.lua.
local BYTES = {}
BYTES.KINDS = {flow = true, job = true, message = true}

function BYTES.number(tx)
  tx.count = tx.count or redis.call('HGET', tx.engine, 'count') or '0'
  return tx.count
end

-- The bytes that were counted for a record in the count that holds.
function BYTES.counted(tx, key)
  local count, size = string.match(redis.call('HGET', key, 'x_bytes') or '', '^(%d+) (%d+)$')
  return count == BYTES.number(tx) and tonumber(size) or 0
end

-- Count what a job, flow or message takes that was written.
function BYTES.count(tx, record)
  if not tx.counts then
    return
  end
  local key = tx.prefix .. record
  local before, size = BYTES.counted(tx, key), redis.call('MEMORY', 'USAGE', key, 'SAMPLES', '0')
  if size then
    redis.call('HSET', key, 'x_bytes', string.format('%s %.0f', BYTES.number(tx), size))
    redis.call('HINCRBY', tx.engine, 'bytes', string.format('%.0f', size - before))
  end
end

-- A record goes: it takes nothing any more.
function BYTES.uncount(tx, key)
  local size = tx.counts and BYTES.counted(tx, key) or 0
  if size ~= 0 then
    redis.call('HINCRBY', tx.engine, 'bytes', string.format('%.0f', -size))
  end
end

-- Create a record or update it, as `created_at` (false: it is new) says; created_at stays, updated_at moves. The
-- arguments of the call from `first` on: its index entry or '' if its kind has no index, its shape, the values of the
-- given fields.
local function write(tx, record, created_at, args, first)
  local key, entry, shape = tx.prefix .. record, args[first], shape_of(args[first + 1])
  local items, before = shape.new, shape.before_new
  if created_at then
    items, before = shape.old, shape.before_old
  else
    items[4] = tx.seconds
  end
  items[2] = tx.seconds
  for i = 1, shape.count do
    items[before + 2 * i] = args[first + 1 + i]
  end
  local type_before = created_at and shape.type_at and redis.call('HGET', key, 'script_type')
  redis.call('HSET', key, unpack(items, 1, before + 2 * shape.count))
  local kind = string.match(record, '^%l+')
  if tx.counts and BYTES.KINDS[kind] then
    BYTES.count(tx, record)
  end
  if created_at then
    if type_before then
      COUNT.job(tx, type_before, args[first + 1 + shape.type_at])
    end
    return
  end
  if kind == 'job' and shape.type_at then
    COUNT.job(tx, args[first + 1 + shape.type_at], 'Dispatched')
  elseif kind == 'flow' then
    COUNT.flow(tx, '', 'Dispatched')
  end
  if entry ~= '' then
    redis.call('ZADD', tx.prefix .. 'index:' .. kind, '0', entry)
  end
end

local function remove(tx, key)
  local name, entry = index_entry(key)
  if name then
    redis.call('ZREM', name, entry)
  end
  BYTES.uncount(tx, key)
  local record = string.sub(key, #tx.prefix + 1)
  if string.find(record, '^job:') then
    redis.call('DEL', tx.prefix .. 'tail:' .. record, tx.prefix .. 'attempts:' .. record)
    COUNT.job(tx, unpack(redis.call('HMGET', key, 'status', 'script_type')))
  elseif string.find(record, '^flow:') then
    local status = redis.call('HGET', key, 'status')
    if status then
      COUNT.flow(tx, status, '')
    end
  end
  return redis.call('DEL', key)
end

-- Create or update a record. `prepare`, if given, is called for one that is there, with its stored fields and their
-- names, which it may change; what it returns, if anything, is the result, and nothing is written. Returns when it was
-- created (s) if it is new; else that, when it was updated, and of each field that is set on a new record only what was
-- stored (NOT_GIVEN if it was not), joined by NUL.
local function upsert(tx, args, o, prepare)
  local record, names = args[o + 1], shape_of(args[o + 3]).kept
  local stored = redis.call('HMGET', tx.prefix .. record, unpack(names))
  if prepare and stored[1] then
    local word, record_in_way, run = prepare(tx, record, stored, names, args, o + 2)
    if word then
      return word, record_in_way, run
    end
  end
  write(tx, record, stored[1], args, o + 2)
  if not stored[1] then
    return tx.seconds
  end
  local reply = stored[1] .. '\0' .. tx.seconds
  for i = 2, #names do
    reply = reply .. '\0' .. (stored[i] and without_nul(stored[i]) or NOT_GIVEN)
  end
  return reply
end

-- Create or update a record.
-- Arguments: 1 the record, then as `write` takes them.
-- Result: as upsert.
local function record_upsert(tx, args, o)
  return upsert(tx, args, o)
end

-- Create or update a message.
-- Arguments: 1 the message, 2 its `job` field as the caller read it, '' if it is not there, 3 how many pieces of the
-- new one, those: the time goes between them; then as `write` takes them.
-- Result: the whole record, as HGETALL does | 'changed', its `job` field, which is another, or ''.
local function message_upsert(tx, args, o)
  local message, first, last = args[o + 1], o + 4, o + 3 + args[o + 3]
  local created_at, stored = unpack(redis.call('HMGET', tx.prefix .. message, 'created_at', 'job'))
  if (stored or '') ~= args[o + 2] then
    return WORD.CHANGED, stored or ''
  end
  write(tx, message, created_at, args, last + 1)
  redis.call('HSET', tx.prefix .. message, 'job', table.concat(args, tx.seconds, first, last))
  BYTES.count(tx, message)
  return redis.call('HGETALL', tx.prefix .. message)
end
