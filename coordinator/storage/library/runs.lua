-- Runs: a flow's jobs, or a message's, on their way from started to ended.

-- Whether another run has a job: it is being run for it, or may be, or is not put back yet.
local function is_taken(tx, run, status, owner)
  if not owner or owner == run then
    return false
  end
  return status == 'Started'
    or (status ~= 'Finished' and status ~= 'Error' and (is_active(tx, owner) or active_of(tx, owner) == IS.ENDING))
end

-- What is done with a run in slices: `STEP.NAME(tx, run, …)` does one, from where the last one ended, and returns
-- where it has ended: the step's name and its arguments, with spaces between. nil: it was the last one; then perhaps a
-- result.
local STEP = {}

local STEP_PAUSE = 5000 -- ms after which a step is taken up by a timer, if nobody's call has gone on with it

-- From now on a step is under way: until it has ended, nothing else is done with the run. `pause`: ms after which a
-- timer goes on with it; at once, if nobody calls again.
local function begin_step(tx, run, step, pause)
  redis.call('HSET', tx.prefix .. run, 'x_step', step)
  arm(tx, 'step:' .. run, tx.now + (pause or 0))
end

-- Do one slice of the step that is under way. `pause`: ms after which a timer does the next.
-- Returns whether there is more to do; if not, the step's result.
local function go_on(tx, run, step, pause)
  local words = split(step)
  local after, result = STEP[words[1]](tx, run, unpack(words, 2))
  if after then
    redis.call('HSET', tx.prefix .. run, 'x_step', after)
    arm(tx, 'step:' .. run, tx.now + pause)
    return true
  end
  redis.call('HDEL', tx.prefix .. run, 'x_step')
  disarm(tx, 'step:' .. run)
  return false, result
end

-- Jobs of a run from place `at` on, at most `count`.
local function jobs_from(tx, run, at, count)
  local jobs = redis.call('HGET', tx.prefix .. run, 'x_jobs')
  if jobs == LARGE then
    return redis.call('LRANGE', tx.prefix .. 'plan:' .. run, at, at + count - 1)
  end
  return slice(split(jobs), at + 1, at + count)
end

-- Call `act` with the jobs that `read` returns from place `at` on, until that was enough work for one call. Returns
-- the place of the next, nil if there is none.
local function each_job(tx, run, at, read, act)
  at = tonumber(at)
  local jobs = read(tx, run, at, ONE_CALL)
  for i, job in ipairs(jobs) do
    if tx.work <= 0 and i > 1 then
      return at + i - 1
    end
    tx.work = tx.work - 3
    act(job)
  end
  return #jobs == ONE_CALL and at + ONE_CALL or nil
end

-- The last step of a run that has ended is over.
local function end_steps(tx, run)
  redis.call('HSET', tx.prefix .. run, 'x_active', IS.ENDED)
  tx.active[run] = IS.ENDED
end

-- Delete an ended run's events, and its records too, once they have been kept long enough.
local function retain(tx, run)
  local events_ttl, retention = string.match(tx.coordinator, ' (%d+) (%d+) %d+ %S+$')
  local flow = string.match(run, '^flow:(%d+)$')
  if flow then
    EVENTS.of(tx, run).ttl = events_ttl
    redis.call('PEXPIRE', tx.prefix .. 'lines:' .. flow, events_ttl)
  end
  if retention ~= '0' then
    arm(tx, 'keep:' .. run, tx.now + retention)
  end
end

local function disarm_message(tx, run)
  for _, name in ipairs({'ack:', 'result:', 'total:'}) do
    disarm(tx, name .. run)
  end
end

local RESULT_BYTES = 1048576 -- of the results that a flow's own holds, unless it has but one
local RESULT_JOBS = 5000 -- that a flow's result has an entry for

local MORE_LEAVES = [["$more":"{\"$ref\":\"flow.status\"}"]]

-- The entry that the `count`-th leaf job has in its flow's result, and the bytes of results there is room for behind
-- it.
local function leaf_entry(tx, leaf, count, room)
  local result = tx.result_of[leaf]
  local size = result and #result or redis.call('HSTRLEN', tx.prefix .. leaf, 'result')
  if size > room and count > 1 then
    result = '{"$ref":"job.load"}'
  else
    result = result or redis.call('HGET', tx.prefix .. leaf, 'result') or '{}'
    room = room - size
  end
  return '"' .. job_id(leaf) .. '":' .. cjson.encode(result), room
end

-- The result of a flow: each leaf job's id → its result map, as JSON text. One for which there is no room is
-- {"$ref":"job.load"}. If there are more leaves, the entry $more says so.
local function leaf_results(tx, leaves)
  local entries, room, count = {}, RESULT_BYTES, 0
  for leaf in string.gmatch(leaves or '', '%S+') do
    count = count + 1
    if count > RESULT_JOBS then
      entries[count] = MORE_LEAVES
      break
    end
    entries[count], room = leaf_entry(tx, leaf, count, room)
  end
  return '{' .. table.concat(entries, ',') .. '}'
