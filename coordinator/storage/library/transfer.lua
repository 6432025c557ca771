-- A context is held still while it is exported or imported: what is written to it is refused (see begin), and its clock
-- of timers stands still, so no lease ends meanwhile. The field skew of its engine says so: `export TOKEN SKEW SINCE
-- UNTIL` instead of the skew it had SINCE then (ms), or the same with `import` while keys are brought, and `commit`
-- while they become the context's. After UNTIL an export has ended; an import was not finished, and the next one ends
-- it.

local function held_of(engine)
  local stored = redis.call('HGET', engine, 'skew')
  local what, token, skew, since, ends = string.match(stored or '', '^(%l+) (%S+) (%S+) (%S+) (%S+)$')
  return {what = what, token = token, skew = tonumber(skew or stored or nil) or 0, since = tonumber(since),
    ends = tonumber(ends)}
end

local function hold_as(engine, what, token, held, ends)
  local number = '%.0f'
  redis.call('HSET', engine, 'skew', table.concat({what, token, string.format(number, held.skew),
    string.format(number, held.since), string.format(number, ends)}, ' '))
end

-- Hold a context still, or go on holding it.
-- KEYS: 1 its engine. ARGV: 1 'export', 'import' or 'commit', 2 a token that names who holds it, 3 for how long (ms).
-- Returns: {'ok', what the clock of timers shows (ms), what an import was about that had not been finished, or ''} |
-- {'busy', what somebody else holds it for}.
local function hold(keys, args)
  local _, wall = CLOCK.read()
  local what, held, unfinished = args[1], held_of(keys[1]), ''
  local is_over = held.what and wall >= held.ends
  if held.what == 'export' and is_over then
    held = {skew = held.skew + held.since - wall}
  elseif held.what and held.token ~= args[2] and what == 'import' and is_over then
    unfinished = held.what
    what = unfinished
  elseif held.what and held.token ~= args[2] then
    return {WORD.BUSY, held.what}
  end
  if not held.what and CLOCK.known.set ~= 0 then
    held.skew = CLOCK.adopt({engine = keys[1], prefix = string.sub(keys[1], 1, -7)}, held.skew, true)
  end
  held.since = held.since or wall
  hold_as(keys[1], what, args[2], held, wall + args[3])
  return {WORD.OK, string.format('%.0f', held.since + held.skew), unfinished}
end

-- Hold a context no longer. Its clock goes on where it stood, or from another time on.
-- KEYS: 1 its engine. ARGV: 1 the token, 2 what its clock of timers is to show (ms), '' for what it shows, 3 the
-- channel.
-- Returns: 'ok' | 'stale': it is not held by that name.
local function let_go(keys, args)
  local _, wall = CLOCK.read()
  local held = held_of(keys[1])
  if not held.what or held.token ~= args[1] then
    return WORD.STALE
  end
  local shown = tonumber(args[2]) or held.since + held.skew
  redis.call('HSET', keys[1], 'skew', string.format('%.0f', shown - wall), 'clock',
    CLOCK.known.run .. ' ' .. string.format('%.0f', CLOCK.known.set))
  if held.what ~= 'export' then
    forget_memory(args[3], string.sub(keys[1], 1, -7))
  end
  return WORD.OK
end

-- The last keys that an import has brought become the context's, and what its engine keeps.
-- KEYS: 1 its engine. ARGV: 1 the token, then the names of the keys.
-- Returns: 'ok' | 'stale': it is not held by that name for this.
local function settle(keys, args)
  local prefix, held = string.sub(keys[1], 1, -7), held_of(keys[1])
  if held.what ~= 'commit' or held.token ~= args[1] then
    return WORD.STALE
  end
  local engine = redis.call('HGETALL', prefix .. 'import:engine')
  if #engine > 0 then
    redis.call('HSET', keys[1], unpack(engine))
    redis.call('DEL', prefix .. 'import:engine')
  end
  for at = 2, #args do
    if redis.call('EXISTS', prefix .. 'import:' .. args[at]) == 1 then
      redis.call('RENAME', prefix .. 'import:' .. args[at], prefix .. args[at])
    end
  end
  return WORD.OK
end

redis.register_function{function_name = 'hc_hold', callback = hold, flags = {'allow-oom'}}
redis.register_function{function_name = 'hc_let_go', callback = let_go, flags = {'allow-oom'}}
redis.register_function{function_name = 'hc_settle', callback = settle, flags = {'allow-oom'}}
