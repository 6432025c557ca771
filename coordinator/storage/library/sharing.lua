-- Who needs a job. A run needs the jobs it lists and those it was started with. That the run a job belongs to (x_run)
-- needs it goes without saying; of other runs the index tells: the set `users:JOB` has the runs that need a job which
-- is not theirs, the set `uses:RUN` the same jobs by run. Only deletion asks, so the index is brought up to date, some
-- at a time, when something is to be deleted. Until then the hash `unlisted` has the runs that must be looked at again,
-- each with how far that has got: 'u' (what the index has of it goes), 'jN' and 'pN' (from byte N of its `jobs`, its
-- `x_jobs`, or from the N-th of `plan:RUN`). The engine's field `listed` says how far the runs of before there was an
-- index are in that hash: 'all', or the last of a kind.

local SHARING = {
  SLICE = 2000, -- jobs looked at in one call
  USERS = 100, -- runs looked at to find one that is active
}

-- What x_active says of a run.
local IS = {
  ENDED = '0',
  ACTIVE = '1', -- jobs may start
  STARTING = '2', -- its jobs are made ready
  SETTLING = '3', -- those of them that ran already are looked at
  ENDING = '4', -- it has ended, or is to be deleted, and its jobs are dealt with
  PAUSED = '5', -- as '1', but none of its jobs is handed out; those that are queued are noted in ready:RUN
}

local LARGE = '@' -- x_jobs of a run whose jobs are in the list `plan:RUN`

-- Whether a run has so many jobs, by its x_jobs, that they are dealt with in slices. A message may have many, too.
local function has_many(jobs)
  return jobs == LARGE or #(jobs or '') > 26 * ONE_CALL -- as long as a name may be, with a space
end

local function active_of(tx, run)
  local active = tx.active[run]
  if active == nil then
    active = redis.call('HGET', tx.prefix .. run, 'x_active')
    tx.active[run] = active
  end
  return active
end

-- Whether jobs of a run may start, or will as soon as it has been started.
local function is_active(tx, run)
  local active = active_of(tx, run)
  return active == IS.ACTIVE or active == IS.STARTING or active == IS.SETTLING or active == IS.PAUSED
end

-- Whether a run is started, by its x_active: its jobs may start, unless it is paused.
function SHARING.is_open(active)
  return active == IS.ACTIVE or active == IS.PAUSED
end

-- Whether jobs of a type are handed to nobody now, 'paused', or none to this runner, 'drained'; nil if neither. The
-- hash `paused` says so: it has the fields 'context', 'type:TYPE' and 'runner:ID', each since when (ms).
function SHARING.is_held(tx, type, runner)
  if tx.is_held == nil then
    tx.is_held = redis.call('EXISTS', tx.prefix .. 'paused') == 1
  end
  if not tx.is_held then
    return nil
  end
  local context, of_type, drained =
    unpack(redis.call('HMGET', tx.prefix .. 'paused', 'context', 'type:' .. type, 'runner:' .. (runner or '')))
  return (context or of_type) and 'paused' or drained and 'drained' or nil
end

-- How a job's attempts have ended is kept in the list `attempts:JOB`, the newest of them; of the last one the job
-- itself tells as long as it runs or has finished.
local OUTCOME = {KEPT = 20, ERROR = 1000} -- bytes of why it failed

-- Keep how an attempt at a job, of which number, runner and start are needed, has ended: 'finished', 'failed', 'lost',
-- 'timed_out' or 'cancelled', when (ms, as text), and why, if it did not finish.
function OUTCOME.keep(tx, job, attempt, outcome, ended, reason)
  local failure = ''
  if reason then
    if #reason > OUTCOME.ERROR then -- up to the last character that is whole
      reason = string.gsub(string.sub(reason, 1, OUTCOME.ERROR), '[\192-\255][\128-\191]*$', '') .. '…'
    end
    failure = ',"error":' .. cjson.encode(reason)
  end
  local list, times = tx.prefix .. 'attempts:' .. job, ',"started_at":' .. attempt.start .. ',"ended_at":' .. ended
  local kept = redis.call('RPUSH', list, '{"attempt":' .. attempt.number .. ',"runner_id":' .. attempt.runner
    .. times .. ',"outcome":"' .. outcome .. '"' .. failure .. '}')
  if kept > OUTCOME.KEPT then
    redis.call('LTRIM', list, -OUTCOME.KEPT, -1)
  end
