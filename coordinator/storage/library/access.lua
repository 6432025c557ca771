-- Access: transitions for who may only act on what is theirs, and what logging in needs.
--
-- In GLOBAL: `token:ID` is a hash of what is kept of a token, gone when it expires; the sorted set `tokens:PRINCIPAL`
-- has the ids of a principal's, by when they expire (s). An actor has x_old_pubkey until x_old_until (s) while its key
-- is being changed, and x_revoked (s) once it may not log in any more.

-- Each is given a record and what it is compared with, and returns whether the transition is refused, or a text that is
-- told of it then.
local GUARD = {}

-- The record is the caller's, or it is not there.
function GUARD.own(tx, record, caller)
  local owner = string.match(record, '^job:(%d+):') -- a job's key tells it
  if owner then
    return owner ~= caller and redis.call('EXISTS', tx.prefix .. record) == 1
  end
  owner = redis.call('HGET', tx.prefix .. record, 'caller_id')
  return owner and owner ~= caller
end

-- The record does not run.
function GUARD.idle(tx, record)
  if string.sub(record, 1, 4) ~= 'job:' then
    return is_active(tx, record)
  end
  local status, run = unpack(redis.call('HMGET', tx.prefix .. record, 'status', 'x_run'))
  return status == 'Started' or (run and is_active(tx, run))
end

-- The jobs embedded in a message are the caller's. Within a text each quote has a backslash before it, so it is only
-- the jobs' own members that look like this.
function GUARD.embedded(tx, message, caller)
  for owner in string.gmatch(redis.call('HGET', tx.prefix .. message, 'job') or '', '"caller_id":(%d+)') do
    if owner ~= caller then
      return true
    end
  end
end

-- The last attempt at a job is the one with this token, and the runner's; or the job is not there. `who`: the runner, a
-- space, the token.
function GUARD.attempt(tx, job, who)
  local status, field = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_attempt'))
  local attempt = attempt_of(field)
  return status and not (attempt and attempt.runner .. ' ' .. attempt.token == who)
end

-- The record is not there.
function GUARD.absent(tx, record)
  return redis.call('EXISTS', tx.prefix .. record) == 1
end

-- The actor has this key and was not revoked, or is not there.
function GUARD.key(tx, actor, pubkey)
  local stored, revoked = unpack(redis.call('HMGET', tx.prefix .. actor, 'pubkey', 'x_revoked'))
  return stored and (revoked or stored ~= pubkey)
end

-- There are so many records of a kind at most, with those that are to be created. `what`: the kind, a space, how many;
-- `names`: of those, with spaces between. Only where it might be too many is looked which of them are there already.
function GUARD.quota(tx, what, names)
  local kind, most = string.match(what, '^(%l+) (%d+)$')
  local _, more = string.gsub(names, '%S+', '')
  local free = tonumber(most) - redis.call('ZCARD', INDEX.key(tx, kind))
  if more <= free then
    return false
  end
  local seen, new = {}, 0
  for name in string.gmatch(names, '%S+') do
    if not seen[name] and redis.call('EXISTS', tx.prefix .. name) == 0 then
      new = new + 1
    end
    seen[name] = true
  end
  return new > math.max(free, 0)
end

-- The jobs, flows and messages of the context take so many bytes at most, with what is to be written: `what` is how
-- many bytes that has, then the names of the records, with spaces between. Only where it might be too much is looked
-- what those take now. Returns what all take if it refuses.
function GUARD.bytes(tx, most, what)
  local brought, names = string.match(what, '^(%d+) ?(.*)$')
  most, brought = tonumber(most), tonumber(brought)
  local used, before, counting, counted_at =
    unpack(redis.call('HMGET', tx.engine, 'bytes', 'bytes_before', 'counting', 'counted_at'))
  if brought <= most and not counted_at then
    BYTES.begin(tx)
  elseif counting then
    BYTES.go_on(tx)
  end
  used, before = unpack(redis.call('HMGET', tx.engine, 'bytes', 'bytes_before'))
  used = math.max(tonumber(used) or 0, tonumber(before) or 0)
  if used + brought <= most then
    return false
  end
  local seen = {}
  for name in string.gmatch(names, '%S+') do
    if not seen[name] then
      brought = brought - BYTES.counted(tx, tx.prefix .. name)
    end
    seen[name] = true
  end
  if brought <= 0 or used + brought <= most then
    return false
  end
  if not counting and counted_at and tx.now - counted_at > BYTES.AGAIN then
    BYTES.begin(tx)
  end
  return string.format('%.0f', used)
end

-- A transition, unless a guard refuses it.
-- Arguments: 1 how many guards; of each: its name, the record, what that is compared with; then the transition's
-- function and its own arguments.
-- Result: 'foreign', the guard that refused, the record, what it says beside that or '' | what the transition returns.
local function guarded(tx, args, o, last)
  local at = o + 2
  for _ = 1, args[o + 1] do
    local refused = GUARD[args[at]](tx, args[at + 1], args[at + 2])
    if refused then
      return WORD.FOREIGN, args[at], args[at + 1], type(refused) == 'string' and refused or ''
    end
    at = at + 3
  end
  return TRANSITIONS[args[at]](tx, args, at, last)
end

