-- What people decide about what runs: a job is cancelled; a context, a script type of it or a flow is paused and
-- resumed; a runner is drained; a flow is run again; a context is deleted. What is paused and who is drained the hash
-- `paused` says (see is_held), and, for those who load them, the records; of a flow its x_active does.

-- End a job that waits or runs in Error, and its run with it, as if it was out of attempts. One that is in Error stays
-- as it is.
-- Arguments: 1 the job, 2 the reason.
-- Result: 'ok', the record | 'more': something is under way with its run, to be called again | 'none' | 'state', its
-- status, and its run if that has ended, or ''.
local function job_cancel(tx, args, o)
  local job, reason = args[o + 1], args[o + 2]
  local key = tx.prefix .. job
  local status, run, awaits = unpack(redis.call('HMGET', key, 'status', 'x_run', 'x_awaits'))
  if not status then
    return WORD.NONE
  end
  if status == 'Error' then
    return WORD.OK, redis.call('HGETALL', key)
  end
  if status == 'Finished' or not run then
    return WORD.STATE, status, ''
  end
  local step = redis.call('HGET', tx.prefix .. run, 'x_step')
  if step then
    local word, detail = wait_for_step(tx, run, step)
    return word, detail, run
  end
  if status == 'Started' then
    stop(tx, run, job, reason)
  elseif not is_active(tx, run) then
    return WORD.STATE, status, run
  else
    if status == 'WaitingForPrerequisites' then
      PREREQUISITES.stop_awaiting(tx, run, job, awaits)
    end
    if redis.call('HDEL', key, 'x_queued') == 1 then
      leave_queue(tx)
    end
    redis.call('HDEL', key, 'x_retry')
    disarm(tx, 'retry:' .. job)
    redis.call('HSET', key, 'status', 'Error', 'x_failure', reason, 'x_ended', tx.at, 'updated_at', tx.seconds)
    COUNT.job(tx, status, 'Error')
    emit_job(tx, run, job, 'Error', nil, because(reason))
  end
  if is_active(tx, run) then
    fail_run(tx, run, 'job ' .. job_id(job) .. ': ' .. reason, job)
  end
  return WORD.OK, redis.call('HGETALL', key)
end

local SCRIPT_TYPES = {'Osis', 'Sal', 'V', 'Python'}

-- Something is given to runners again: wake one for each queue that has jobs.
local function wake_runners(tx)
  for _, type in ipairs(SCRIPT_TYPES) do
    if redis.call('EXISTS', tx.prefix .. 'queue:' .. string.lower(type)) == 1 then
      announce(tx, EFFECT.READY .. type)
    end
  end
end

