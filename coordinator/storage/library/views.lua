-- What people look at: records found by a filter, and how much there is of what.

local FIND = {}

-- For each criterion which field of a record it looks at.
FIND.FIELD = {
  status = 'status', name = 'name', tag = 'tags', caller = 'caller_id', runner = 'x_attempt',
  created_from = 'created_at', created_to = 'created_at', ended_from = 'x_ended', ended_to = 'x_ended',
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

-- A place 'VALUE ENTRY' in a list that is sorted by values, and then by entries; nil if it is ''.
function FIND.place(text)
  local value, entry = string.match(text, '^(%S+) (%S+)$')
  return value and {value = tonumber(value), entry = entry}
end

-- Whether a record comes behind a place in a list.
function FIND.is_behind(value, entry, place, is_descending)
  if value ~= place.value then
    return (value > place.value) ~= is_descending
  end
  return entry ~= place.entry and (entry > place.entry) ~= is_descending
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
  local enough, sort, behind, before = tonumber(args[6]), args[7], FIND.place(args[8]), FIND.place(args[9])
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
      if (not behind or FIND.is_behind(value, entry, behind, is_descending))
        and (not before or not FIND.is_behind(value, entry, before, is_descending)) then
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

-- How much there is in a context. It costs the same however much that is, but for the attempts that run, which are
-- looked at once after the server was started.
-- Arguments: script types.
-- Result: 'ok' | 'more': not all attempts were looked at yet, to be called again. Then moves and how often each was
-- made (see COUNT.move); of each type how many entries its queue has, and for how many ms the job that is popped next
-- has been queued; how many runners are there, and how many have an attempt that runs.
local function context_stats(tx, args, o, last)
  local memory, queues, there, busy, connected, working = memory_of(tx), {}, {}, {}, 0, 0
  local is_known = OUTCOME.look_back(tx, memory)
  for at = o + 1, last do
    local length, waited = COUNT.depth(tx.prefix, string.lower(args[at]), tx.wall)
    queues[#queues + 1], queues[#queues + 2] = length, waited
    for runner, till in pairs(memory.there[args[at]] or {}) do
      if till >= tx.now and not there[runner] then
        there[runner], connected = true, connected + 1
      end
    end
  end
  for name in pairs(memory.sessions) do
    local runner = string.match(name, '^%d+')
    if not busy[runner] then
      busy[runner], working = true, working + 1
    end
  end
  return is_known and WORD.OK or WORD.MORE, redis.call('HGETALL', tx.prefix .. 'counts'), queues, connected, working
end

local SWEPT_EVERY = 5000 -- ms after which those that are no longer there are looked for again

-- Say which runners have subscribed.
-- Arguments: 1 for how long, in ms, that may be believed, then of each: its id, since when (ms) and for how many jobs
-- at once, with spaces between.
-- Result: 'ok'.
local function runners_subscribed(tx, args, o, last)
  local memory, coordinator = memory_of(tx), string.match(tx.coordinator, '^%S+')
  local subscribed = memory.subscribed
  if tx.now - (memory.swept.subscribed or 0) > SWEPT_EVERY then
    memory.swept.subscribed = tx.now
    for runner, told in pairs(subscribed) do
      for who, it in pairs(told) do
        told[who] = it.till >= tx.now and it or nil
      end
      subscribed[runner] = next(told) and told
    end
  end
  for at = o + 2, last do
    local runner, since, capacity = string.match(args[at], '^(%d+) (%d+) (%d+)$')
    subscribed[runner] = subscribed[runner] or {}
    subscribed[runner][coordinator] = {since = since, capacity = capacity, till = tx.now + args[o + 1]}
  end
  return WORD.OK
end

local SHOWN = 20 -- jobs of a runner that are named

-- How many runners are there to take jobs.
-- Arguments: script types.
-- Result: 'ok', a number for each.
local function runners_count(tx, args, o, last)
  local memory, counts = memory_of(tx), {}
  for at = o + 1, last do
    local count = 0
    for _, till in pairs(memory.there[args[at]] or {}) do
      count = count + (till >= tx.now and 1 or 0)
    end
    counts[at - o] = count
  end
  return WORD.OK, counts
end

-- The jobs that runners have: runner → how many, and the names of some of them. Of those for whom `held` has a table.
local function look_at_held(memory, held)
  for name, begun in pairs(memory.sessions) do
    local of = held[string.match(name, '^%d+')]
    for job in pairs(of and begun or {}) do
      of.count = of.count + 1
      if of.count <= SHOWN then
        of[of.count] = job
      end
    end
  end
end

-- How runners are.
-- Arguments: runners.
-- Result: 'ok' | 'more': not all attempts that run are known yet, to be called again. Then for each: how often it has
-- failed in a row, or lost, for how many ms yet it gets nothing; 1 if it is there or 0, since when (ms) and for how
-- many jobs it has subscribed, '' if it has not; how many jobs it has, and the names of some, with spaces between.
local function runner_states(tx, args, o, last)
  local told, memory, held = {}, memory_of(tx), {}
  local is_known = OUTCOME.look_back(tx, memory)
  for at = o + 1, last do
    held[args[at]] = {count = 0}
  end
  look_at_held(memory, held)
  for at = o + 1, last do
    local runner = args[at]
    local trouble = memory.troubled[runner] or {failed = 0, lost = 0, till = 0}
    local is_there, since, capacity = 0, '', 0
    for _, runners in pairs(memory.there) do
      if (runners[runner] or 0) >= tx.now then
        is_there = 1
      end
    end
    for _, it in pairs(memory.subscribed[runner] or {}) do -- at each coordinator
      if it.till >= tx.now then
        is_there, capacity = 1, capacity + it.capacity
        since = (since == '' or tonumber(it.since) < tonumber(since)) and it.since or since
      end
    end
    told[at - o] = {trouble.failed, trouble.lost, math.max(0, math.ceil(trouble.till - tx.now)), is_there, since,
      capacity, held[runner].count, table.concat(held[runner], ' ')}
  end
  return is_known and WORD.OK or WORD.MORE, told
end

register('hc_context_stats', context_stats, READS)
register('hc_runners_subscribed', runners_subscribed)
register('hc_runners_count', runners_count, READS)
register('hc_runner_states', runner_states, READS)
redis.register_function{function_name = 'hc_find', callback = find, flags = {'no-writes'}}
