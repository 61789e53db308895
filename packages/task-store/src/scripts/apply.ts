/**
 * Applies changes to tasks: adds facts and texts to their sets, and never shortens an expiry.
 *
 *   KEYS  the count of open tasks (see `open-tasks.ts`); the tasks
 *   ARGV  expiry in seconds; the number of fields from which an entry is long; the number from which it is full; as JSON, the changes of all
 *         tasks: for each the number of texts that follow, which are alternating fields and values; as JSON, the latest ETAs: alternating
 *         indices of tasks and seconds
 *
 * A task's index is its place among the tasks, from 1. What the field `o` of an entry holds is said in `state.ts`.
 *
 * The changes are JSON because a client that writes each part as its own argument spends more time on that than on everything else. They
 * are one list because a list for each task takes Redis longer than what is in it. An entry of which nothing was reported yet has no marks
 * that could be lost, so all fields are written at once, and a field that is there already is the same. In the others each is added by
 * itself (`HSETNX`). No command depends on the number of fields of the entry, with one exception: if a start arrives after its task was
 * reported, the finals are read, once per task and call.
 *
 * Replies with the number of events dropped because the entry was full, the number dropped because the entry had forgotten everything up to
 * their time, and the indices of the tasks to claim: those for which one of these facts is an unreported final, and those that have become
 * long (see `forget.ts`). If one of these facts is an unreported retry, and there is no other reason, the index is negative. `l` holds the
 * size at which a task becomes long next. It doubles each time, so that tasks which cannot be reported now are not returned over and over.
 * An entry of few fields has never been long (see `FEW_FIELDS`), so it is not asked for `l`.
 *
 * A new retry of a task with more than 64 fields (16 attempts) makes the script return the task only at random, the more seldom the larger
 * it is, because its whole entry is read then. Its other retries are reported together with that one, or with its end.
 *
 * Expiries are rounded up to a 64th of the expiry time (two and a half hours of a week). So there are few distinct instants: most changes
 * of a task find its expiry renewed already, and the count of open tasks by expiry is short.
 *
 * A tombstone keeps its short expiry, unless a new final, or a new start of an unreported run, shows that the task goes on.
 */
import { FEW_FIELDS } from "../completions/forget.ts";
import { MOST_ARGUMENTS } from "./in-parts.ts";
import { COUNT_OPEN_TASKS } from "./open-tasks.ts";

