/**
 * Marks facts of claimed tasks as reported, and gives up the leases.
 *
 *   KEYS  the count of open tasks (see `open-tasks.ts`); the tasks
 *   ARGV  the job's id; the tombstone's expiry in seconds; the number of fields from which an entry is long; as JSON, the changes of all
 *         tasks: for each the number of its facts to mark, what else is to be done, and the facts
 *
 * What else is to be done: {removed: fields to remove, till: alternating hostnames and the instants up to which their facts are removed}; or
 * {retries: true}, if only the task's retries were looked at; or the number of the entry's fields, if the facts are all that it has. Then
 * they are not listed: the job has read the entry, and the script only makes sure that it still has no others.
 *
 * Replies with the indices (from 1) of the tasks for which it has. They are left as they are, and their facts have to be listed.
 *
 * Facts are marked by name, so a fact that arrived after the claim stays unreported. Once every final is reported and no run has started
 * after the last one, the task becomes a tombstone: the same hash, with a short expiry. Late and repeated events then find that their facts
 * are reported, and change nothing.
 *
 * Names and queues that no fact refers to any more are removed with the facts. The script decides that and not the job, because a fact that
 * refers to them may have arrived after the claim.
 */
import { IN_PARTS } from "./in-parts.ts";
import { COUNT_OPEN_TASKS } from "./open-tasks.ts";

export const SETTLE_SCRIPT = `
${COUNT_OPEN_TASKS}
${IN_PARTS}
local byte, call = string.byte, redis.call
local job, ttl, long = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = call('TIME')
local expiresAt = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ttl * 1000)

-- Whether an unreported start is later than all finals.
local function hasStartedAgain(starts, hash)
  local latest = -1
  for _, start in ipairs(starts) do latest = math.max(latest, tonumber(start:match('^b([^.]*)'), 36)) end
  for i = 1, #hash, 2 do
    local at = hash[i]:match('^f([^.]*)')
    if at and tonumber(at, 36) >= latest then return false end
  end
  return true
end

-- The texts to which only removed facts refer.
local function unusedTexts(hash, isRemoved)
  local used, unused = {}, {}
  for i = 1, #hash, 2 do
    local field = hash[i]
    if not isRemoved[field] then
      local name, queue = field:match('^s[^.]*%.([^.!]*)!?%.?([^.]*)')
      if not name then name = field:match('^r[^.]*%.[^.]*%.([^.!]*)') end
      if name then used[name] = true end
      if queue then used[queue] = true end
    end
  end
  for i = 1, #hash, 2 do
    local field = hash[i]
    if byte(field) == 110 and not used[field:sub(2, 5)] then unused[#unused + 1] = field end
  end
  return unused
end

local changes = cjson.decode(ARGV[4])

-- The facts to mark are those from one index of \`changes\` to another.
local function settle(key, from, to, also)
  local hash = call('HGETALL', key)
  if #hash == 0 then return end
  local removed, till = also.removed or {}, also.till or {}
  local sent = {}
  for i = from, to do sent[changes[i]] = true end
  local due, kindOfState, lease = '', '', ''
  for i = 1, #hash, 2 do
    if hash[i] == 'o' then due, kindOfState, lease = hash[i + 1]:match('^(%d*)(%a?)(.*)$') end
  end
  local isMarked = kindOfState ~= ''
  local set, starts, finals, pending, limit = {}, {}, 0, 0, nil
  for i = 1, #hash, 2 do
    local field, value = hash[i], hash[i + 1]
    local kind = byte(field)
    if kind == 102 or kind == 98 or kind == 121 then
      local isSent = isMarked and byte(value) ~= 48
      local isNowSent = not isSent and sent[field]
      if isNowSent and isMarked then
        set[#set + 1] = field
        set[#set + 1] = value:sub(2)
      elseif not (isNowSent or isSent or isMarked) then
        set[#set + 1] = field
        set[#set + 1] = '0' .. value
      end
      local isLeft = not (isSent or isNowSent)
      if kind == 98 then
        if isLeft then starts[#starts + 1] = field end
      elseif kind == 102 then
        finals = finals + 1
        if isLeft then pending = pending + 1 end
      end
    elseif field == 'l' then
      limit = value
    end
  end
  local gone = {}
  if #removed > 0 then
    local isRemoved = {}
    for _, field in ipairs(removed) do
      isRemoved[field] = true
      gone[#gone + 1] = field
    end
    for _, field in ipairs(unusedTexts(hash, isRemoved)) do gone[#gone + 1] = field end
    for i = 1, #till, 2 do
      local field = 'w' .. till[i]
      local old = call('HGET', key, field)
      if not old or tonumber(old, 36) < tonumber(till[i + 1], 36) then
        set[#set + 1] = field
        set[#set + 1] = till[i + 1]
      end
    end
  end
  if (limit and not also.retries) or #removed > 0 then
    set[#set + 1] = 'l'
    set[#set + 1] = #hash / 2 - #gone + long
  end
  if finals > 0 and pending == 0 and (#starts == 0 or not hasStartedAgain(starts, hash)) then
    call('PEXPIREAT', key, expiresAt)
    if due ~= '' then count(due, -1) end
    due, kindOfState = '', 't'
  elseif not isMarked then
    kindOfState = 's'
  end
  if lease:match('^:%d+:%d+:(.*)$') == job then lease = '' end
  set[#set + 1] = 'o'
  set[#set + 1] = due .. kindOfState .. lease
  inParts('HSET', key, set)
  inParts('HDEL', key, gone)
end

-- The state of the task before, and its \`due\` if the job has the lease: tasks that were claimed together mostly have the same state.
local lastState, lastDue

-- Makes a tombstone of an entry that still has so many fields, if the job has the lease. Returns whether it did.
--
-- Since the job has the lease, only \`apply\` has added fields to the entry, and no script removes facts from one of so few fields: so with
-- as many fields it has the same facts. A job whose lease was lost may have settled the task meanwhile, but that shows in the state. An
-- entry that expired or was forgotten, and has begun anew, has no lease.
local function endIfUnchanged(key, fields)
  local state = call('HGET', key, 'o')
  if state ~= lastState then
    local holder
    lastState, lastDue, holder = state, (state or ''):match('^(%d+):%d+:%d+:(.*)$')
    if holder ~= job then lastDue = nil end
  end
  if not lastDue or call('HLEN', key) ~= fields then return false end
  call('HSET', key, 'o', 't')
  call('PEXPIREAT', key, expiresAt)
  count(lastDue, -1)
  return true
end

local others = {}
local last = 0
for index = 2, #KEYS do
  local from, also = last + 3, changes[last + 2]
  last = last + 2 + changes[last + 1]
  if type(also) == 'table' then
    settle(KEYS[index], from, last, also)
  elseif not endIfUnchanged(KEYS[index], also) then
    others[#others + 1] = index - 1
  end
end
storeCounts(KEYS[1])
return others
`;
