-- What is done with a large flow, or a message with many jobs, in slices: each is one call, so that nobody waits long
-- for it. The flow's field x_step says which step comes next and where it begins, and is set by the call that did the
-- one before; so whoever calls next goes on, the same client or another, or a timer (TIMER.step).
--
-- A flow is started, or started again, in these steps; nothing of it is seen to have started before the last one:
--   claim    each job it lists becomes its own (x_run), the names are written to plan:FLOW:new; a new one whose
--            dependencies are listed before it is linked at once;
--   link     x_next, x_wait and the other fields of its run are written to each job that is not linked yet; those that
--            wait for nothing are noted in ready:FLOW;
--   order    only if a job is listed before one it depends on: whether that is a DAG;
--   drop     jobs of an earlier start it no longer lists are stopped;
--   renew    only if it is to run again though it has finished: what it runs with is written, and results go;
--   settle   jobs that were running when they were claimed, noted in late:FLOW, are looked at once more.
-- Then it is Started, and ready:FLOW is emptied into the queues (TIMER.ready). If something is in its way, `undo`
-- gives the jobs back. A job's x_was says for which start it was claimed, as which of its jobs, and what it was: the
-- start, a number, status and x_run (or '-').

-- Milliseconds after which a flow whose jobs do not come any more is given up by a timer, and if somebody else wants
-- it.
local CREATE_PAUSE, CREATE_SILENCE = 30000, 3000

local function new_plan(tx, run)
  return tx.prefix .. 'plan:' .. run .. ':new'
end

local function from_new_plan(tx, run, at, count)
  return redis.call('LRANGE', new_plan(tx, run), at, at + count - 1)
end

-- Whether a flow has so many jobs that it is dealt with in slices: those it lists (JSON), or has (x_jobs).
local function is_large(listed, jobs)
  if has_many(jobs) then
    return true
  end
  if #(listed or '') <= 2 * ONE_CALL then
    return false
  end
  local _, count = string.gsub(string.sub(listed, 1, 11 * ONE_CALL + 11), '%d+', '')
  return count > ONE_CALL
end

-- What a job was when it was claimed: which of the flow's jobs it is, its status and its run; nil if that was for
-- another start.
local function claimed(was, serial)
  local start, place, status, owner = string.match(was or '', '^(%S+) (%d+) (%S+) (%S+)$')
  if start == serial then
    return tonumber(place), status, owner
  end
end

-- Begin to read a flow's `jobs`, for a step that calls read_listed.
local function begin_listing(tx, flow)
  local caller, listed = unpack(redis.call('HMGET', tx.prefix .. flow, 'caller_id', 'jobs'))
  redis.call('SET', tx.prefix .. 'listed:' .. flow, listed)
  redis.call('DEL', new_plan(tx, flow))
  return caller
end

-- Call `act` with the names of jobs in listed:FLOW from byte `from` on, until that was enough for one call or `act`
-- returns something. Returns the next byte, nil if there is none; then what `act` returned.
local function read_listed(tx, flow, caller, from, act)
  local key = tx.prefix .. 'listed:' .. flow
  local length = redis.call('STRLEN', key)
  local text, at = redis.call('GETRANGE', key, from - 1, from + 11 * ONE_CALL), 1
  local is_end = from - 1 + #text >= length
  while true do
    local first, last = string.find(text, '%d+', at)
    if not first then
      return not is_end and from + #text or nil
    end
    if last == #text and not is_end then -- there may be more of it
      return from + first - 1
    end
    if tx.work <= 0 then
      return from + first - 1
    end
    local stopped = act('job:' .. caller .. ':' .. string.sub(text, first, last))
    if stopped then
      return nil, stopped
    end
    at = last + 1
  end
end

