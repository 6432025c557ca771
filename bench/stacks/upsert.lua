-- Create or update a job. KEYS: 1 the job. ARGV: its given fields (name, value, …).
-- created_at and status stay, and so does the result unless a new one is given. Returns the record, as HGETALL does.
local key, time = KEYS[1], redis.call('TIME')[1]
if redis.call('EXISTS', key) == 0 then
  redis.call('HSET', key, 'created_at', time, 'status', 'Dispatched', 'result', '{}')
end
redis.call('HSET', key, 'updated_at', time, unpack(ARGV))
return redis.call('HGETALL', key)
