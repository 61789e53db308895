/**
 * Marks facts of claimed tasks of one shard as reported, and gives up the leases.
 *
 *   KEYS  the shard's count of open tasks (see `open-tasks.ts`); the tasks
 *   ARGV  the job's id; the tombstone's expiry in seconds; the number of fields from which an entry is long; the change of each task as
 *         JSON: a list of facts to mark, or {marks, removed: fields to remove, till: alternating hostnames and the instants up to which their
 *         facts are removed}, or {retries: facts to mark}, if nothing else of the task was looked at
 *
 * Facts are marked by name, so a fact that arrived after the claim stays unreported. Once every final is reported and no run has started
 * after the last one, the task becomes a tombstone: the same hash, with `t` and a short expiry. Late and repeated events then find their
 * facts marked and change nothing.
 *
 * Names and queues that no fact refers to any more are removed with the facts. The script decides that and not the job, because a fact that
 * refers to them may have arrived after the claim.
 */
import { IN_PARTS } from "./in-parts.ts";
import { COUNT_OPEN_TASKS } from "./open-tasks.ts";

export const SETTLE_SCRIPT = `
${COUNT_OPEN_TASKS}
${IN_PARTS}
local job, ttl, long = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local changes = cjson.decode(ARGV[4])

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
    if field:byte(1) == 110 and not used[field:sub(2, 5)] then unused[#unused + 1] = field end
  end
  return unused
end

for index = 1, #KEYS - 1 do
  local key = KEYS[index + 1]
  local sent = {}
  local change = changes[index]
  local removed, till = change.removed or {}, change.till or {}
  for _, fact in ipairs(change.retries or change.marks or change) do sent[fact] = true end
  local set, starts, finals, pending, ours, due, limit = {}, {}, 0, 0, false, nil, nil
  local hash = redis.call('HGETALL', key)
  for i = 1, #hash, 2 do
    local field, value = hash[i], hash[i + 1]
    local kind = field:byte(1)
    if kind == 102 or kind == 98 or kind == 121 then
      local isSent = value:byte(1) == 49
      if not isSent and sent[field] then
        set[#set + 1] = field
        set[#set + 1] = '1' .. value
        isSent = true
      end
      if kind == 98 then
        if not isSent then starts[#starts + 1] = field end
      elseif kind == 102 then
        finals = finals + 1
        if not isSent then pending = pending + 1 end
      end
    elseif field == 'c' then
      ours = value:match(':(.*)$') == job
    elseif field == 'o' then
      due = value
    elseif field == 'l' then
      limit = value
    end
  end
  local done = finals > 0 and pending == 0 and (#starts == 0 or not hasStartedAgain(starts, hash))
  if done then
    set[#set + 1] = 't'
    set[#set + 1] = '1'
  end
  local gone = ours and {'c', 'p'} or {}
  if #hash > 0 and #removed > 0 then
    local isRemoved = {}
    for _, field in ipairs(removed) do
      isRemoved[field] = true
      gone[#gone + 1] = field
    end
    for _, field in ipairs(unusedTexts(hash, isRemoved)) do gone[#gone + 1] = field end
    for i = 1, #till, 2 do
      local field = 'w' .. till[i]
      local old = redis.call('HGET', key, field)
      if not old or tonumber(old, 36) < tonumber(till[i + 1], 36) then
        set[#set + 1] = field
        set[#set + 1] = till[i + 1]
      end
    end
  end
  if (limit and not change.retries) or #removed > 0 then
    set[#set + 1] = 'l'
    set[#set + 1] = #hash / 2 - #gone + long
  end
  if #hash > 0 then inParts('HSET', key, set) end
  if done then
    redis.call('EXPIRE', key, ttl)
    if due then
      gone[#gone + 1] = 'o'
      count(due, -1)
    end
  end
  inParts('HDEL', key, gone)
end
storeCounts()
`;