export const APPLY_SCRIPT = `
${COUNT_OPEN_TASKS}
local byte, call, unpack = string.byte, redis.call, unpack
local time = call('TIME')
local now = tonumber(time[1])
local ttl, long, full = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local step = math.max(1, math.floor(ttl / 64))
local function dueAfter(instant) return string.format('%.0f', math.ceil((instant + ttl) / step) * step) end

-- For each worker, the time of the latest reported final.
local function sentEnds(key)
  local ends, hash = {}, call('HGETALL', key)
  for i = 1, #hash, 2 do
    if byte(hash[i]) == 102 and byte(hash[i + 1]) ~= 48 then
      local at, hostname = hash[i]:match('^f([^.]*)%.([^.]*)')
      at = tonumber(at, 36)
      if at > (ends[hostname] or 0) then ends[hostname] = at end
    end
  end
  return ends
end

-- Whether the entry has forgotten events of this fact's hostname, or of all clients, up to the fact's time.
local function isForgotten(key, fact, kind)
  local at, hostname = fact:match('^.([^.]*)%.?([^.]*)')
  local till = call('HGET', key, 'w' .. (kind == 115 and '' or hostname))
  return till and tonumber(at, 36) <= tonumber(till, 36)
end

local reported = {0, 0}

-- Whether a new field of an entry that is or was large is left out.
local function isDropped(key, field, kind, size, limit)
  local isRoomy = kind == 102 or kind == 110
  if size >= (isRoomy and full * 1.25 or full) then
    if kind ~= 110 then reported[1] = reported[1] + 1 end
    return true
  end
  if not limit or kind == 110 or not isForgotten(key, field, kind) then return false end
  reported[2] = reported[2] + 1
  return true
end

local function expire(key, due, before)
  call('PEXPIREAT', key, due .. '000')
  count(due, 1)
  if before then count(before, -1) end
end

local changes = cjson.decode(ARGV[4])

-- Adds the fields from one index of \`changes\` to another, to an entry with few fields of which nothing was reported, or to a new one.
-- Returns whether the task is to be claimed, and whether its retries are.
local function add(key, from, to, due, state)
  if state and (state == due or tonumber(state) > tonumber(due)) then
    call('HSET', key, unpack(changes, from, to))
  else
    call('HSET', key, 'o', due, unpack(changes, from, to))
    expire(key, due, state)
  end
  local pending, retried = false, false
  for i = from, to, 2 do
    local kind = byte(changes[i])
    if kind == 102 then pending = true elseif kind == 121 then retried = true end
  end
  return pending, retried
end

-- The same for any entry.
local function extend(key, from, to, due, state)
  local before = call('HLEN', key)
  local size = before
  local isLarge = size + (to - from + 1) / 2 >= ${FEW_FIELDS}
  local limit = isLarge and call('HGET', key, 'l')
  local counted, kindOfState, lease = state:match('^(%d*)(%a?)(.*)$')
  local tombstone, isMarked = kindOfState == 't', kindOfState ~= ''
  local goesOn, pending, retried = false, false, false
  local ends
  for i = from, to, 2 do
    local field, value = changes[i], changes[i + 1]
    local kind = byte(field)
    local hasMark = kind == 98 or kind == 102 or kind == 121
    if isMarked and hasMark then value = '0' .. value end
    if isLarge and call('HEXISTS', key, field) == 0 and isDropped(key, field, kind, size, limit) then
      -- Not added.
    elseif call('HSETNX', key, field, value) == 1 then
      size = size + 1
      if kind == 102 then
        goesOn, pending = true, true
      elseif kind == 121 then
        retried = retried or before <= ${FEW_FIELDS} or time[2] % math.ceil(before / ${FEW_FIELDS}) == 0
      elseif kind == 98 and tombstone and not goesOn then
        ends = ends or sentEnds(key)
        local at, hostname = field:match('^b([^.]*)%.([^.]*)')
        goesOn = tonumber(at, 36) > (ends[hostname] or -1)
      end
    elseif (kind == 102 or kind == 121) and (not isMarked or byte(call('HGET', key, field)) == 48) then
      if kind == 102 then pending = true else retried = true end
    end
  end

  if tombstone and goesOn then tombstone, kindOfState = false, 's' end
  if not tombstone and (counted == '' or tonumber(due) > tonumber(counted)) then
    expire(key, due, counted ~= '' and counted)
    call('HSET', key, 'o', due .. kindOfState .. lease)
  end
  if isLarge and not pending and size >= (limit and tonumber(limit) or long) then
    call('HSET', key, 'l', size * 2)
    pending = true
  end
  return pending, retried
end

local dues, usualDue = {}, dueAfter(now + 1)
local etas = cjson.decode(ARGV[5])
for i = 1, #etas, 2 do dues[etas[i]] = dueAfter(math.max(now + 1, etas[i + 1])) end
local last = 0
for index = 1, #KEYS - 1 do
  local key, due = KEYS[index + 1], dues[index] or usualDue
  local from = last + 2
  last = last + 1 + changes[last + 1]
  local state = call('HGET', key, 'o')
  local fields = last - from + 1
  local pending, retried
  if not state and fields < ${MOST_ARGUMENTS} or state and tonumber(state) and call('HLEN', key) + fields / 2 < ${FEW_FIELDS} then
    pending, retried = add(key, from, last, due, state)
  else
    pending, retried = extend(key, from, last, due, state or '')
  end
  if pending or retried then reported[#reported + 1] = pending and index or -index end
end
storeCounts(KEYS[1])
return reported
`;