end

-- Our coordinator learns how an attempt has ended that belongs to a trace.
function OUTCOME.trace(tx, run, job, attempt, outcome, reason)
  local origin = redis.call('HGET', tx.prefix .. job, 'x_trace')
  if origin then
    local why = reason and cjson.encode(string.sub(reason, 1, OUTCOME.ERROR)) or ''
    tx.effects[#tx.effects + 1] = EFFECT.ATTEMPT .. table.concat({run, job, attempt.number, attempt.token,
      attempt.runner, attempt.start, tx.at, outcome, origin, why}, ' ')
  end
end

-- Forget what a job's earlier run has left: its attempts but for how they ended, what it waited for, what waited for
-- it.
local function forget_run(tx, job)
  local status, field, ended = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_attempt', 'x_ended'))
  local number, runner, start = string.match(field or '', '^(%d+) %S+ (%d+) %d+ (%d+) ')
  if status == 'Finished' and ended and number then
    OUTCOME.keep(tx, job, {number = number, runner = runner, start = start}, 'finished', ended)
  end
  redis.call('HDEL', tx.prefix .. job, 'x_run', 'x_queued', 'x_ended', 'x_retry', 'x_failure', 'x_attempt', 'x_next',
    'x_parents', 'x_awaits', 'x_was', 'x_lost', 'x_returned', 'x_needed', 'x_met', 'x_kept', 'x_trace')
  redis.call('DEL', tx.prefix .. 'tail:' .. job)
end

-- What a run lists or was started with has changed, or a job that belonged to it is another run's now.
function SHARING.look_again(tx, run)
  redis.call('HSET', tx.prefix .. 'unlisted', run, 'u')
end

-- The first run that is active of those in a job's field x_needed.
local function first_active(tx, needed)
  for run in string.gmatch(needed or '', '%S+') do
    if is_active(tx, run) then
      return run
    end
  end
end

-- The run, other than `run`, that is active and needs what a Finished job of `owner` did. Nil: it may run again.
function SHARING.needs_result(tx, run, job, owner)
  if owner and owner ~= run and is_active(tx, owner) then
    return owner
  end
  for other in string.gmatch(redis.call('HGET', tx.prefix .. job, 'x_needed') or '', '%S+') do
    if other ~= run and is_active(tx, other) then
      return other
    end
  end
end

