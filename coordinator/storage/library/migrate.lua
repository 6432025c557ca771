-- What older versions have stored becomes what this one reads. Each context says in the field `schema` of its engine
-- hash what layout it has; one without it may have any. Layouts: 8 counts its records by status (`counts`), 7 is that
-- of versions 5 to 7. Those of versions 3 and 4 kept each part of an attempt and of an event in a field of its own.

local SCHEMA = '8'
local ONLY_UNCOUNTED = '7'
local RECORDS_A_CALL = 100
local EVENTS_A_CALL = 500

-- A number that may have been printed as 1.7e+12.
local function as_whole(text)
  return string.format('%.0f', tonumber(text) or 0)
end

-- Remove a field that is empty: later versions have none then.
local function drop_empty(key, name, value)
  if value == '' then
    redis.call('HDEL', key, name)
  end
end

local OF_JOB = {'x_attempt', 'x_runner', 'x_token', 'x_last', 'x_lease', 'x_started', 'x_deadline', 'x_session',
  'x_next', 'x_awaits', 'x_parents', 'x_run', 'depends'}

-- One field for the last attempt at a job, and the ids of those it waits for.
local function migrate_job(key)
  local number, runner, token, last, lease, started, deadline, session, next, awaits, parents, run, depends =
    unpack(redis.call('HMGET', key, unpack(OF_JOB)))
  drop_empty(key, 'x_next', next)
  drop_empty(key, 'x_awaits', awaits)
  if run and not parents and depends and depends ~= '[]' then
    local ids, seen = {}, {}
    for id in string.gmatch(depends, '%d+') do
      if not seen[id] then
        seen[id] = true
        ids[#ids + 1] = id
      end
    end
    redis.call('HSET', key, 'x_parents', table.concat(ids, ' '))
  end
  if not number or string.find(number, ' ', 1, true) then
    return
  end
  local words = split(last)
  if runner then
    local attempt = {as_whole(number), token or words[2] or words[1] or '-', runner, as_whole(lease), as_whole(started),
      as_whole(deadline), session or ''}
    redis.call('HSET', key, 'x_attempt', table.concat(attempt, ' '))
  end
  if words[1] == 'fail' then
    redis.call('HSET', key, 'x_failed', table.concat(words, ' ', 2))
  end
  redis.call('HDEL', key, 'x_runner', 'x_token', 'x_last', 'x_lease', 'x_started', 'x_deadline', 'x_session')
end

-- An event's fields as one.
local function migrate_event(fields)
  local of = {}
  for at = 1, #fields, 2 do
    of[fields[at]] = fields[at + 1]
  end
  if of.e then
    return of.e
  end
  local event = '"kind":"' .. of.k .. '","at":' .. as_whole(of.t)
  for _, member in ipairs({{'status', of.s and '"' .. of.s .. '"'}, {'job_id', of.j}, {'attempt', of.a},
    {'runner_id', of.r}, {'topic', of.p and cjson.encode(of.p)}, {'reason', of.w and cjson.encode(of.w)},
    {'stream', of.o and '"' .. of.o .. '"'}, {'lines', of.l}}) do
    if member[2] then
      event = event .. ',"' .. member[1] .. '":' .. member[2]
    end
  end
  return event
end

-- Some of a flow's events. Returns whether those were the last.
local function migrate_events(events)
  local new = events .. ':migrated'
  local first = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
  if not first or first[2][1] == 'e' then -- none, or none of an older version
    return true
  end
  local done = redis.call('XREVRANGE', new, '+', '-', 'COUNT', 1)[1]
  local entries = redis.call('XRANGE', events, done and '(' .. done[1] or '-', '+', 'COUNT', EVENTS_A_CALL)
  for _, entry in ipairs(entries) do
    redis.call('XADD', new, entry[1], 'e', migrate_event(entry[2]))
  end
  if #entries == EVENTS_A_CALL then
    return false
  end
  local lasts = redis.call('PTTL', events)
  redis.call('RENAME', new, events)
  if lasts > 0 then
    redis.call('PEXPIRE', events, lasts)
  end
  return true
end

-- A flow's or message's counter that later versions keep, and a flow's events. Returns whether that was all of it.
local function migrate_run(prefix, record)
  local key = prefix .. record
  local active, pending = unpack(redis.call('HMGET', key, 'x_active', 'x_pending'))
  if active and not pending then
    redis.call('HSET', key, 'x_pending', '0', 'x_leaves', '')
  end
  local flow = string.match(record, '^flow:(%d+)$')
  if not flow then
    return true
  end
  local events = prefix .. 'events:' .. flow
  local info = redis.call('EXISTS', events) == 1 and redis.call('XINFO', 'STREAM', events) or {}
  for at = 1, #info, 2 do
    if info[at] == 'entries-added' then -- a copy does not know that some were trimmed
      if info[at + 1] > redis.call('XLEN', events) then
        redis.call('HSET', key, 'x_forgotten', '1')
      end
    end
  end
  return migrate_events(events)
end

-- Count a record that is there, as if it was created now. `tx`: has the moves, and the prefix.
local function count_stored(tx, kind, record)
  local status, type = unpack(redis.call('HMGET', tx.prefix .. record, 'status', 'script_type'))
  if kind == 'job' then
    COUNT.job(tx, type, status)
  elseif kind == 'flow' and status then
    COUNT.flow(tx, '', status)
  end
end

-- Bring a part of a context to the layout of this version. Called again, it goes on. While a context has an older one
-- nobody else writes to it. How far this is, and what was counted so far, is written at the end of each call.
-- KEYS: 1 the engine. ARGV: none.
-- Returns: 1 if all of the context has the layout now, or 0.
local function migrate(keys)
  local engine, prefix = keys[1], string.sub(keys[1], 1, -7)
  local tx = {prefix = prefix, moves = {}}
  local schema, at = unpack(redis.call('HMGET', engine, 'schema', 'migrating'))
  if schema == SCHEMA then
    return 1
  end
  if not exists_any({engine, prefix .. 'index:job', prefix .. 'index:flow', prefix .. 'index:message'}) then
    return 1 -- nothing was stored, and nothing is now
  end
  if not at then
    redis.call('DEL', prefix .. 'counts')
  end
  local function end_at(place)
    redis.call('HSET', engine, 'migrating', place)
    COUNT.flush(tx)
    return 0
  end
  local kind, after = string.match(at or 'job', '^(%l+) ?(.*)$')
  local entries = redis.call('ZRANGE', prefix .. 'index:' .. kind, after == '' and '-' or '(' .. after, '+', 'BYLEX',
    'LIMIT', 0, RECORDS_A_CALL)
  for _, entry in ipairs(entries) do
    local first, second = string.match(entry, '^0*(%d+):?0*(%d*)$')
    local record = kind .. ':' .. first .. (second == '' and '' or ':' .. second)
    local is_done = true
    if schema == ONLY_UNCOUNTED then
      is_done = true
    elseif kind == 'job' then
      migrate_job(prefix .. record)
    else
      is_done = migrate_run(prefix, record)
    end
    if not is_done then
      break
    end
    after = entry
    count_stored(tx, kind, record)
    local has_events = kind == 'flow' and redis.call('EXISTS', prefix .. 'events:' .. first) == 1
    if has_events and schema ~= ONLY_UNCOUNTED then
      return end_at(kind .. ' ' .. after) -- one flow's events are as much work as many records
    end
  end
  if #entries > 0 then
    return end_at(after == '' and kind or kind .. ' ' .. after)
  end
  local next = ({job = 'flow', flow = 'message'})[kind]
  if next and not (next == 'message' and schema == ONLY_UNCOUNTED) then
    return end_at(next)
  end
  redis.call('HSET', engine, 'schema', SCHEMA)
  redis.call('HDEL', engine, 'migrated', 'migrating')
  return 1
end

redis.register_function{function_name = 'hc_migrate', callback = migrate, flags = {'allow-oom'}}