-- What of a context is paused: '1' if all of it is or '0', and a list of script types.
local function paused_of(tx)
  local types = {}
  for _, type in ipairs(SCRIPT_TYPES) do
    if redis.call('HEXISTS', tx.prefix .. 'paused', 'type:' .. type) == 1 then
      types[#types + 1] = type
    end
  end
  return redis.call('HEXISTS', tx.prefix .. 'paused', 'context'), types
end

-- Have the record of a context, if there is one, say what of it is paused.
local function show_paused(tx, record)
  local key = tx.prefix .. record
  if redis.call('EXISTS', key) == 0 then
    return
  end
  local is_paused, types = paused_of(tx)
  if is_paused == 1 then
    redis.call('HSET', key, 'paused', 'true')
  else
    redis.call('HDEL', key, 'paused')
  end
  if #types > 0 then
    redis.call('HSET', key, 'paused_script_types', cjson.encode(types))
  else
    redis.call('HDEL', key, 'paused_script_types')
  end
end

-- Pause a context, or the jobs of one script type of it, or resume that. Each is paused by itself.
-- Arguments: 1 the context's record, 2 'pause' | 'resume', 3 the script type, or '' for the whole context.
-- Result: 'ok', 1 if the whole context is paused or 0, then the script types that are | 'none': there is no such
-- context.
local function context_pause(tx, args, o)
  local record, is_paused, type = args[o + 1], args[o + 2] == 'pause', args[o + 3]
  INDEX.flush(tx)
  if not exists_any({tx.prefix .. record, tx.prefix .. 'index:flow', tx.prefix .. 'index:job',
    tx.prefix .. 'index:message', tx.prefix .. 'index:runner'}) then
    return WORD.NONE
  end
  local name = type == '' and 'context' or 'type:' .. type
  tx.is_held = nil -- others in this call are to look again
  if is_paused then
    redis.call('HSETNX', tx.prefix .. 'paused', name, tx.at)
  elseif redis.call('HDEL', tx.prefix .. 'paused', name) == 1 then
    wake_runners(tx)
  end
  show_paused(tx, record)
  local is_whole, types = paused_of(tx)
  return WORD.OK, is_whole, types
end

-- Create or update a context.
-- Arguments, Result: as record_upsert.
local function context_upsert(tx, args, o)
  local reply = upsert(tx, args, o)
  if redis.call('EXISTS', tx.prefix .. 'paused') == 1 then
    show_paused(tx, args[o + 1])
  end
  return reply
end

-- Pause a flow that is started, or resume it. What is not paused is resumed already.
-- Arguments: 1 the flow, 2 'pause' | 'resume'.
-- Result: 'ok', the record | 'more': something is under way with it, to be called again | 'none' | 'state', its status.
local function flow_pause(tx, args, o)
  local flow, is_paused = args[o + 1], args[o + 2] == 'pause'
  local key = tx.prefix .. flow
  local status, step, active = unpack(redis.call('HMGET', key, 'status', 'x_step', 'x_active'))
  if not status then
    return WORD.NONE
  end
  if step then
    return wait_for_step(tx, flow, step)
  end
  if not SHARING.is_open(active) then
    return WORD.STATE, status
  end
  if is_paused and active == IS.ACTIVE then
    redis.call('HSET', key, 'x_active', IS.PAUSED, 'paused', 'true', 'updated_at', tx.seconds)
    tx.active[flow] = IS.PAUSED
    emit_flow(tx, flow, status, ',"paused":true')
  elseif not is_paused and active == IS.PAUSED then
    redis.call('HDEL', key, 'paused')
    redis.call('HSET', key, 'x_active', IS.ACTIVE, 'updated_at', tx.seconds)
    tx.active[flow] = IS.ACTIVE
    emit_flow(tx, flow, status, ',"paused":false')
    queue_ready(tx, flow)
  end
  return WORD.OK, redis.call('HGETALL', key)
end

-- Give a runner nothing new from now on, or jobs again.
-- Arguments: 1 the runner, 2 'drain' | 'undrain'.
-- Result: 'ok', the record | 'none'.
local function runner_drain(tx, args, o)
  local runner, is_drained = args[o + 1], args[o + 2] == 'drain'
  local key = tx.prefix .. runner
  if redis.call('EXISTS', key) == 0 then
    return WORD.NONE
  end
  tx.is_held = nil -- others in this call are to look again
  if is_drained then
    if redis.call('HSETNX', tx.prefix .. 'paused', runner, tx.at) == 1 then
      redis.call('HSET', key, 'draining', 'true', 'updated_at', tx.seconds)
    end
  elseif redis.call('HDEL', tx.prefix .. 'paused', runner) == 1 then
    redis.call('HDEL', key, 'draining')
    redis.call('HSET', key, 'updated_at', tx.seconds)
    wake_runners(tx)
  end
  return WORD.OK, redis.call('HGETALL', key)
end

-- A context is deleted in slices. From the first on the engine's field `skew` says so, and every transition is
-- refused; its field `deleting` has, with spaces between, a number that names this deletion, the pass, where that is (a
-- cursor of SCAN, or 'end'), and how many records are gone. The first pass deletes all but what the second does:
-- SPARED, and who writes here, so that each connection that has made the context known does so again. Between them the
-- coordinator deletes what GLOBAL has of the context. The second ends with the engine itself.
local REMOVAL = {
  SCANNED = 100, -- keys looked at by one command, about
  AT_ONCE = 100, -- keys deleted in one call, about
  SCANS = 4, -- commands of one call
  RECORDS = {flow = true, job = true, message = true, runner = true, context = true},
  SPARED = {engine = true, ['index:runner'] = true, sizes = true},
}

-- Whether a key is spared in the first pass.
function REMOVAL.is_spared(name)
  return REMOVAL.SPARED[name] or string.sub(name, 1, 7) == 'writer:'
end

-- One slice of a pass, from that cursor on. Returns the next one, or 'end'; and how many records it has deleted.
function REMOVAL.sweep(tx, pass, cursor)
  local keys, records = 0, 0
  for _ = 1, REMOVAL.SCANS do
    local after, found =
      unpack(redis.call('SCAN', cursor, 'MATCH', tx.prefix .. '*', 'COUNT', string.format('%d', REMOVAL.SCANNED)))
    for _, key in ipairs(found) do
      local name = string.sub(key, #tx.prefix + 1)
      if name ~= 'engine' and (pass == '2' or not REMOVAL.is_spared(name)) then
        redis.call('UNLINK', key)
        keys = keys + 1
        if REMOVAL.RECORDS[string.match(name, '^(%l+):[%d:]+$')] then
          records = records + 1
        end
      end
    end
    cursor = after
    if cursor == '0' then
      return 'end', records
    end
    if keys >= REMOVAL.AT_ONCE then
      break
    end
  end
  return cursor, records
end

-- Delete a part of the context.
-- KEYS: 1 the engine. ARGV: 1 channel, 2 coordinator, 3 the number of the deletion, '' to go on with one or begin it,
-- '-' to go on with one if it was begun, 4 the pass, 5 the context's record.
-- Returns: {result, effects}; result: 'more', its number, how many records are gone: to be called again | 'ok', the
-- same: that pass has ended, or the whole deletion has | 'none': there is nothing to be deleted.
local function context_delete(keys, args)
  local tx = begin(keys, args, false, true)
  local state = redis.call('HGET', tx.engine, 'deleting')
  local number, pass, cursor, count = string.match(state or '', '^(%S+) (%d) (%S+) (%d+)$')
  if not state and args[3] == '-' then
    return {{WORD.NONE}, {}}
  end
  if not state and args[3] ~= '' then
    return {{WORD.OK, args[3], 0}, {}} -- somebody else has come to its end
  end
  if not state then
    if not exists_any({tx.engine, tx.prefix .. args[5], tx.prefix .. 'index:flow', tx.prefix .. 'index:job',
      tx.prefix .. 'index:message', tx.prefix .. 'index:runner', tx.prefix .. 'prerequisites'}) then
      return {{WORD.NONE}, {}}
    end
    number, pass, cursor, count = tx.at, '1', '0', '0'
    redis.call('HSET', tx.engine, 'skew', 'deleting')
    announce(tx, EFFECT.DELETED)
  end
  if args[3] ~= '' and args[3] ~= '-' and args[3] ~= number then
    return {{WORD.OK, args[3], 0}, {}} -- that one has ended, and this is another context's
  end
  if pass == '1' and cursor == 'end' and args[4] == '2' then
    pass, cursor = '2', '0'
  end
  local is_over = pass > args[4] or cursor == 'end'
  if not is_over then
    local records
    cursor, records = REMOVAL.sweep(tx, pass, cursor)
    count = count + records
    is_over = cursor == 'end'
  end
  if is_over and pass == '2' and cursor == 'end' then
    redis.call('UNLINK', tx.engine)
  else
    redis.call('HSET', tx.engine, 'deleting', table.concat({number, pass, cursor, count}, ' '))
  end
  return close(tx, {is_over and WORD.OK or WORD.MORE, number, tonumber(count)})
end

redis.register_function{function_name = 'hc_context_delete', callback = context_delete, flags = {'allow-oom'}}
register('hc_job_cancel', job_cancel)
register('hc_context_upsert', context_upsert, GROWS)
register('hc_context_pause', context_pause)
register('hc_flow_pause', flow_pause)
register('hc_runner_drain', runner_drain)