end

-- Our coordinator counts how runs end.
local function tell_ended(tx, run, status)
  tx.effects[#tx.effects + 1] = EFFECT.ENDED .. string.match(run, '^%l+') .. ' ' .. status
end

-- A run that ends is paused no longer.
local function end_pause(tx, run)
  redis.call('HDEL', tx.prefix .. run, 'paused')
  redis.call('UNLINK', tx.prefix .. 'ready:' .. run)
end

-- Every job of a run has finished. `leaves`: those no other waits for; of a large run its result is put together
-- first, in slices, and given here.
local function finish_run(tx, run, leaves, result)
  local key = tx.prefix .. run
  if tx.active[run] == IS.PAUSED then
    end_pause(tx, run)
  end
  if leaves == LARGE and not result and string.sub(run, 1, 5) == 'flow:' then
    tx.active[run] = IS.ENDING
    redis.call('HSET', key, 'x_active', IS.ENDING, 'x_pending', '0')
    begin_step(tx, run, 'result 0')
    return
  end
  tx.active[run] = IS.ENDED
  local ended = {'x_active', '0', 'x_pending', '0', 'x_ended', tx.at, 'updated_at', tx.seconds}
  if string.sub(run, 1, 5) == 'flow:' then
    redis.call('HSET', key, 'status', 'Finished', 'result', result or leaf_results(tx, leaves), unpack(ended))
    COUNT.move(tx, 'flow Started>Finished')
    BYTES.count(tx, run)
    emit_flow(tx, run, 'Finished')
    tell_ended(tx, run, 'Finished')
  else
    redis.call('HSET', key, 'status', 'Processed', 'transport_status', 'Read', unpack(ended))
    tell_ended(tx, run, 'Processed')
    disarm_message(tx, run)
  end
  retain(tx, run)
end

-- A message is on its way to runners.
local function queue_message(tx, message, transport_id)
  local key = tx.prefix .. message
  local total, ack = unpack(redis.call('HMGET', key, 'timeout', 'timeout_ack'))
  redis.call('HSET', key, 'transport_id', transport_id, 'transport_status', 'Queued')
  for name, limit in pairs({ack = ack, total = total}) do
    if limit ~= '0' then
      arm(tx, name .. ':' .. message, tx.now + limit * 1000)
    end
  end
end

-- Put a job of a run that ends back: it waits to be started again.
local function reset_job(tx, run, job, status, awaits)
  local key = tx.prefix .. job
  if status == 'Dispatched' then
    redis.call('HSET', key, 'status', 'WaitingForPrerequisites', 'updated_at', tx.seconds)
    COUNT.move(tx, 'Dispatched>WaitingForPrerequisites')
    if redis.call('HDEL', key, 'x_queued') == 1 then
      leave_queue(tx)
    end
    redis.call('HDEL', key, 'x_retry')
    disarm(tx, 'retry:' .. job)
  elseif status == 'WaitingForPrerequisites' then
    PREREQUISITES.stop_awaiting(tx, run, job, awaits)
  end
end

-- Put a job back, if it is still the run's.
local function put_back(tx, run, job)
  local status, owner, awaits = unpack(redis.call('HMGET', tx.prefix .. job, 'status', 'x_run', 'x_awaits'))
  if owner == run then
    reset_job(tx, run, job, status, awaits)
  end
end

-- Put the jobs of a run that has failed back.
function STEP.reset(tx, run, at)
  at = each_job(tx, run, at, jobs_from, function(job)
    put_back(tx, run, job)
  end)
  if at then
    return 'reset ' .. at
  end
  end_steps(tx, run)
end

-- End a run in Error. `job`: the one that failed, or nil. What has not started stays WaitingForPrerequisites. `step`:
-- what deals with its jobs, if not all of them can be put back in this call.
local function fail_run(tx, run, reason, job, step)
  local key = tx.prefix .. run
  local jobs, status = unpack(redis.call('HMGET', key, 'x_jobs', 'status'))
  if active_of(tx, run) == IS.PAUSED then
    end_pause(tx, run)
  end
  local is_sliced = step or has_many(jobs) or tx.work <= 0
  tx.active[run] = is_sliced and IS.ENDING or IS.ENDED
  local ended = {'x_active', tx.active[run], 'x_ended', tx.at, 'updated_at', tx.seconds}
  if string.sub(run, 1, 5) == 'flow:' then
    local result = '{"error":' .. cjson.encode(reason) .. (job and ',"job":"' .. job_id(job) .. '"}' or '}')
    redis.call('HSET', key, 'status', 'Error', 'result', result, unpack(ended))
    COUNT.flow(tx, status, 'Error')
    emit_flow(tx, run, 'Error', because(reason))
  else
    redis.call('HSET', key, 'status', 'Error', 'transport_status', 'Failed', unpack(ended))
    redis.call('RPUSH', tx.prefix .. 'logs:' .. string.sub(run, 9), reason)
    disarm_message(tx, run)
  end
  tell_ended(tx, run, 'Error')
  if is_sliced then
    begin_step(tx, run, step or 'reset 0')
  else
    for _, other in ipairs(split(jobs)) do
      put_back(tx, run, other)
      tx.work = tx.work - 3
    end
  end
  retain(tx, run)
end

-- The last attempt at a job from its field x_attempt, everything as text: number, token, runner, lease, start and
-- deadline (ms), `traced` ('+' or nothing), session; and with it these two. nil if there was none, or nothing is known
-- of it but its number.
local function attempt_of(field, job, run)
  local number, token, runner, lease, start, deadline, traced, session =
    string.match(field or '', '^(%d+) (%S+) (%d+) (%d+) (%d+) (%d+)(%+?) (.*)$')
  return number and {number = number, token = token, runner = runner, lease = lease, start = start, deadline = deadline,
    traced = traced, session = session, job = job, run = run}
end

-- What `finish` needs of attempts that were begun lately, by their tokens, until they end: to read it off the field
-- x_attempt costs as much as a small command, and of an attempt that has the same field the run is the same, too. Of
-- each `field`, `run`, `number` and `traced`, what events say `about` it, and `taker`: what those have in common that
-- were taken at once, `runner`, `session` and its `name`, `start` (ms) and the same in `seconds`.
local BEGUN = {LIMIT = 10000, count = 0, by_token = {}}

function BEGUN.remember(token, attempt)
  local it = BEGUN
  if it.count >= it.LIMIT then -- many have ended otherwise
    it.count, it.by_token = 0, {}
  end
  it.by_token[token], it.count = attempt, it.count + 1
end

-- What is known of an attempt; whoever asks has it to itself.
function BEGUN.claim(token)
  local it = BEGUN
  local attempt = it.by_token[token]
  if attempt then
    it.by_token[token], it.count = nil, it.count - 1
  end
  return attempt
end

local LATE = 30000 -- ms in which the runner of an attempt that was ended from here may hand in output and a result

-- The field x_late of a job whose running attempt, of that run, ends now without its runner having reported.
local function late_until(tx, attempt, run)
  return string.format('%.0f', tx.now + LATE) .. ' ' .. attempt.token .. ' ' .. attempt.number .. ' ' .. run
end

-- What this server remembers of contexts, for as long as it runs. That costs next to nothing, and nobody misses
-- it for long. By channel and prefix of the context: `there`, the runners that are there to take jobs (script
-- type → runner → until when), `swept` (script type → when those that are no longer there were removed);
-- `subscribed`, those that have subscribed (runner → coordinator → `since` and `capacity`, as texts, and `till`);
-- `troubled`, runners in trouble (runner → how often in a row it has `failed`, or `lost`, and nothing `till`);
-- `kept`, queued jobs that are for another runner than the one that failed or lost them (job → that `runner`,
-- `till`); `sessions`, running attempts (see session_name → job → token), those that began before the server
-- did being known when `walked` is true, which may be where that has got to; `held`, how many they are (session_name
-- → number); `unnamed` (tokens of those which do not name their job → job).
local memories = {}
local POLLING = 'job.take' -- the session of attempts handed out on no connection

local function known_memory(tx)
  if tx.memory == nil then
    tx.memory = memories[tx.channel .. ' ' .. tx.prefix] or false
  end
  return tx.memory
end

local function memory_of(tx)
  if not known_memory(tx) then
    tx.memory = {there = {}, swept = {}, subscribed = {}, troubled = {}, kept = {}, sessions = {}, held = {},
      unnamed = {}}
    memories[tx.channel .. ' ' .. tx.prefix] = tx.memory
  end
  return tx.memory
end

-- A runner and its session; all attempts that are in no session together are under another name than any session has.
local function session_name(runner, session)
  return (session == '' or session == POLLING) and runner or runner .. ' ' .. session
end

-- Another context is in this one's place.
local function forget_memory(channel, prefix)
  memories[channel .. ' ' .. prefix] = nil
end

-- An attempt has begun in a session of this name.
local function remember_attempt(tx, job, name, token)
  local memory = tx.memory or memory_of(tx)
  local begun, held = memory.sessions[name], memory.held
  if not begun then
    begun = {}
    memory.sessions[name], held[name] = begun, 0
  end
  if not begun[job] then
    held[name] = held[name] + 1
  end
  begun[job] = token
end

local function forget_attempt(tx, job, attempt)
  local memory = attempt and (tx.memory or known_memory(tx))
  local name = memory and (attempt.name or session_name(attempt.runner, attempt.session))
  local begun = memory and memory.sessions[name]
  if begun and begun[job] then
    local held = memory.held[name] - 1
    begun[job], memory.held[name] = nil, held
    if held == 0 then -- to look whether it is empty would take as long as it was ever large
      memory.sessions[name], memory.held[name] = nil, nil
    end
  end
end

-- Stop the attempt at a job of a run, if it has one: the job is in Error, the runner is told.
local function stop(tx, run, job, reason)
  local key = tx.prefix .. job
  local status, owner, field = unpack(redis.call('HMGET', key, 'status', 'x_run', 'x_attempt'))
  if status == 'Started' and owner == run then
    local attempt = attempt_of(field)
    redis.call('HSET', key, 'status', 'Error', 'x_failure', reason, 'x_ended', tx.at, 'updated_at', tx.seconds,
      'x_late', late_until(tx, attempt, run))
    COUNT.move(tx, 'Started>Error')
    OUTCOME.keep(tx, job, attempt, 'cancelled', tx.at, reason)
    if attempt.traced == '+' then
      OUTCOME.trace(tx, run, job, attempt, 'cancelled', reason)
    end
    disarm(tx, 'lease:' .. job)
    forget_attempt(tx, job, attempt)
    announce_cancel(tx, attempt.runner, job, attempt.token, reason)
    emit_job(tx, run, job, 'Error', attempt, because(reason))
  end
end

-- Stop what a cancelled run has running, and put its other jobs back.
function STEP.stop(tx, run, at)
  local reason = redis.call('HGET', tx.prefix .. run, 'x_reason')
  at = each_job(tx, run, at, jobs_from, function(job)
    stop(tx, run, job, reason)
    put_back(tx, run, job)
  end)
  if at then
    return 'stop ' .. at
  end
  redis.call('HDEL', tx.prefix .. run, 'x_reason')
  end_steps(tx, run)
end

-- Stop what a run has running, and end it in Error if it has not ended. If these are many, the run ends first, and its
-- jobs are dealt with in slices.
local function cancel_run(tx, run, reason)
  local key = tx.prefix .. run
  local jobs, active = unpack(redis.call('HMGET', key, 'x_jobs', 'x_active'))
  if has_many(jobs) or tx.work <= 0 then
    redis.call('HSET', key, 'x_reason', reason)
    if active ~= IS.ENDED then
      fail_run(tx, run, reason, nil, 'stop 0')
    else
      tx.active[run] = IS.ENDING
      redis.call('HSET', key, 'x_active', IS.ENDING)
      begin_step(tx, run, 'stop 0')
    end
    return
  end
  for _, job in ipairs(split(jobs)) do
    stop(tx, run, job, reason)
    tx.work = tx.work - 3
  end
  if active ~= IS.ENDED then
    fail_run(tx, run, reason)
  end
end

-- What the jobs of a run wait for. A node: job, type, depends and prerequisites (JSON), status and owner as far as it
-- has them; `link` adds children, parents (their ids) and wait (how many of them are not Finished).
-- Returns nil, or what is wrong, 'changed' (not a DAG), and with which job.
local function link(nodes)
  local by_job = {}
  for _, node in ipairs(nodes) do
    node.children, node.parents, node.wait = {}, {}, 0
    by_job[node.job] = node
  end
  for _, node in ipairs(nodes) do
    if node.depends ~= '[]' then
      local caller, seen = string.match(node.job, '^job:%d+:'), {}
      for id in string.gmatch(node.depends, '%d+') do
        local parent = by_job[caller .. id]
        if not parent then
          return WORD.CHANGED, node.job
        end
        if not seen[id] then
          seen[id] = true
          parent.children[#parent.children + 1] = node
          node.parents[#node.parents + 1] = id
          if parent.status ~= 'Finished' then
            node.wait = node.wait + 1
          end
        end
      end
    end
  end
  local unmet, placed = {}, {}
  for _, node in ipairs(nodes) do
    unmet[node] = #node.parents
    if #node.parents == 0 then
      placed[#placed + 1] = node
    end
  end
  local at = 0
  while at < #placed do
    at = at + 1
    for _, child in ipairs(placed[at].children) do
      unmet[child] = unmet[child] - 1
      if unmet[child] == 0 then
        placed[#placed + 1] = child
      end
    end
  end
  if #placed < #nodes then
    return WORD.CHANGED, nodes[1].job
  end
end

-- What runs again although it has finished, or begins with other members than before: the hash `again:RUN`, while its
-- flow is started again by flow_rerun. Its fields are the names of such jobs, or '*' for all; and 'RECORD MEMBER' →
-- what that is to be.
local AGAIN = {}

function AGAIN.key(tx, run)
  return tx.prefix .. 'again:' .. run
end

-- What a job counts as when it is claimed, by its status: 'Again' if it is to run again. Or nil and the run in the way.
function AGAIN.status(tx, run, job, status, owner)
  if status ~= 'Finished' and status ~= 'Started' then
    return status
  end
  tx.work = tx.work - 2
  local is_all, is_named = unpack(redis.call('HMGET', AGAIN.key(tx, run), '*', job))
  if not is_all and not is_named then
    return status
  end
  local user = status == 'Started' and run or SHARING.needs_result(tx, run, job, owner)
  if user then
    return nil, user
  end
  return 'Again'
end

-- The status that a job has had which counts as that.
function AGAIN.before(status)
  return status == 'Again' and 'Finished' or status
end

-- Give a record of a run that starts again the members it is to have, and, if `is_again`, no result.
function AGAIN.renew(tx, run, record, is_again)
  local key, members = tx.prefix .. record, {}
  for _, name in ipairs({'script', 'env_vars'}) do
    local value = redis.call('HGET', AGAIN.key(tx, run), record .. ' ' .. name)
    if value then
      members[#members + 1] = name
      members[#members + 1] = value
    end
  end
  if #members > 0 then
    redis.call('HSET', key, unpack(members))
  end
  if is_again then
    redis.call('HDEL', key, 'result')
  end
  if is_again or #members > 0 then
    BYTES.count(tx, record)
  end
end

-- The plan of a run of stored jobs. Returns it, or nil and what is wrong, 'missing', 'busy' or 'changed', with which
-- job, and the run in the way; or nil and nothing if the jobs name so much they wait for that this takes more than one
-- call. `bytes`: how much they may. `is_again`: some run again that are Finished.
local function read_plan(tx, run, jobs, bytes, is_again)
  local nodes = {}
  for i, job in ipairs(jobs) do
    local depends, prerequisites, status, type, owner =
      unpack(redis.call('HMGET', tx.prefix .. job, 'depends', 'prerequisites', 'status', 'script_type', 'x_run'))
    if not status then
      return nil, WORD.MISSING, job
    end
    depends, prerequisites = depends or '[]', prerequisites or '[]'
    if is_taken(tx, run, status, owner) then
      return nil, WORD.BUSY, job, owner
    end
    if is_again then
      local user
      status, user = AGAIN.status(tx, run, job, status, owner)
      if user then
        return nil, WORD.BUSY, job, user
      end
    end
    bytes = bytes - #depends - #prerequisites
    if bytes < 0 then
      return nil
    end
    nodes[i] = {
      job = job, depends = depends, prerequisites = prerequisites, status = status, type = type, owner = owner,
    }
  end
  local fault, job = link(nodes)
  if fault then
    return nil, fault, job
  end
  for _, node in ipairs(is_again and nodes or {}) do
    for _, child in ipairs(node.children) do
      if node.status == 'Again' and child.status == 'Finished' then
        return nil, WORD.CHANGED, child.job -- it has come to depend on that one since
      end
    end
  end
  return nodes
end

local function names_of(nodes, filter)
  local names = {}
  for _, node in ipairs(nodes) do
    if not filter or filter(node) then
      names[#names + 1] = node.job
    end
  end
  return table.concat(names, ' ')
end

local function is_startable(status)
  return status ~= 'Finished' and status ~= 'Started'
end

local function is_leaf(node)
  return #node.children == 0
end

local function put(fields, name, value)
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end

-- What a job of a run that starts to wait for `wait` others, and its prerequisites, is in: its status, and the name and
-- value of the field that says for how many others or since when it is queued. Adds it to `ready` if it waits for
-- nothing.
local function begin_job(tx, run, job, type, prerequisites, wait, ready)
  local may_start = prerequisites == '[]' or PREREQUISITES.let_start(tx, run, job, prerequisites, wait == 0)
  if not may_start or wait > 0 then
    return 'WaitingForPrerequisites', 'x_wait', in_digits(wait)
  end
  add(ready, type, job)
  return 'Dispatched', 'x_queued', tx.at
end

-- A run has started: its jobs that wait for nothing are queued.
local function begin_run(tx, run, ready, pending, leaves)
  tx.active[run] = IS.ACTIVE
  if string.sub(run, 1, 5) == 'flow:' then
    emit_flow(tx, run, 'Started')
  end
  enqueue(tx, ready)
  if pending == 0 then
    finish_run(tx, run, leaves)
  end
end

-- Start a run of stored jobs by its plan: those not Finished and not running get all their attempts.
local function launch(tx, run, nodes)
  local ready, pending = {}, 0
  for _, node in ipairs(nodes) do
    local key, fields = tx.prefix .. node.job, {}
    if is_startable(node.status) then
      if node.owner or node.status == 'Again' then
        forget_run(tx, node.job)
        if node.owner and node.owner ~= run then
          SHARING.look_again(tx, node.owner)
        end
      end
      local status, name, value = begin_job(tx, run, node.job, node.type, node.prerequisites, node.wait, ready)
      fields = {'updated_at', tx.seconds, 'x_run', run, 'status', status, name, value}
      node.begun = status
      if #node.parents > 0 then
        put(fields, 'x_parents', table.concat(node.parents, ' '))
      end
      if node.prerequisites ~= '[]' then
        put(fields, 'x_awaits', node.prerequisites)
      end
    end
    if node.status == 'Finished' then
      if node.owner ~= run then
        SHARING.count_as_done(tx, run, node.job)
      end
    else
      pending = pending + 1
      if #node.children > 0 or node.status == 'Started' then -- of one that is running, others may wait now
        put(fields, 'x_next', names_of(node.children))
      end
    end
    if #fields > 0 then
      redis.call('HSET', key, unpack(fields))
    end
    COUNT.job(tx, AGAIN.before(node.status), node.begun)
  end
  local leaves = names_of(nodes, is_leaf)
  local fields = {'updated_at', tx.seconds, 'x_active', '1', 'x_pending', pending, 'x_jobs', names_of(nodes),
    'x_leaves',
    leaves, 'x_started', tx.at, 'x_origin', tx.origin or ''}
  if string.sub(run, 1, 5) == 'flow:' then
    put(fields, 'status', 'Started')
    COUNT.flow(tx, redis.call('HGET', tx.prefix .. run, 'status'), 'Started')
  end
  redis.call('HSET', tx.prefix .. run, unpack(fields))
  begin_run(tx, run, ready, pending, leaves)
end

-- So many dependencies of a job are met, or prerequisites may be: queue it if it still waits, for `run`, and nothing is
-- unmet. Returns whether it waits on.
local function release(tx, run, job, count, ready)
  local key = tx.prefix .. job
  local status, owner, wait, type, awaits =
    unpack(redis.call('HMGET', key, 'status', 'x_run', 'x_wait', 'script_type', 'x_awaits'))
  if status ~= 'WaitingForPrerequisites' or owner ~= run then
    return false
  end
  wait = wait - count
  if wait > 0 or (awaits and not PREREQUISITES.let_go_on(tx, run, job, awaits)) then
    if count > 0 then
      redis.call('HSET', key, 'x_wait', wait)
    end
    return true
  end
  if awaits then
    PREREQUISITES.stop_awaiting(tx, run, job, awaits)
  end
  redis.call('HSET', key, 'x_wait', '0', 'status', 'Dispatched', 'x_queued', tx.at, 'updated_at', tx.seconds)
  COUNT.move(tx, 'WaitingForPrerequisites>Dispatched')
  emit_job(tx, run, job, 'Dispatched')
  add(ready, type, job)
  return false
end

-- A job of a run has finished, and these waited for it (a last one '+JOB': so did those in the list next:JOB); nil: it
-- is not known yet which. What comes of that is for `flush_finished`, so that many jobs of one run that finish at once
-- are counted off at once.
local function note_finished(tx, run, waiting)
  local notes, noted = tx.notes, tx.noted
  notes[noted + 1], notes[noted + 2], notes[noted + 3], tx.noted = run, waiting or false, tx.place, noted + 3
end

-- The jobs noted as finished, for each `run`: their `count`, how many of them are `unlinked`, and what waited for the
-- others, for several mostly the same: `texts`, each once, and for how many of them, `times`.
local function sort_noted(tx)
  local runs, of_run, notes, last, it = {}, {}, tx.notes, nil, nil
  for note = 1, tx.noted, 3 do
    local run, waiting = notes[note], notes[note + 1]
    if run ~= last then
      last, it = run, of_run[run]
      if not it then
        it = {run = run, count = 0, unlinked = 0, texts = {}, times = {}}
        of_run[run], runs[#runs + 1] = it, it
      end
    end
    it.count = it.count + 1
    if not waiting then
      it.unlinked = it.unlinked + 1
    elseif waiting ~= '' then
      local times = it.times[waiting]
      if not times then
        it.texts[#it.texts + 1] = waiting
      end
      it.times[waiting] = (times or 0) + 1
    end
  end
  return runs
end

-- The jobs that waited for those noted for a run, each once, and for how many of them each has.
local function waited_for(it)
  local freed, met = {}, {}
  for _, waiting in ipairs(it.texts) do
    local times = it.times[waiting]
    for job in string.gmatch(waiting, '%S+') do
      if not met[job] then
        freed[#freed + 1] = job
      end
      met[job] = (met[job] or 0) + times
    end
  end
  return freed, met
end

-- The places in the call of those that have noted something for a run; if `job` is given, that it has waited for that.
local function places_of(tx, run, job)
  local places, notes = {}, tx.notes
  for note = 1, tx.noted, 3 do
    local waiting = notes[note + 1] or ''
    if notes[note] == run and (not job or string.find(' ' .. waiting .. ' ', ' ' .. job .. ' ', 1, true)) then
      places[#places + 1] = notes[note + 2]
    end
  end
  return places
end

-- A job could not be released for all that have finished at once: release it for one after the other, to learn which of
-- them that concerns.
local function release_singly(tx, run, job, ready, fault)
  local is_blamed, places = false, places_of(tx, run, job)
  for _, place in ipairs(places) do
    local went_well, its_fault = pcall(release, tx, run, job, 1, ready)
    if not went_well then
      note_fault(tx, its_fault, place)
      is_blamed = true
    end
  end
  if not is_blamed then
    note_fault(tx, fault, places[#places])
  end
end

-- Count jobs of a run off.
local function count_off(tx, it, ready)
  local run = it.run
  local key = tx.prefix .. run
  local active, pending, leaves = unpack(redis.call('HMGET', key, 'x_active', 'x_pending', 'x_leaves'))
  local count = it.count
  tx.active[run] = active
  if active == IS.STARTING then
    count = 0 -- how many are not finished is looked at later
  elseif active == IS.SETTLING then
    count = count - it.unlinked -- those that were not looked at yet
  end
  if count == 0 then
    return
  end
  pending = pending - count
  if SHARING.is_open(active) or active == IS.SETTLING then
    local later, freed, met = {}, waited_for(it)
    for _, job in ipairs(freed) do
      if tx.work > 0 and string.byte(job) ~= 43 then -- '+'
        local went_well, fault = pcall(release, tx, run, job, met[job], ready)
        if not went_well then
          release_singly(tx, run, job, ready, fault)
        end
        tx.work = tx.work - 2
      else
        later[#later + 1] = string.byte(job) == 43 and job or met[job] .. ' ' .. job
      end
    end
    if #later > 0 then
      call_each('RPUSH', tx.prefix .. 'free:' .. run, later)
      arm(tx, 'free:' .. run, tx.now)
    end
  end
  -- Of a run that has failed at least the job that did is never counted off.
  if pending == 0 and SHARING.is_open(active) then
    local went_well, fault = pcall(finish_run, tx, run, leaves)
    if not went_well then
      local places = places_of(tx, run)
      note_fault(tx, fault, places[#places])
      tx.active = {}
      redis.call('HSET', key, 'x_pending', '0')
    end
  else
    redis.call('HSET', key, 'x_pending', in_digits(pending))
  end
end

local NO_PLACES = {}

-- Queue the jobs that waited for those counted off, and end the runs of which those were the last. What a fault does
-- not concern goes on.
local function flush_finished(tx)
  if tx.noted == 0 then
    return
  end
  local ready, runs = {}, sort_noted(tx)
  for _, it in ipairs(runs) do
    local went_well, fault = pcall(count_off, tx, it, ready)
    for _, place in ipairs(went_well and NO_PLACES or places_of(tx, it.run)) do
      note_fault(tx, fault, place)
    end
  end
  for type, jobs in pairs(ready) do
    local went_well, fault = pcall(enqueue, tx, {[type] = jobs})
    if not went_well then
      for _, job in ipairs(jobs) do
        for _, it in ipairs(runs) do
          local places = places_of(tx, it.run, job)
          if #places > 0 then
            note_fault(tx, fault, places[#places]) -- those before it have not released it
          end
        end
      end
    end
  end
  tx.noted = 0
end

-- Wake those who follow the flows that have new events, or the whole context.
local function announce_events(tx)
  local marks, feed = {}, tx.prefix .. 'feed'
  for flow in pairs(tx.events) do
    marks[#marks + 1] = tx.prefix .. 'followed:' .. string.sub(flow, 6)
  end
  if #tx.feed > 0 then
    marks[#marks + 1] = feed
  end
  if exists_any(marks) then
    for _, mark in ipairs(marks) do
      local is_there = redis.call('EXISTS', mark) == 1
      if is_there and mark == feed then
        FEED.write(tx, feed)
        announce(tx, EFFECT.FEED)
      elseif is_there then
        announce(tx, EFFECT.EVENTS .. job_id(mark))
      end
    end
  end
end

local TRANSITIONS = {}
local REPEATABLE = {} -- those that may be applied again and again, so that nobody keeps what they returned

-- What is left to do at the end of a call, and its reply. `keep`: how that is kept, if it has to be; see once.lua.
local function close(tx, result, keep, redo)
  EVENTS.write_all(tx)
  INDEX.flush(tx)
  COUNT.flush(tx)
  set_timers(tx)
  announce_events(tx)
  if #tx.news > 0 then
    redis.call('PUBLISH', tx.channel, tx.coordinator .. '\n' .. table.concat(tx.news, '\n'))
  end
  if tx.due then
    tx.effects[#tx.effects + 1] = EFFECT.DUE .. math.max(tx.due - tx.now, 0)
  end
  local reply = {result, tx.effects}
  if keep and tx.writer then
    keep(tx, reply, redo)
  end
  return reply
end

-- What a transition does to the store. One that grows it is refused while it is out of memory, so that the others can
-- empty it (storage/functions lists the same); one that only reads is carried out even while no write is.
local GROWS, ENDS, READS = {}, {'allow-oom'}, {'no-writes'}

local function collect(act, ...)
  return {act(...)}
end

-- Register a transition; it ends or moves what is stored unless `flags` say otherwise. `is_repeatable`: doing it again
-- does no harm, and tells the same.
local function register(name, transition, flags, is_repeatable)
  TRANSITIONS[name] = transition
  REPEATABLE[name] = is_repeatable
  local function callback(keys, args)
    local tx = begin(keys, args, flags == READS)
    local went_well, result = pcall(collect, transition, tx, args, 2, #args)
    if not went_well then -- what it has written stays
      EVENTS.write_all(tx)
      INDEX.flush(tx)
      COUNT.flush(tx)
      error(result, 0)
    end
    flush_finished(tx)
    local fault = tx.faults and tx.faults[1]
    local reply = close(tx, result, not is_repeatable and not fault and keep_one)
    if fault then
      error({err = fault.text})
    end
    return reply
  end
  redis.register_function{function_name = name, callback = callback, flags = flags or ENDS}
end

-- What a transition is answered with: one text is that text, for every table costs the server much.
local function as_told(first, ...)
  local second = ...
  if second == nil and type(first) == 'string' then
    return first
  end
  return {first, ...}
end

-- Do one of several transitions. `it`: the `transition`, of which there are some, the places in the call and among the
-- `args` in front of the first of them, how many arguments each has, `size`, and all `results`.
local function do_one(tx, it, at)
  local place, o = it.place + at, it.o + (at - 1) * it.size
  tx.place = place
  it.results[place] = as_told(it.transition(tx, it.args, o, o + it.size))
end

local function note_failed(_, it, at, fault)
  it.results[it.place + at] = {WORD.FAULT, fault}
end

-- Several transitions, each as if it was called by itself; a fault of one is its result and concerns no other.
-- KEYS: 1 the engine. ARGV: 1 channel, 2 coordinator, then for those of a function that follow each other and have as
-- many arguments of their own: the function, how many arguments and how many calls, with a space between, and of each
-- call the arguments.
-- Returns: {their results, the effects of all}. A result of one text is that text. One may be 'fault', what the server
-- said.
local function many(keys, args)
  local tx = begin(keys, args)
  local results, place, at, before = {}, 0, 3, nil
  local redo, is_kept = nil, false
  local function flush()
    flush_finished(tx)
    local faults = faults_of(tx)
    for at = #faults, 1, -1 do -- of several the first one counts
      results[faults[at].number] = {WORD.FAULT, faults[at].text}
    end
  end
  while at <= #args do
    local name, o = args[at], at + 1
    local size, times = string.match(args[o], '^(%d+) (%d+)$')
    if before ~= name then
      flush()
      if name ~= 'hc_take' then -- which may hand out what waited for those that have just finished
        tx.result_of = {}
      end
    end
    local is_repeatable = REPEATABLE[name]
    is_kept = is_kept or not is_repeatable
    redo = redo or is_repeatable and {}
    size, times = tonumber(size), tonumber(times)
    attempt_each(tx, do_one, {
      transition = TRANSITIONS[name], place = place, args = args, o = o, size = size, results = results,
    }, times, note_failed)
    if is_repeatable then
      for repeatable = place + 1, place + times do
        redo[repeatable] = true
      end
    end
    place, o = place + times, o + size * times
    before, at = name, o + 1
  end
  flush()
  return close(tx, results, is_kept and keep_many, redo)
end

-- The first for transitions of which one grows what is stored, the second for the others.
redis.register_function('hc_many', many)
redis.register_function{function_name = 'hc_many_ending', callback = many, flags = ENDS}
register('hc_record_upsert', record_upsert, GROWS)
register('hc_job_upsert', job_upsert, GROWS)
register('hc_message_upsert', message_upsert, GROWS)