-- Begin to start a flow. `token` names who gives its jobs, if they are still to come (see flow_create).
local function begin_launch(tx, flow, token)
  local key = tx.prefix .. flow
  local before = redis.call('HGET', key, 'x_active') or ''
  local serial = flow .. '#' .. redis.call('HINCRBY', key, 'x_starts', 1)
  local caller = nil
  if token then
    redis.call('DEL', new_plan(tx, flow))
  else
    caller = begin_listing(tx, flow)
  end
  redis.call('DEL', tx.prefix .. 'ready:' .. flow, tx.prefix .. 'late:' .. flow, tx.prefix .. 'order:' .. flow,
    tx.prefix .. 'free:' .. flow)
  redis.call('HSET', key, 'x_active', IS.STARTING, 'x_before', before, 'x_serial', serial, 'x_token', token or '',
    'x_origin', tx.origin or '')
  redis.call('HDEL', key, 'x_fault', 'x_unordered', 'x_doomed')
  tx.active[flow] = IS.STARTING
  begin_step(tx, flow, token and 'create 0 0' or table.concat({'claim', caller, 1, 0, 0}, ' '), STEP_PAUSE)
end

-- Something is in the way of a start: what, which job, whose it is.
local function give_up(tx, flow, fault)
  redis.call('HSET', tx.prefix .. flow, 'x_fault', table.concat(fault, ' '))
  return 'undo 0'
end

-- What waits in a flow for a job that had finished when the flow claimed it: other flows may count it as done, too, so
-- each has a field of its own for that. Nobody reads it when a job finishes.
local function done_next(flow)
  return 'x_next:' .. flow
end

local function has_spilled(following)
  return following and string.find(following, '+', 1, true)
end

-- Make a job the flow's, as its `place`-th. Returns whether it has yet to finish, and its status; or nil and what is
-- in the way. `is_again`: some run again that are Finished.
local function claim(tx, flow, serial, place, job, is_again)
  local key = tx.prefix .. job
  local done = done_next(flow)
  local status, owner, was, following, following_done =
    unpack(redis.call('HMGET', key, 'status', 'x_run', 'x_was', 'x_next', done))
  tx.work = tx.work - 5
  if not status then
    return nil, {WORD.MISSING, job}
  end
  if claimed(was, serial) then
    return false
  end
  if is_taken(tx, flow, status, owner) then
    return nil, {WORD.BUSY, job, owner}
  end
  if is_again then
    local user
    status, user = AGAIN.status(tx, flow, job, status, owner)
    if user then
      return nil, {WORD.BUSY, job, user}
    end
  end
  redis.call('RPUSH', new_plan(tx, flow), job)
  if has_spilled(following_done) then
    redis.call('UNLINK', tx.prefix .. 'next:' .. flow .. ':' .. job)
  end
  if status ~= 'Finished' and has_spilled(following) then
    redis.call('UNLINK', tx.prefix .. 'next:' .. job)
  end
  was = table.concat({serial, place, status, owner or '-'}, ' ')
  if owner ~= flow and status == 'Finished' then
    SHARING.count_as_done(tx, flow, job)
  elseif owner and owner ~= flow and is_startable(status) then
    SHARING.look_again(tx, owner)
  end
  if is_startable(status) then
    redis.call('HDEL', key, 'x_next', 'x_held', 'x_queued', 'x_retry', 'x_kept')
    disarm(tx, 'retry:' .. job)
    redis.call('HSET', key, 'x_was', was, 'x_run', flow, 'status', 'WaitingForPrerequisites', 'updated_at', tx.seconds)
    redis.call('HDEL', key, done)
    COUNT.job(tx, AGAIN.before(status), 'WaitingForPrerequisites')
  elseif status == 'Finished' then
    redis.call('HSET', key, 'x_was', was, done, '')
  else
    redis.call('HDEL', key, 'x_next', 'x_held', done)
    redis.call('HSET', key, 'x_was', was)
  end
  if status == 'Started' then
    redis.call('RPUSH', tx.prefix .. 'late:' .. flow, job)
  end
  return status ~= 'Finished', status
end

-- Fields of a job that tell of its attempts: a start, once it is certain, begins to count anew.
local ATTEMPTS = {'x_ended', 'x_failure', 'x_attempt', 'x_lost', 'x_returned', 'x_needed'}

