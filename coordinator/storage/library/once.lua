-- A write is applied once, and a connection that was given up writes no more.
--
-- A writer is one coordinator in one context, and each of its connections there is a new epoch of it. The key
-- `<prefix>writer:NAME` holds the newest epoch, `<prefix>writer:NAME:EPOCH` is a list of the last calls applied: of
-- each its number, a space, and its reply as MessagePack; or '=' and the reply itself if that is one text and no
-- effects, which costs less. An entry is written in the same step as what the call does, so a store that has lost its
-- last writes has lost the entries of just those. A new epoch renames the list: what an older connection still has on
-- its way finds none, and is refused.

local KEPT_BYTES = 65536 -- of the reply to one call
local KEPT_PART = 1024 -- of each result in one that is larger, and of its effects
local SPARE = 16 -- calls kept beyond those that are unanswered, so that the list is seldom cut
local WRITER_TTL = '86400000' -- ms; those who go on writing renew it long before

-- The kept form of a part of a reply that is too large.
local function bounded(part, otherwise)
  return #cmsgpack.pack(part) > KEPT_PART and otherwise or part
end

local function keep(tx, kept)
  local length = redis.call('RPUSH', tx.writer, tx.number .. kept)
  if length > tx.unanswered + SPARE then
    redis.call('LTRIM', tx.writer, '-' .. tx.unanswered, '-1')
  end
end

-- Keep the reply to one transition, {result, effects}.
local function keep_one(tx, reply)
  local result, effects = reply[1], reply[2]
  if #result == 1 and #effects == 0 and type(result[1]) == 'string' and #result[1] <= KEPT_BYTES then
    keep(tx, '=' .. result[1])
    return
  end
  local packed = cmsgpack.pack(reply)
  if #packed > KEPT_BYTES then
    packed = cmsgpack.pack({bounded(result, {WORD.UNKEPT}), bounded(effects, {})})
  end
  keep(tx, ' ' .. packed)
end

-- Keep the reply to several, {results, effects}. `redo`: the places of those that are repeatable; nil if none is.
local function keep_many(tx, reply, redo)
  local results, again = reply[1], {}
  for place in pairs(redo or {}) do
    again[place], results[place] = results[place], {WORD.REDO}
  end
  local packed = cmsgpack.pack(reply)
  if #packed > KEPT_BYTES then
    local parts = {}
    for i, result in ipairs(results) do
      parts[i] = bounded(result, {WORD.UNKEPT})
    end
    packed = cmsgpack.pack({parts, bounded(reply[2], {})})
  end
  for place, result in pairs(again) do
    results[place] = result
  end
  keep(tx, ' ' .. packed)
end

-- Begin an epoch of a writer: calls of an earlier one are refused from now on. Asked again for the newest one, it is
-- renewed.
-- KEYS: 1 the engine. ARGV: 1 channel, 2 coordinator, 3 the writer, 4 the epoch, 5 the number after which calls are
-- asked for, or ''.
-- Returns: of each call applied after that number, and still kept, {number, reply}.
local function fence(keys, args)
  local pointer = begin(keys, args, false, true).prefix .. 'writer:' .. args[3]
  local epoch, after = args[4], tonumber(args[5])
  local list, newest = pointer .. ':' .. epoch, redis.call('GET', pointer)
  if newest and tonumber(newest) > tonumber(epoch) then
    error({err = 'FENCED a newer connection writes here'})
  end
  if newest and newest ~= epoch and redis.call('EXISTS', pointer .. ':' .. newest) == 1 then
    redis.call('RENAME', pointer .. ':' .. newest, list)
  end
  if redis.call('EXISTS', list) == 0 then
    redis.call('RPUSH', list, '0 ')
  end
  redis.call('SET', pointer, epoch, 'PX', WRITER_TTL)
  redis.call('PEXPIRE', list, WRITER_TTL)
  local calls = {}
  for _, entry in ipairs(after and redis.call('LRANGE', list, '0', '-1') or {}) do
    local number, form, kept = string.match(entry, '^(%d+)(.)(.*)$')
    if tonumber(number) > after then
      calls[#calls + 1] = {tonumber(number), form == '=' and {{kept}, {}} or cmsgpack.unpack(kept)}
    end
  end
  return calls
end

-- End a writer of which nothing is on its way.
-- KEYS: 1 the engine. ARGV: 1 channel, 2 coordinator, 3 the writer, 4 its epoch.
-- Returns: 'ok'.
local function release(keys, args)
  local pointer = begin(keys, args, false, true).prefix .. 'writer:' .. args[3]
  if redis.call('GET', pointer) == args[4] then
    redis.call('DEL', pointer, pointer .. ':' .. args[4])
  end
  return WORD.OK
end

redis.register_function{function_name = 'hc_fence', callback = fence, flags = {'allow-oom'}}
redis.register_function{function_name = 'hc_release', callback = release, flags = {'allow-oom'}}
