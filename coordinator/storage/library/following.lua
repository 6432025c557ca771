-- Following a context: its feed, which feed.lua writes, is begun, kept and read.

local ENTRIES_AT_ONCE = 8 -- before it is looked at how large they are

-- Whether events behind an entry of the feed are no longer kept. Second, whether there is no entry yet that is not
-- before that one; third, the last entry. The feed began with an entry that was deleted at once: who has read one of an
-- earlier feed is before it.
local function has_missed_of(feed, after)
  local info = FEED.state_of(feed)
  local last = info['last-generated-id']
  if after == '' then
    return false, false, last
  elseif FEED.is_before(last, after) then
    return false, true, last
  end
  local first = info['first-entry']
  local is_partial = first and info['entries-added'] > info['length'] + 1 and FEED.is_before(after, first[1])
  return FEED.is_before(after, info['max-deleted-entry-id']) or is_partial, false, last
end

-- Whether the context was deleted.
local function is_gone(tx, record, was_there)
  return was_there == '1' and redis.call('EXISTS', tx.prefix .. record) == 0
end

-- Begin to follow a context's events, or go on: for a while they are written.
-- Arguments: 1 the context's record, 2 '1' if that was there when who asks began, or '0', 3 ms for which they are
-- written, 4 the entry after which to begin, '' for those that come.
-- Result: 'ok', 1 if events after that entry are no longer kept or 0, the last entry, 1 if the context's record is
-- there or 0, 1 if nobody had followed or 0 | 'none', the time (ms): the context was deleted | 'changed': there is no
-- entry yet after which to begin.
local function context_follow(tx, args, o)
  local record, feed, after = args[o + 1], tx.prefix .. 'feed', args[o + 4]
  if is_gone(tx, record, args[o + 2]) then
    return WORD.NONE, tx.at
  end
  local is_new = redis.call('EXISTS', feed) == 0
  if is_new then
    redis.call('XDEL', feed, redis.call('XADD', feed, '*', 'e', ''))
  end
  redis.call('PEXPIRE', feed, args[o + 3])
  local missed, is_beyond, last = has_missed_of(feed, after)
  if is_beyond then
    return WORD.CHANGED
  end
  return WORD.OK, missed and 1 or 0, last, redis.call('EXISTS', tx.prefix .. record), is_new and 1 or 0
end

-- Some events of a context.
-- Arguments: 1 the context's record, 2 '1' if that was there when who asks began, or '0', 3 the entry with which they
-- begin, 4 how many entries at most, 5 how many bytes, but one entry at least.
-- Result: 'ok', 1 if others behind that entry are no longer kept or 0, 1 if there are no more for now or 0, and of each
-- entry its id and its lines | 'none', the time (ms): the context was deleted | 'changed': there is no such entry yet,
-- or nobody has followed for a while.
local function context_read(tx, args, o)
  local feed, from, count, bytes = tx.prefix .. 'feed', args[o + 3], tonumber(args[o + 4]), tonumber(args[o + 5])
  if is_gone(tx, args[o + 1], args[o + 2]) then
    return WORD.NONE, tx.at
  elseif redis.call('EXISTS', feed) == 0 then
    return WORD.CHANGED
  end
  local missed, is_beyond = has_missed_of(feed, from)
  if is_beyond then
    return WORD.CHANGED
  end
  local entries, is_last = {}, false
  while count > 0 and bytes > 0 and not is_last do
    local wanted = math.min(count, ENTRIES_AT_ONCE)
    local found = redis.call('XRANGE', feed, from, '+', 'COUNT', wanted)
    for _, entry in ipairs(found) do
      if bytes > 0 then
        from, bytes = '(' .. entry[1], bytes - #entry[2][2]
        put(entries, entry[1], entry[2][2])
      end
    end
    count, is_last = count - wanted, bytes > 0 and #found < wanted
  end
  return WORD.OK, missed and 1 or 0, is_last and 1 or 0, entries
end

register('hc_context_follow', context_follow, nil, true)
register('hc_context_read', context_read, READS, true)