do -- what is local to this block takes no place among the 200 locals a chunk may have

local SPILL = 2000 -- bytes of x_next, of which each job that finishes reads all; what else waits for it is in next:JOB
local FEW = 200 -- bytes of the names of what a job depends on that is claimed and linked at once

-- What a slice is about to write when it ends: `parents`, those that jobs of the flow depend on (see parent_of), and
-- `lists`, what is put behind others in lists (their names without the flow's → items).
local function begin_links()
  return {parents = {}, lists = {}}
end

local function put_behind(links, list, item)
  local items = links.lists[list]
  if not items then
    items = {}
    links.lists[list] = items
  end
  items[#items + 1] = item
end

local function end_links(tx, flow, links)
  for parent, it in pairs(links.parents) do
    if it.is_changed then
      redis.call('HSET', tx.prefix .. parent, it.name, it.text)
    end
  end
  for list, items in pairs(links.lists) do
    call_each('RPUSH', list == 'plan' and new_plan(tx, flow) or tx.prefix .. list .. ':' .. flow, items)
  end
end

-- A job that others depend on: its `place`, what it was claimed as, `status`, and what waits for it, `text`, in its
-- field `name`; nil if it is none of the flow's.
local function parent_of(tx, flow, serial, links, parent)
  local it = links.parents[parent]
  if it then
    return it
  end
  local was, following = unpack(redis.call('HMGET', tx.prefix .. parent, 'x_was', 'x_next'))
  local place, status = claimed(was, serial)
  tx.work = tx.work - 3
  if not place then
    return nil
  end
  it = {place = place, status = status, name = 'x_next', text = following or '', spilled = 'next:' .. parent}
  -- As long as one that is running has no x_next, nobody counts on its end: see STEP.settle.
  if status == 'Started' then
    it.name = 'x_held'
  elseif status == 'Finished' then
    it.name, it.spilled = done_next(flow), 'next:' .. flow .. ':' .. parent
  end
  if it.name ~= 'x_next' then
    it.text = redis.call('HGET', tx.prefix .. parent, it.name) or ''
  end
  links.parents[parent] = it
  return it
end

-- The job at a place depends on that other one. Returns whether that has yet to finish.
local function link_to(tx, flow, place, job, parent, it)
  if it.place >= place then
    redis.call('HSET', tx.prefix .. flow, 'x_unordered', '1')
  end
  if #it.text < SPILL then
    it.text, it.is_changed = it.text == '' and job or it.text .. ' ' .. job, true
  else
    if not has_spilled(it.text) then
      it.text, it.is_changed = it.text .. ' +' .. parent, true
    end
    tx.work = tx.work - 1
    redis.call('RPUSH', tx.prefix .. it.spilled, job)
  end
  return it.status ~= 'Finished'
end

-- Make a job the flow's that no run has had yet, and link it, all in one: if it waits for a few, and those are the
-- flow's already. Returns whether it did; if not, nothing has changed.
local function claim_new(tx, flow, serial, place, job, links)
  local key = tx.prefix .. job
  local status, owner, was, held, depends, prerequisites, type = unpack(redis.call('HMGET', key,
    'status', 'x_run', 'x_was', 'x_held', 'depends', 'prerequisites', 'script_type'))
  depends, prerequisites = depends or '[]', prerequisites or '[]'
  tx.work = tx.work - 3
  if status ~= 'Dispatched' or owner or was or held or #depends > FEW then
    return false
  end
  local caller, names, seen, wait = string.match(job, '^job:%d+:'), {}, {}, 0
  for id in string.gmatch(depends, '%d+') do
    if not seen[id] then
      seen[id] = parent_of(tx, flow, serial, links, caller .. id)
      if not seen[id] then
        return false
      end
      names[#names + 1] = id
    end
  end
  for _, id in ipairs(names) do
    wait = link_to(tx, flow, place, job, caller .. id, seen[id]) and wait + 1 or wait
  end
  local ready, name, value = {}, nil, nil
  status, name, value = begin_job(tx, flow, job, type, prerequisites, wait, ready)
  local fields = {'x_was', table.concat({serial, place, 'Dispatched', '-'}, ' '), 'x_run', flow, 'x_unmet', #names,
    'status', status, 'updated_at', tx.seconds, name, value}
  if #names > 0 then
    put(fields, 'x_parents', table.concat(names, ' '))
  else
    put_behind(links, 'order', job)
  end
  if prerequisites ~= '[]' then
    put(fields, 'x_awaits', prerequisites)
  end
  redis.call('HSET', key, unpack(fields))
  COUNT.job(tx, 'Dispatched', status)
  put_behind(links, 'plan', job)
  if ready[type] then
    put_behind(links, 'ready', type .. ' ' .. job)
  end
  return true
end

-- `linked`: how many of the first jobs are linked already. What follows one that could not be is linked later: most
-- flows are new and list each job behind those it depends on, so there is nothing left for that.
function STEP.claim(tx, flow, caller, from, count, pending, linked)
  local serial, fault = redis.call('HGET', tx.prefix .. flow, 'x_serial'), nil
  local is_again = redis.call('EXISTS', AGAIN.key(tx, flow)) == 1
  local links = begin_links()
  count, pending, linked = tonumber(count), tonumber(pending), tonumber(linked or 0)
  from = read_listed(tx, flow, caller, tonumber(from), function(job)
    if linked == count and not is_again and claim_new(tx, flow, serial, count + 1, job, links) then
      count, pending, linked = count + 1, pending + 1, linked + 1
      return
    end
    end_links(tx, flow, links) -- `claim` writes to the same lists, and may be of one that others were linked to
    links = begin_links()
    local is_pending, more = claim(tx, flow, serial, count + 1, job, is_again)
    if is_pending == nil then
      fault = more
      return true
    end
    count = more and count + 1 or count
    pending = is_pending and pending + 1 or pending
  end)
  end_links(tx, flow, links)
  if fault then
    return give_up(tx, flow, fault)
  end
  if from then
    return table.concat({'claim', caller, from, count, pending, linked}, ' ')
  end
  redis.call('UNLINK', tx.prefix .. 'listed:' .. flow)
  redis.call('HSET', tx.prefix .. flow, 'x_pending', pending)
  return 'link ' .. linked .. ' 1 0 0'
end

-- What a job knows of the attempts it has had, as JSON: what is in the way of a start may be found after the job was
-- linked, and then `unclaim` gives it back.
local function attempts_of(key)
  local known, is_any = redis.call('HMGET', key, unpack(ATTEMPTS)), false
  for i = 1, #ATTEMPTS do
    is_any = is_any or known[i]
  end
  return is_any and cjson.encode(known)
end

-- Link a job with those it depends on, from byte `from` of their list on; `wait` and `count`: how many of them have
-- yet to finish, and how many there are, so far. Returns those three if that was enough for this call; nil when it is
-- done, or false and what is in the way.
local function link_job(tx, flow, serial, job, from, wait, count, links)
  local key = tx.prefix .. job
  local depends, prerequisites, type, was, parents =
    unpack(redis.call('HMGET', key, 'depends', 'prerequisites', 'script_type', 'x_was', 'x_parents'))
  tx.work = tx.work - 4
  local place, status = claimed(was, serial)
  if not place then
    return false, {WORD.MISSING, job}
  end
  depends, prerequisites = depends or '[]', prerequisites or '[]'
  local caller, names = string.match(job, '^job:%d+:'), {}
  if from > 1 then
    names[1] = parents
  elseif parents then
    redis.call('HDEL', key, 'x_parents')
  end
  local seen, has_begun, after = {}, false, nil
  while true do
    local first, last = string.find(depends, '%d+', from)
    if not first then
      break
    end
    if tx.work <= 0 and has_begun then
      after = first
      break
    end
    has_begun = true
    local id = string.sub(depends, first, last)
    if not seen[id] then
      seen[id] = true
      local parent = parent_of(tx, flow, serial, links, caller .. id)
      if not parent or (parent.status == 'Again' and status == 'Finished') then
        return false, {WORD.CHANGED, job}
      end
      names[#names + 1] = id
      local is_waiting = link_to(tx, flow, place, job, caller .. id, parent)
      wait, count = is_waiting and wait + 1 or wait, count + 1
    end
    from = last + 1
  end
  if #names > 0 then
    redis.call('HSET', key, 'x_parents', table.concat(names, ' '))
  end
  if after then
    return after, wait, count
  end
  if count == 0 then
    put_behind(links, 'order', job)
  end
  if not is_startable(status) then
    redis.call('HSET', key, 'x_unmet', count)
    return nil
  end
  local known = attempts_of(key)
  redis.call('HDEL', key, 'x_queued', 'x_awaits', 'x_met', unpack(ATTEMPTS))
  local ready, name, value = {}, nil, nil
  status, name, value = begin_job(tx, flow, job, type, prerequisites, wait, ready)
  local fields = {'x_unmet', count, 'status', status, name, value}
  if prerequisites ~= '[]' then
    put(fields, 'x_awaits', prerequisites)
  end
  if known then
    put(fields, 'x_kept', known)
  end
  redis.call('HSET', key, unpack(fields))
  COUNT.job(tx, 'WaitingForPrerequisites', status) -- as it was claimed
  if ready[type] then
    put_behind(links, 'ready', type .. ' ' .. job)
  end
end

-- Link jobs from place `at` on, the first of them from byte `from` of what it depends on. Returns the step that comes
-- next.
local function link_jobs(tx, flow, at, from, wait, count, links)
  local serial = redis.call('HGET', tx.prefix .. flow, 'x_serial')
  local after, fault
  from, wait, count = tonumber(from), tonumber(wait), tonumber(count)
  local jobs = from_new_plan(tx, flow, tonumber(at), ONE_CALL)
  for i, job in ipairs(jobs) do
    if tx.work <= 0 and i > 1 then
      return table.concat({'link', at + i - 1, 1, 0, 0}, ' ')
    end
    after, wait, count = link_job(tx, flow, serial, job, from, wait, count, links)
    fault = after == false and wait or nil
    if fault then
      return give_up(tx, flow, fault)
    end
    if after then
      return table.concat({'link', at + i - 1, after, wait, count}, ' ')
    end
    from, wait, count = 1, 0, 0
  end
  if #jobs == ONE_CALL then
    return table.concat({'link', at + ONE_CALL, 1, 0, 0}, ' ')
  end
  if redis.call('HGET', tx.prefix .. flow, 'x_unordered') then
    return 'order 0'
  end
  return 'drop 0'
end

function STEP.link(tx, flow, at, from, wait, count)
  local links = begin_links()
  local after = link_jobs(tx, flow, at, from, wait, count, links)
  end_links(tx, flow, links)
  return after
end

end

-- Place the jobs of which all that they depend on is placed, one after the other. `job`, `at`: of one with a list of
-- those that wait for it, and how much of that was read.
function STEP.order(tx, flow, placed, job, at)
  placed, at = tonumber(placed), tonumber(at)
  local order = tx.prefix .. 'order:' .. flow
  local function place(children)
    for _, child in ipairs(children) do
      tx.work = tx.work - 1
      if redis.call('HINCRBY', tx.prefix .. child, 'x_unmet', -1) == 0 then
        redis.call('RPUSH', order, child)
      end
    end
  end
  while tx.work > 0 do
    if job then
      local done = redis.call('HEXISTS', tx.prefix .. job, done_next(flow)) == 1
      local spilled = tx.prefix .. 'next:' .. (done and flow .. ':' or '') .. job
      local children = redis.call('LRANGE', spilled, at, at + ONE_CALL - 1)
      place(children)
      at = at + #children
      if #children < ONE_CALL then
        job = nil
      end
    else
      job = redis.call('LPOP', order)
      if not job then
        local plan = new_plan(tx, flow)
        if placed < redis.call('LLEN', plan) then
          return give_up(tx, flow, {WORD.CHANGED, redis.call('LINDEX', plan, 0)})
        end
        return 'drop 0'
      end
      placed, at, tx.work = placed + 1, 0, tx.work - 2
      local following_done, following, held =
        unpack(redis.call('HMGET', tx.prefix .. job, done_next(flow), 'x_next', 'x_held'))
      local children = split(following_done or following or held or '')
      local is_spilled = string.byte(children[#children] or '') == 43 -- '+'
      if is_spilled then
        children[#children] = nil
      end
      place(children)
      job = is_spilled and job or nil
    end
  end
  return table.concat({'order', placed, job, at}, ' ', 1, job and 4 or 2)
end

function STEP.drop(tx, flow, at)
  local serial = redis.call('HGET', tx.prefix .. flow, 'x_serial')
  at = each_job(tx, flow, at, jobs_from, function(job)
    local owner, was = unpack(redis.call('HMGET', tx.prefix .. job, 'x_run', 'x_was'))
    if owner == flow and not claimed(was, serial) then
      stop(tx, flow, job, 'the flow no longer lists it')
      forget_run(tx, job)
      SHARING.look_again(tx, flow)
    end
  end)
  if at then
    return 'drop ' .. at
  end
  redis.call('HSET', tx.prefix .. flow, 'x_active', IS.SETTLING)
  tx.active[flow] = IS.SETTLING
  return redis.call('EXISTS', AGAIN.key(tx, flow)) == 1 and 'renew 0' or 'settle'
end

-- Keep how the last attempt at a job that runs again has ended: with it the job had finished.
local function keep_finished(tx, job)
  local known = redis.call('HGET', tx.prefix .. job, 'x_kept')
  local of = {}
  for i, value in ipairs(known and cjson.decode(known) or {}) do
    of[ATTEMPTS[i]] = value
  end
  local attempt = attempt_of(of.x_attempt or '')
  if attempt and of.x_ended then
    OUTCOME.keep(tx, job, attempt, 'finished', of.x_ended)
  end
end

-- Nothing is in the way any more: what is to run again does not have its result any longer.
function STEP.renew(tx, flow, at)
  local serial = redis.call('HGET', tx.prefix .. flow, 'x_serial')
  at = each_job(tx, flow, at, from_new_plan, function(job)
    local _, status = claimed(redis.call('HGET', tx.prefix .. job, 'x_was'), serial)
    if status == 'Again' then
      keep_finished(tx, job)
    end
    AGAIN.renew(tx, flow, job, status == 'Again')
    tx.work = tx.work - 2
  end)
  if at then
    return 'renew ' .. at
  end
  AGAIN.renew(tx, flow, flow)
  redis.call('UNLINK', AGAIN.key(tx, flow))
  return 'settle'
end

-- Make a flow in Error one that goes on: what it keeps only because it had ended.
local function reopen(tx, flow)
  local events = tx.prefix .. 'events:' .. job_id(flow)
  EVENTS.write(tx, flow)
  if redis.call('EXISTS', events) == 1 then
    redis.call('PERSIST', events)
    redis.call('PERSIST', tx.prefix .. 'lines:' .. job_id(flow))
  else
    redis.call('HSET', tx.prefix .. flow, 'x_forgotten', '1')
  end
  redis.call('HDEL', tx.prefix .. flow, 'x_ended')
  redis.call('HSET', tx.prefix .. flow, 'result', '{}')
  disarm(tx, 'keep:' .. flow)
end

-- Queue jobs of a large flow that waited for nothing when it was started; a timer goes on with it.
local function queue_ready(tx, flow)
  local key, entries = tx.prefix .. 'ready:' .. flow, {}
  if active_of(tx, flow) ~= IS.ACTIVE then -- one that is paused keeps them
    if not is_active(tx, flow) then
      redis.call('UNLINK', key)
    end
    return
  end
  local found = redis.call('LPOP', key, ONE_CALL) or {}
  for _, entry in ipairs(found) do
    local type, job = string.match(entry, '^(%S+) (%S+)$')
    add(entries, type, job)
  end
  tx.work = tx.work - #found
  enqueue(tx, entries)
  if #found == ONE_CALL then
    arm(tx, 'ready:' .. flow, tx.now)
  end
end

do -- what is local to this block takes no place among the 200 locals a chunk may have

-- The flow is started from now on, or the message sent.
local function open_flow(tx, flow)
  local key, is_flow = tx.prefix .. flow, string.sub(flow, 1, 5) == 'flow:'
  local status, pending, doomed, token =
    unpack(redis.call('HMGET', key, 'status', 'x_pending', 'x_doomed', 'x_token'))
  if is_flow and status ~= 'Dispatched' then
    reopen(tx, flow)
  elseif not is_flow then
    queue_message(tx, flow, token)
  end
  redis.call('UNLINK', tx.prefix .. 'plan:' .. flow)
  if redis.call('EXISTS', new_plan(tx, flow)) == 1 then -- it may list none any more
    redis.call('RENAME', new_plan(tx, flow), tx.prefix .. 'plan:' .. flow)
  end
  redis.call('UNLINK', tx.prefix .. 'order:' .. flow)
  redis.call('HDEL', key, 'x_before', 'x_serial', 'x_token', 'x_unordered', 'x_doomed')
  redis.call('HSET', key, 'status', is_flow and 'Started' or status, 'updated_at', tx.seconds, 'x_started', tx.at,
    'x_active', IS.ACTIVE, 'x_jobs', LARGE, 'x_leaves', LARGE)
  if is_flow then
    COUNT.flow(tx, status, 'Started')
  end
  arm(tx, 'free:' .. flow, tx.now)
  begin_run(tx, flow, {}, tonumber(pending), LARGE)
  queue_ready(tx, flow)
  if doomed then
    local reason = redis.call('HGET', tx.prefix .. doomed, 'x_failure') or ''
    fail_run(tx, flow, 'job ' .. job_id(doomed) .. ': ' .. reason, doomed)
  end
  return redis.call('HGET', key, 'x_step')
end

-- What has become of the jobs that were running when they were claimed. From then on their end counts, for they have
-- x_next.
function STEP.settle(tx, flow)
  local jobs = redis.call('LPOP', tx.prefix .. 'late:' .. flow, 100)
  if not jobs then
    redis.call('HDEL', tx.prefix .. flow, 'x_step')
    return open_flow(tx, flow)
  end
  for _, job in ipairs(jobs) do
    local key = tx.prefix .. job
    local status, held, queued, type = unpack(redis.call('HMGET', key, 'status', 'x_held', 'x_queued', 'script_type'))
    if status then
      redis.call('HSET', key, 'x_next', held or '')
      redis.call('HDEL', key, 'x_held')
    end
    if status == 'Finished' then
      note_finished(tx, flow, held or '')
    elseif status == 'Error' then
      redis.call('HSET', tx.prefix .. flow, 'x_doomed', job)
    elseif status == 'WaitingForPrerequisites' or status == 'Dispatched' and queued then -- it was given back
      redis.call('HSET', key, 'status', 'Dispatched', 'x_queued', tx.at)
      COUNT.job(tx, status, 'Dispatched')
      redis.call('RPUSH', tx.prefix .. 'ready:' .. flow, type .. ' ' .. job)
    end
  end
  return 'settle'
end

-- Make a job what it was when it was claimed.
local function unclaim(tx, flow, job, status, owner, awaits, waiting, status_now)
  local key = tx.prefix .. job
  if status == 'Finished' then
    redis.call('UNLINK', tx.prefix .. 'next:' .. flow .. ':' .. job)
    redis.call('HDEL', key, 'x_was', done_next(flow), 'x_unmet')
    return
  end
  if has_spilled(waiting) then
    redis.call('UNLINK', tx.prefix .. 'next:' .. job)
  end
  redis.call('HDEL', key, 'x_was', 'x_next', 'x_held', 'x_unmet')
  if not is_startable(status) then
    return
  end
  PREREQUISITES.stop_awaiting(tx, flow, job, awaits)
  status = AGAIN.before(status)
  local given_back, known = {'status', status}, redis.call('HGET', key, 'x_kept')
  if known then
    for i, value in ipairs(cjson.decode(known)) do
      if value then
        put(given_back, ATTEMPTS[i], value)
      end
    end
  end
  redis.call('HDEL', key, 'x_wait', 'x_parents', 'x_awaits', 'x_met', 'x_queued', 'x_kept')
  redis.call('HSET', key, unpack(given_back))
  COUNT.job(tx, status_now, status)
  if owner == '-' then
    redis.call('HDEL', key, 'x_run')
  else
    redis.call('HSET', key, 'x_run', owner)
  end
end

-- Give the jobs of a flow that cannot be started back. Result: what is in the way.
function STEP.undo(tx, flow, at)
  local key = tx.prefix .. flow
  local serial = redis.call('HGET', key, 'x_serial')
  at = each_job(tx, flow, at, from_new_plan, function(job)
    local was, awaits, following, held, status_now =
      unpack(redis.call('HMGET', tx.prefix .. job, 'x_was', 'x_awaits', 'x_next', 'x_held', 'status'))
    local place, status, owner = claimed(was, serial)
    if place and status == 'New' then
      PREREQUISITES.stop_awaiting(tx, flow, job, awaits)
      remove(tx, tx.prefix .. job)
    elseif place then
      unclaim(tx, flow, job, status, owner, awaits, following or held, status_now)
    end
  end)
  if at then
    return 'undo ' .. at
  end
  local before, fault = unpack(redis.call('HMGET', key, 'x_before', 'x_fault'))
  for _, name in ipairs({'ready:', 'late:', 'order:', 'listed:', 'again:'}) do
    redis.call('UNLINK', tx.prefix .. name .. flow)
  end
  redis.call('UNLINK', new_plan(tx, flow))
  redis.call('HDEL', key, 'x_before', 'x_serial', 'x_fault', 'x_unordered', 'x_token', 'x_doomed',
    'x_again')
  SHARING.look_again(tx, flow) -- its jobs are others' again
  if before == 'New' then
    SHARING.forget(tx, flow)
    remove(tx, key)
    FEED.tell(tx, flow, 'Deleted')
  elseif before == '' then
    redis.call('HDEL', key, 'x_active')
  else
    redis.call('HSET', key, 'x_active', before)
  end
  tx.active[flow] = before ~= 'New' and before ~= '' and before
  return nil, split(fault)
end

-- Put the result of a large flow together: each leaf job's id → its result map, as JSON text.
function STEP.result(tx, flow, at, count, room)
  local entries, from, key = {}, at, tx.prefix .. 'result:' .. flow
  count, room = tonumber(count or 0), tonumber(room or RESULT_BYTES)
  at = each_job(tx, flow, at, jobs_from, function(job)
    local done = done_next(flow)
    local following_done, following = unpack(redis.call('HMGET', tx.prefix .. job, done, 'x_next'))
    if following_done then
      following = following_done
      redis.call('HDEL', tx.prefix .. job, done)
      redis.call('UNLINK', tx.prefix .. 'next:' .. flow .. ':' .. job)
    end
    if (not following or following == '') and count <= RESULT_JOBS then
      count = count + 1
      local entry = MORE_LEAVES
      if count <= RESULT_JOBS then
        entry, room = leaf_entry(tx, job, count, room)
      end
      entries[#entries + 1] = entry
      tx.work = tx.work - 1 - #entry / 200
    end
  end)
  if from == '0' then
    redis.call('DEL', key)
  end
  if #entries > 0 then
    redis.call('APPEND', key, (redis.call('EXISTS', key) == 1 and ',' or '') .. table.concat(entries, ','))
  end
  if at and count <= RESULT_JOBS then
    return table.concat({'result', at, count, room}, ' ')
  end
  local result = redis.call('GET', key)
  redis.call('UNLINK', key)
  finish_run(tx, flow, LARGE, '{' .. (result or '') .. '}')
end

end