-- Remove a token of a full index: the one that expires first. One that was made by another takes the place of one that
-- the same has made, or one of those before that but for the first; or else, of all that go back to the same first one,
-- where those are most, of one that most others stand behind. So who has a limited token ends none that was made for
-- something else, as long as what he has made is more.
local function make_room(tx, index, token)
  local made_by = redis.call('HGET', tx.prefix .. 'token:' .. token, 'parent') -- the latest first
  local others = redis.call('ZRANGE', index, 0, made_by and -1 or 0)
  local victim = not made_by and others[1]
  local chain = ' ' .. (made_by or '') .. ' '
  local makers, firsts, sizes = {}, {}, {}
  for at, other in ipairs(others) do
    local parent = redis.call('HGET', tx.prefix .. 'token:' .. other, 'parent') or ''
    local first = string.match(parent, '(%S+)$') or other
    firsts[at], sizes[first] = first, (sizes[first] or 0) + 1
    -- One by which it was made is passed over: without that it would be good for nothing.
    makers[at] = not string.find(chain, ' ' .. other .. ' ', 1, true) and ' ' .. parent
  end
  while made_by and not victim do
    for at, other in ipairs(others) do
      if makers[at] and string.sub(makers[at], -#made_by - 1) == ' ' .. made_by then
        victim = other
        break
      end
    end
    made_by = string.match(made_by, ' (.+ .+)$')
  end
  if not victim then
    local most, deepest = 0, 0
    for at, other in ipairs(others) do
      local size, depth = sizes[firsts[at]], makers[at] and #makers[at]
      if depth and (size > most or (size == most and depth > deepest)) then
        victim, most, deepest = other, size, depth
      end
    end
  end
  redis.call('ZREM', index, victim)
  redis.call('DEL', tx.prefix .. 'token:' .. victim)
end

-- Keep a token. A principal has so many at most: see make_room.
-- Arguments: 1 its id, 2 its principal, 3 for how long it is good (s), 4 how many the principal may have, then names
-- and values of what else is kept of it.
-- Result: 'ok', when it was made and when it expires (s).
local function token_create(tx, args, o, last)
  local token, principal, lasts = args[o + 1], args[o + 2], tonumber(args[o + 3])
  local key, index = tx.prefix .. 'token:' .. token, tx.prefix .. 'tokens:' .. principal
  local expires = string.format('%.0f', tx.seconds + lasts)
  redis.call('HSET', key, 'principal', principal, 'created_at', tx.seconds, 'expires_at', expires,
    unpack(args, o + 5, last))
  redis.call('EXPIREAT', key, expires)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', tx.seconds)
  if redis.call('ZCARD', index) >= tonumber(args[o + 4]) then
    make_room(tx, index, token)
  end
  redis.call('ZADD', index, expires, token)
  redis.call('EXPIREAT', index, redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')[2])
  return WORD.OK, tx.seconds, expires
end

-- Revoke a token of a principal.
-- Arguments: 1 its id, 2 the principal.
-- Result: 'ok', 1 if there was one or 0.
local function token_revoke(tx, args, o)
  local key = tx.prefix .. 'token:' .. args[o + 1]
  if redis.call('HGET', key, 'principal') ~= args[o + 2] then
    return WORD.OK, 0
  end
  redis.call('DEL', key)
  redis.call('ZREM', tx.prefix .. 'tokens:' .. args[o + 2], args[o + 1])
  return WORD.OK, 1
end

-- A token was used.
-- Arguments: 1 its id.
-- Result: 'ok'.
local function token_used(tx, args, o)
  local key = tx.prefix .. 'token:' .. args[o + 1]
  if redis.call('EXISTS', key) == 1 then
    redis.call('HSET', key, 'used_at', tx.seconds)
  end
  return WORD.OK
end

-- Give an actor another key. The one it had can log in for so much longer.
-- Arguments: 1 the actor, 2 the key it must have or '' for any, 3 the new key, 4 for how long the old one is good (s).
-- Result: 'ok' | 'none' | 'changed': it has another key | 'state': it was revoked.
local function key_rotate(tx, args, o)
  local key, expected, new = tx.prefix .. args[o + 1], args[o + 2], args[o + 3]
  local stored, revoked = unpack(redis.call('HMGET', key, 'pubkey', 'x_revoked'))
  if not stored then
    return WORD.NONE
  elseif revoked then
    return WORD.STATE
  elseif stored == new then
    return WORD.OK
  elseif expected ~= '' and stored ~= expected then
    return WORD.CHANGED
  end
  local old_until = string.format('%.0f', tx.seconds + args[o + 4])
  redis.call('HSET', key, 'pubkey', new, 'updated_at', tx.seconds, 'x_old_pubkey', stored, 'x_old_until', old_until)
  return WORD.OK
end

-- Let an actor log in no more, for good.
-- Arguments: 1 the actor.
-- Result: 'ok', since when (s) | 'none'.
local function actor_revoke(tx, args, o)
  local key = tx.prefix .. args[o + 1]
  if redis.call('EXISTS', key) == 0 then
    return WORD.NONE
  end
  redis.call('HSETNX', key, 'x_revoked', tx.seconds)
  return WORD.OK, redis.call('HGET', key, 'x_revoked')
end

-- The names say what Python must know of the transition: whether it grows what is stored, and may be long.
register('hc_guarded', guarded, GROWS)
register('hc_guarded_ending', guarded)
register('hc_guarded_long', guarded, GROWS)
register('hc_guarded_long_ending', guarded)
register('hc_token_create', token_create, GROWS)
register('hc_token_revoke', token_revoke)
register('hc_token_used', token_used)
register('hc_key_rotate', key_rotate)
register('hc_actor_revoke', actor_revoke)
