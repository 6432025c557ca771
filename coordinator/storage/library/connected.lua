-- Which runners are connected, for people who wait for one. All of it is in GLOBAL. For each context and script type
-- there is a sorted set of connections that take its jobs, by when they stop counting unless their coordinator renews
-- them (ms on the clock of timers, as tx.now). Nothing here decides who gets a job.

-- Connections that take jobs are there, or still there.
-- Arguments: 1 how long they count without being renewed (ms), then for each its context and script type as
-- CONTEXT:TYPE, and its name.
-- Result: 'ok'.
local function runners_connected(tx, args, o, last)
  local now, ends, keys = string.format('%.0f', tx.now), string.format('%.0f', tx.now + args[o + 1]), {}
  for at = o + 2, last, 2 do
    local key = tx.prefix .. 'connected:' .. args[at]
    redis.call('ZADD', key, ends, args[at + 1])
    keys[key] = true
  end
  for key in pairs(keys) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    redis.call('PEXPIRE', key, args[o + 1])
  end
  return WORD.OK
end

-- Connections take no more jobs.
-- Arguments: for each its context and script type, and its name.
-- Result: 'ok'.
local function runners_gone(tx, args, o, last)
  for at = o + 1, last, 2 do
    redis.call('ZREM', tx.prefix .. 'connected:' .. args[at], args[at + 1])
  end
  return WORD.OK
end

-- How many connections take jobs of a context.
-- Arguments: contexts and script types.
-- Result: 'ok', a number for each.
local function runners_count(tx, args, o, last)
  local counts, after = {}, '(' .. string.format('%.0f', tx.now)
  for at = o + 1, last do
    counts[#counts + 1] = redis.call('ZCOUNT', tx.prefix .. 'connected:' .. args[at], after, '+inf')
  end
  return WORD.OK, counts
end

register('hc_runners_connected', runners_connected)
register('hc_runners_gone', runners_gone)
register('hc_runners_count', runners_count)
