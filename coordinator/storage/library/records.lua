-- Records: created, updated, deleted. The index of a kind is a sorted set of ids, each padded to ten digits, for lists.

local INDEXED = {flow = true, job = true, message = true, runner = true}

-- The kind of a record that belongs into an index, and its entry there, as keys.index_entry makes it; nil for others.
local function index_entry(key)
  local kind, first, second = string.match(key, '(%l+):(%d+):?(%d*)$')
  if not INDEXED[kind] then
    return nil
  end
  local entry = second == '' and string.format('%010d', first) or string.format('%010d:%010d', first, second)
  return kind, entry
end

-- The entries of records that a call has created are put into their indexes all at once, at its end or before it looks
-- at an index: a command for each costs more than the rest of it.
local INDEX = {}

function INDEX.add(tx, kind, entry)
  local entries = tx.entries or {}
  tx.entries = entries
  local items = entries[kind] or {}
  entries[kind] = items
  local count = #items
  items[count + 1], items[count + 2] = '0', entry
end

function INDEX.flush(tx)
  for kind, items in pairs(tx.entries or {}) do
    call_each('ZADD', tx.prefix .. 'index:' .. kind, items)
  end
  tx.entries = nil
end

-- The key of an index, with all that belongs into it by now.
function INDEX.key(tx, kind)
  INDEX.flush(tx)
  return tx.prefix .. 'index:' .. kind
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

-- Each kind of records has the values of members that are neither given nor stored (`defaults`), and says what a new
-- record is stored without, as each field costs much: members that are `empty`, and those that something else has
-- `told`: the key, or, when it was updated, when it was created.
local LEAN = {
  job = {
    defaults = JOB_DEFAULTS,
    empty = JOB_EMPTY,
    told = {id = true, caller_id = true, context_id = true, updated_at = true},
  },
  flow = {defaults = FLOW_DEFAULTS, empty = FLOW_EMPTY, told = {}},
}

-- Shapes that were seen, by their text: there are a few of each kind. What a record of the shape is written with is put
-- together in place, in `new` and `old`: those keep the last one's values.
local shapes = {}

-- The shape of a record of this kind, by its text: the fields that are not set on a record that is there, as
-- name=value, with spaces between, the value empty for one that a new record does not have; '|'; the names of the given
-- fields.
local function shape_of(kind, text)
  local shape = shapes[text]
  if shape then
    return shape
  end
  local initial, given = string.match(text, '^(.-)|(.*)$')
  local lean = LEAN[kind] or {empty = {}, told = {}}
  shape = {
    kept = {}, -- the names of the initial fields
    given = split(given),
    stored = {}, -- which of the given ones a new record has, unless it is
    empty = {}, -- by their place, the text of the empty ones, or false
    new = {'created_at', ''},
    old = {'updated_at', ''},
  }
  if not lean.told.updated_at then
    shape.updated_at, shape.new[3], shape.new[4] = 4, 'updated_at', ''
  end
  for name, value in string.gmatch(initial, '([^%s=]+)=(%S*)') do
    shape.kept[#shape.kept + 1] = name
    if value ~= '' and value ~= lean.empty[name] then
      shape.new[#shape.new + 1] = name
      shape.new[#shape.new + 1] = value
    end
  end
  shape.before_new, shape.before_old = #shape.new, #shape.old -- items in front of the given fields
  for at, name in ipairs(shape.given) do
    if name == 'script_type' then
      shape.type_at = at
    end
    if not lean.told[name] then
      shape.stored[#shape.stored + 1] = at
    end
    shape.empty[at] = lean.empty[name] or false
    shape.old[#shape.old + 1] = name
    shape.old[#shape.old + 1] = ''
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

-- Create a record of this shape, whose given members are the arguments of the call behind `place`.
local function create(tx, kind, record, entry, shape, args, place)
  local items, count, given, empty = shape.new, shape.before_new, shape.given, shape.empty
  items[2] = tx.seconds
  if shape.updated_at then
    items[shape.updated_at] = tx.seconds
  end
  for _, at in ipairs(shape.stored) do
    local value = args[place + at]
    if value ~= empty[at] then
      items[count + 1], items[count + 2] = given[at], value
      count = count + 2
    end
  end
  redis.call('HSET', tx.prefix .. record, unpack(items, 1, count))
  if entry ~= '' then
    INDEX.add(tx, kind, entry)
  end
  if kind == 'job' and shape.type_at then
    COUNT.created(tx, args[place + shape.type_at], 'Dispatched')
  elseif kind == 'flow' then
    COUNT.flow(tx, '', 'Dispatched')
  end
end

-- Update one with all of them.
local function update(tx, record, shape, args, place)
  local key, items, type_at = tx.prefix .. record, shape.old, shape.type_at
  items[2] = tx.seconds
  for at = 1, #shape.given do
    items[shape.before_old + 2 * at] = args[place + at]
  end
  local type_before = type_at and redis.call('HGET', key, 'script_type')
  redis.call('HSET', key, unpack(items))
  if type_before then
    COUNT.job(tx, type_before, args[place + type_at])
  end
end

-- Create a record or update it, as `created_at` (false: it is new) says; created_at stays, updated_at moves. The
-- arguments of the call from `first` on: its index entry or '' if its kind has no index, its shape, the values of the
-- given fields.
local function write(tx, record, created_at, args, first)
  local kind = string.match(record, '^%l+')
  local shape = shape_of(kind, args[first + 1])
  if created_at then
    update(tx, record, shape, args, first + 1)
  else
    create(tx, kind, record, args[first], shape, args, first + 1)
  end
  if tx.counts and BYTES.KINDS[kind] then
    BYTES.count(tx, record)
  end
end

local function remove(tx, key)
  local kind, entry = index_entry(key)
  if kind then
    redis.call('ZREM', INDEX.key(tx, kind), entry)
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
  local record = args[o + 1]
  local key = tx.prefix .. record
  local created_at = redis.call('HGET', key, 'created_at')
  if not created_at then
    write(tx, record, created_at, args, o + 2)
    return tx.seconds
  end
  local names = shape_of(string.match(record, '^%l+'), args[o + 3]).kept
  local stored = #names > 0 and redis.call('HMGET', key, unpack(names)) or {}
  if prepare then
    local word, record_in_way, run = prepare(tx, record, stored, names, args, o + 2)
    if word then
      return word, record_in_way, run
    end
  end
  write(tx, record, created_at, args, o + 2)
  local reply = created_at .. '\0' .. tx.seconds
  for i = 1, #names do
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
