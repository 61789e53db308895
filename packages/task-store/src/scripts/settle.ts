/**
 * Marks facts of claimed tasks as reported, and gives up the leases.
 *
 *   KEYS  for each shard: its count of open tasks (see `open-tasks.ts`); its tasks
 *   ARGV  the job's id; the tombstone's expiry in seconds; the number of fields from which an entry is long; as JSON, the changes of all
 *         tasks: for each the number of its facts to mark, what else is to be done, and the facts; how many tasks each shard has
 *
 * What else is to be done: 0 for nothing; or the number of the entry's fields, if nothing of it is left to report then, and the values of
 * these facts are empty; or {removed: fields to remove, till: alternating hostnames and the instants up to which their facts are removed};
 * or {retries: true}, if only the task's retries were looked at.
 *
 * Facts are marked by name, so a fact that arrived after the claim stays unreported. Once every final is reported and no run has started
 * after the last one, the task becomes a tombstone: the same hash, with `t` and a short expiry. Late and repeated events then find their
 * facts marked and change nothing.
 *
 * Whether it becomes one follows from all of its facts. The job has read them, so it decides, and the script only makes sure that the entry
 * still has no others. Only if it has does the script read the entry and decide itself.
 *
 * Names and queues that no fact refers to any more are removed with the facts. The script decides that and not the job, because a fact that
 * refers to them may have arrived after the claim.
 */
import { IN_PARTS } from "./in-parts.ts";
import { COUNT_OPEN_TASKS } from "./open-tasks.ts";

export const SETTLE_SCRIPT = `
${COUNT_OPEN_TASKS}
${IN_PARTS}
local byte, call, unpack = string.byte, redis.call, unpack
local job, ttl, long = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

-- Whether the lease is the job's. Tasks that were claimed together have the same one, which is looked into once.
local lastHeld, isLastOurs
local function isOurs(held)
  if held ~= lastHeld then lastHeld, isLastOurs = held, held:match(':(.*)$') == job end
  return isLastOurs
end

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

local time = call('TIME')
local expiresAt = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ttl * 1000)

local changes = cjson.decode(ARGV[4])

-- What \`endIfUnchanged\` writes. The same table for all tasks, up to the size of each.
local written = {'t', '1'}

-- Makes a tombstone of an entry that still has so many fields, if the job has the lease. Returns whether it did. The facts to mark are
-- those from one index of \`changes\` to another.
--
-- Since the job has the lease, only \`apply\` has added fields to the entry, and no script removes facts from one of so few fields: so with
-- as many fields it has the same facts. A job whose lease was lost may have settled the task meanwhile. It marked facts, which does not
-- matter, or made a tombstone, which has no \`o\`. An entry that expired or was forgotten, and has begun anew, has no lease.
local function endIfUnchanged(key, from, to, fields)
  local held, due = call('HGET', key, 'c'), call('HGET', key, 'o')
  if not (held and due and isOurs(held) and call('HLEN', key) == fields) then return false end
  local size = 2
  for i = from, to do
    written[size + 1] = changes[i]
    written[size + 2] = '1'
    size = size + 2
  end
  call('HSET', key, unpack(written, 1, size))
  call('HDEL', key, 'c', 'o', 'p')
  call('PEXPIREAT', key, expiresAt)
  count(due, -1)
  return true
end

local function settle(key, from, to, also)
  local removed, till = also and also.removed or {}, also and also.till or {}
  local sent = {}
  for i = from, to do sent[changes[i]] = true end
  local set, starts, finals, pending, ours, due, limit = {}, {}, 0, 0, false, nil, nil
  local hash = call('HGETALL', key)
  for i = 1, #hash, 2 do
    local field, value = hash[i], hash[i + 1]
    local kind = byte(field)
    if kind == 102 or kind == 98 or kind == 121 then
      local isSent = byte(value) == 49
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
      ours = isOurs(value)
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
      local old = call('HGET', key, field)
      if not old or tonumber(old, 36) < tonumber(till[i + 1], 36) then
        set[#set + 1] = field
        set[#set + 1] = till[i + 1]
      end
    end
  end
  if (limit and not (also and also.retries)) or #removed > 0 then
    set[#set + 1] = 'l'
    set[#set + 1] = #hash / 2 - #gone + long
  end
  if #hash > 0 then inParts('HSET', key, set) end
  if done then
    call('PEXPIREAT', key, expiresAt)
    if due then
      gone[#gone + 1] = 'o'
      count(due, -1)
    end
  end
  inParts('HDEL', key, gone)
end

local last, open = 0, 1
for shard = 5, #ARGV do
  for index = open + 1, open + ARGV[shard] do
    local from, also = last + 3, changes[last + 2]
    last = last + 2 + changes[last + 1]
    if type(also) == 'table' then
      settle(KEYS[index], from, last, also)
    elseif also == 0 or not endIfUnchanged(KEYS[index], from, last, also) then
      settle(KEYS[index], from, last)
    end
  end
  storeCounts(KEYS[open])
  open = open + 1 + ARGV[shard]
end
`;