-- A run that begins counts a Finished job as done that belonged to another.
function SHARING.count_as_done(tx, run, job)
  local runs = {}
  for other in string.gmatch(redis.call('HGET', tx.prefix .. job, 'x_needed') or '', '%S+') do
    if other ~= run and is_active(tx, other) then
      runs[#runs + 1] = other
    end
  end
  runs[#runs + 1] = run
  redis.call('HSET', tx.prefix .. job, 'x_needed', table.concat(runs, ' '))
  SHARING.look_again(tx, run)
end

-- Put the next runs of an index into `unlisted`. `place`: the kind, and the last entry that is there. Returns how many.
local function enlist(tx, place)
  local kind, last = string.match(place, '^(%l+) ?(%S*)$')
  local after = last == '' and '-' or '(' .. last
  local entries = redis.call('ZRANGE', INDEX.key(tx, kind), after, '+', 'BYLEX', 'LIMIT', 0, 500)
  for _, entry in ipairs(entries) do
    local ids = string.gsub(entry, '%d+', function(id) return string.format('%.0f', tonumber(id)) end)
    redis.call('HSETNX', tx.prefix .. 'unlisted', kind .. ':' .. ids, 'u')
  end
  local is_last = #entries < 500
  local next_kind = kind == 'flow' and 'message' or 'all'
  redis.call('HSET', tx.engine, 'listed', is_last and next_kind or kind .. ' ' .. entries[#entries])
  return #entries + 1
end

-- Take what the index has of a run out of it, at most so many jobs. Returns how many were.
function SHARING.unlist(tx, run, limit)
  local jobs = redis.call('SPOP', tx.prefix .. 'uses:' .. run, limit)
  for _, job in ipairs(jobs) do
    redis.call('SREM', tx.prefix .. 'users:' .. job, run)
  end
  return #jobs
end

-- Index the jobs that `text` names by `pattern`, after `before`, from the byte `at` on, at most so many.
-- Returns how many, and where to go on, or nil at the end.
local function index_jobs(tx, run, text, pattern, before, at, limit)
  local count = 0
  while count < limit do
    local first, last = string.find(text, pattern, at)
    if not first then
      return count, nil
    end
    local job = before .. string.sub(text, first, last)
    if redis.call('HGET', tx.prefix .. job, 'x_run') ~= run then
      redis.call('SADD', tx.prefix .. 'users:' .. job, run)
      redis.call('SADD', tx.prefix .. 'uses:' .. run, job)
    end
    count, at = count + 1, last + 1
  end
  return count, at
end

-- Go on with a run that is in `unlisted`. Returns how many jobs were looked at.
local function list_run(tx, run, progress, limit)
  local unlisted = tx.prefix .. 'unlisted'
  local phase, at = string.sub(progress, 1, 1), tonumber(string.sub(progress, 2))
  if phase == 'u' then
    local count = SHARING.unlist(tx, run, limit)
    if count < limit then
      redis.call('HSET', unlisted, run, 'j1')
    end
    return count + 1
  end
  local caller, jobs, planned = unpack(redis.call('HMGET', tx.prefix .. run, 'caller_id', 'jobs', 'x_jobs'))
  local count, after = 0, nil
  if phase == 'p' and planned == LARGE then
    local jobs_planned = redis.call('LRANGE', tx.prefix .. 'plan:' .. run, at - 1, at + limit - 2)
    count = index_jobs(tx, run, table.concat(jobs_planned, ' '), '%S+', '', 1, limit)
    after = count == limit and at + count or nil
  elseif phase == 'p' then
    count, after = index_jobs(tx, run, planned or '', '%S+', '', at, limit)
  elseif jobs then -- messages have none
    count, after = index_jobs(tx, run, jobs, '%d+', 'job:' .. caller .. ':', at, limit)
  end
  if after then
    redis.call('HSET', unlisted, run, phase .. after)
  elseif phase == 'j' then
    redis.call('HSET', unlisted, run, 'p1')
  else
    redis.call('HDEL', unlisted, run)
  end
  return count + 1
end

-- Whether the index is up to date. If it is not, it is a little more so afterwards: call again.
function SHARING.is_current(tx)
  tx.listing = tx.listing or SHARING.SLICE
  local place = redis.call('HGET', tx.engine, 'listed') or 'flow'
  while place ~= 'all' and tx.listing > 0 do
    tx.listing = tx.listing - enlist(tx, place)
    place = redis.call('HGET', tx.engine, 'listed')
  end
  while tx.listing > 0 do
    local run, progress = unpack(redis.call('HRANDFIELD', tx.prefix .. 'unlisted', 1, 'WITHVALUES'))
    if not run then
      return true
    end
    tx.listing = tx.listing - list_run(tx, run, progress, tx.listing)
  end
  return false
end

-- The run, other than `run`, that needs a job: nil if none does; and whether that one is active. 'unknown' if it is
-- not, and there are more than were looked at.
local function other_user(tx, run, job)
  local users, first = tx.prefix .. 'users:' .. job, nil
  local names = redis.call('SRANDMEMBER', users, SHARING.USERS)
  for _, user in ipairs(names) do
    if user ~= run then
      if is_active(tx, user) then
        return user, true
      end
      first = first or user
    end
  end
  return first, #names == SHARING.USERS and 'unknown'
end

-- What becomes of a job when `run` is deleted, or, without one, the job itself: 'gone'; 'kept', as others list it;
-- 'needed', as it runs, or by the active run that is returned too. The index must be up to date.
function SHARING.fate(tx, job, run)
  local status, owner, needed = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_run', 'x_needed'))
  if status == 'Started' then
    return 'needed'
  end
  if owner and is_active(tx, owner) then
    return 'needed', owner
  end
  local active = first_active(tx, needed)
  if active then
    return 'needed', active
  end
  local user, is_needed = other_user(tx, run, job)
  if is_needed == true or (is_needed and not run) then
    return 'needed', user
  end
  return user and run and 'kept' or 'gone'
end

-- A run is deleted: the index forgets it.
function SHARING.forget(tx, run)
  redis.call('HDEL', tx.prefix .. 'unlisted', run)
  while SHARING.unlist(tx, run, 1000) == 1000 do end
end

-- The same map or list in another order is the same value. Both are as they are stored.
function SHARING.is_same(a, b)
  if a == b then
    return true
  end
  if not string.find(a or '', '^[%[{]') or not string.find(b or '', '^[%[{]') then
    return false
  end
  local function entries(json)
    local found, is_list = {}, string.sub(json, 1, 1) == '['
    for name, value in pairs(cjson.decode(json)) do
      found[is_list and value or name] = value
    end
    return found
  end
  local one, other = entries(a), entries(b)
  for name, value in pairs(one) do
    if other[name] ~= value then
      return false
    end
  end
  for name in pairs(other) do
    if one[name] == nil then
      return false
    end
  end
  return true
end

-- The first of the members `names` of a record that is there which is another than its value in the arguments from
-- `first` on. Its result does not count, nor does what is not given, or its key tells.
function SHARING.difference(tx, record, names, args, first, defaults)
  local stored = redis.call('HMGET', tx.prefix .. record, unpack(names))
  for i, name in ipairs(names) do
    local given = args[first + i - 1]
    local is_told = not stored[i] and (name == 'id' or name == 'caller_id' or name == 'context_id')
    if name ~= 'result' and given ~= NOT_GIVEN and not is_told
      and not SHARING.is_same(stored[i] or defaults[name], given) then
      return name
    end
  end
end

-- What an attempt at a job was made of.
local RUN_WITH = {script = true, script_type = true, env_vars = true}

-- Prepare a job for what is to be written over it (see upsert; the first of `names` is `status`). A job that runs or
-- has ended keeps what it was run with. So when that is another now, it becomes a new job, or, if a run needs what it
-- did or does, it is refused.
local function renew(tx, job, stored, names, args, first)
  local status, given = stored[1], SHARING.given(args[first + 1])
  if status == 'Dispatched' or status == 'WaitingForPrerequisites' then
    return
  end
  local key, is_other = tx.prefix .. job, false
  for i, name in ipairs(given) do
    if RUN_WITH[name]
      and not SHARING.is_same(redis.call('HGET', key, name) or JOB_DEFAULTS[name], args[first + 1 + i]) then
      is_other = true
    end
  end
  if not is_other then
    return
  end
  local owner, needed = unpack(redis.call('HMGET', key, 'x_run', 'x_needed'))
  local run = status == 'Started' and owner or owner and is_active(tx, owner) and owner or first_active(tx, needed)
  if run then
    return WORD.BUSY, job, run
  end
  forget_run(tx, job)
  redis.call('DEL', tx.prefix .. 'attempts:' .. job)
  if owner then
    SHARING.look_again(tx, owner)
  end
  redis.call('HSET', key, 'status', 'Dispatched', 'result', '{}')
  COUNT.job(tx, status, 'Dispatched')
  for i, name in ipairs(names) do
    if name == 'status' then
      stored[i] = 'Dispatched'
    elseif name == 'result' then
      stored[i] = '{}'
    end
  end
end

-- Create or update a job.
-- Arguments: as record_upsert.
-- Result: as upsert, or 'busy', the job, the run that needs what it did or does.
local function job_upsert(tx, args, o)
  return upsert(tx, args, o, renew)
end

-- The names of the members that are given in a shape (see shape_of), in their order.
function SHARING.given(shape)
  local names = {}
  for name in string.gmatch(string.match(shape, '|(.*)$'), '%S+') do
    names[#names + 1] = name
  end
  return names
end
