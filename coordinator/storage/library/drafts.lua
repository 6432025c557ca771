-- Drafts: flows that are sent in parts. One that is not started in time is deleted again, with the jobs made for it.

local SWEPT = 300 -- jobs of an abandoned flow that one step looks at: about 2 ms

-- Create or update a flow that is deleted unless it is started in time. A flow that was there as no draft stays none.
-- Arguments: 1 how long it is kept (ms), 0: it is a draft no more; then as record_upsert.
-- Result: as record_upsert.
local function flow_draft(tx, args, o)
  local keep, flow = args[o + 1], args[o + 2]
  local status, draft = unpack(redis.call('HMGET', tx.prefix .. flow, 'status', 'x_draft'))
  local reply = flow_upsert(tx, args, o + 1)
  if keep == '0' then
    redis.call('HDEL', tx.prefix .. flow, 'x_draft')
    disarm(tx, 'abandon:' .. flow)
  elseif not status or (draft and status == 'Dispatched') then
    redis.call('HSET', tx.prefix .. flow, 'x_draft', '1')
    arm(tx, 'abandon:' .. flow, tx.now + keep)
  end
  return reply
end

-- A draft was not started in time. It is gone at once; its jobs go some at a time, so that nobody else waits.
function TIMER.abandon(tx, flow)
  local key = tx.prefix .. flow
  local status, draft, active = unpack(redis.call('HMGET', key, 'status', 'x_draft', 'x_active'))
  if status ~= 'Dispatched' or not draft or active then
    return
  end
  local kind, entry = index_entry(key)
  redis.call('ZREM', INDEX.key(tx, kind), entry)
  SHARING.forget(tx, flow)
  local swept = 'abandoned:' .. job_id(flow) .. ':' .. tx.at
  BYTES.uncount(tx, key)
  COUNT.flow(tx, status, '')
  redis.call('RENAME', key, tx.prefix .. swept)
  redis.call('HSET', tx.prefix .. swept, 'x_flow', flow, 'x_at', '1', 'x_ended', tx.seconds)
  FEED.tell(tx, flow, 'Deleted')
  arm(tx, 'sweep:' .. swept, tx.now)
end

-- Delete the next jobs of an abandoned flow: those that were made after it, as its jobs are, and never ran. What has
-- been created again since is another's.
function TIMER.sweep(tx, swept)
  local key = tx.prefix .. swept
  if not SHARING.is_current(tx) then
    return arm(tx, 'sweep:' .. swept, tx.now + 1)
  end
  local flow, caller, jobs, at, created, ended =
    unpack(redis.call('HMGET', key, 'x_flow', 'caller_id', 'jobs', 'x_at', 'created_at', 'x_ended'))
  at, created, ended = tonumber(at), tonumber(created), tonumber(ended)
  if redis.call('EXISTS', tx.prefix .. flow) == 1 then
    ended = ended - 1 -- what was written in the same second may be the new flow's
  end
  for _ = 1, SWEPT do
    local first, last = string.find(jobs, '%d+', at)
    if not first then
      redis.call('DEL', key)
      return
    end
    at = last + 1
    local name = 'job:' .. caller .. ':' .. string.sub(jobs, first, last)
    local job = tx.prefix .. name
    local run, made, changed = unpack(redis.call('HMGET', job, 'x_run', 'created_at', 'updated_at'))
    if made and not run and tonumber(made) >= created and tonumber(changed or made) <= ended then
      if SHARING.fate(tx, name, flow) == 'gone' then
        remove(tx, job)
      end
    end
  end
  redis.call('HSET', key, 'x_at', at)
  arm(tx, 'sweep:' .. swept, tx.now)
end

register('hc_flow_draft', flow_draft, GROWS)
