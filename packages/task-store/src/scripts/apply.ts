/**
 * Applies changes to tasks of one shard: adds facts and texts to their sets, and never shortens an expiry.
 *
 *   KEYS  the shard's count of open tasks (see `open-tasks.ts`); the tasks
 *   ARGV  expiry in seconds; the number of fields from which an entry is long; the number from which it is full; the changes as JSON, one
 *         per task: [facts], or [facts, ETA in seconds or 0], or the same with [alternating text fields and values], or with these and
 *         [details of each fact]
 *
 * The changes are JSON because a client that writes each part as its own argument spends more time on that than on everything else. Most
 * tasks need one read and one write, because each command call has a cost of its own. Only the fields in question are read, so an event of
 * a task with thousands of attempts costs no more than any other. There is one exception: if a start arrives after its task was reported,
 * the finals are read, once per task and call.
 *
 * Replies with the number of events dropped because the entry was full, the number dropped because the entry had forgotten everything up to
 * their time, and the indices (from 1) of the tasks to claim: those for which one of these facts is an unreported final, and those that
 * have become long (see `forget.ts`). If one of the facts is an unreported retry, and there is no other reason, the index is negative. `l` holds the size at which a task becomes long next. It doubles each time, so that tasks which
 * cannot be reported now are not returned over and over.
 *
 * The size is read only when it matters: for entries that have been long, for large changes, for retries, and in one of 16 calls at random, so
 * that growth in small steps is noticed too.
 *
 * A new retry of a task with more than 64 fields (16 attempts) makes the script return the task only at random, the more seldom the larger it is,
 * because its whole entry is read then. Its other retries are reported together with that one, or with its end.
 *
 * Expiries are rounded up to a 64th of the expiry time (two and a half hours of a week). So there are few distinct instants: most changes
 * of a task find its expiry renewed already, and the count of open tasks by expiry is short.
 *
 * A tombstone (`t`, see `settle.ts`) keeps its short expiry, unless a new final, or a new start of an unreported run, shows that the task
 * goes on.
 */
import { IN_PARTS } from "./in-parts.ts";
import { COUNT_OPEN_TASKS } from "./open-tasks.ts";

export const APPLY_SCRIPT = `
${COUNT_OPEN_TASKS}
${IN_PARTS}
local time = redis.call('TIME')
local now, sample = tonumber(time[1]), tonumber(time[2]) % 16 == 0
local ttl, long, full = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local function hmget(key, fields)
  if #fields <= MOST then return redis.call('HMGET', key, unpack(fields)) end
  local values = {}
  for from = 1, #fields, MOST do
    for _, value in ipairs(redis.call('HMGET', key, unpack(fields, from, math.min(from + MOST - 1, #fields)))) do values[#values + 1] = value end
  end
  return values
end

-- For each worker, the time of the latest reported final.
local function sentEnds(key)
  local ends, hash = {}, redis.call('HGETALL', key)
  for i = 1, #hash, 2 do
    if hash[i]:byte(1) == 102 and hash[i + 1]:byte(1) == 49 then
      local at, hostname = hash[i]:match('^f([^.]*)%.([^.]*)')
      at = tonumber(at, 36)
      if at > (ends[hostname] or 0) then ends[hostname] = at end
    end
  end
  return ends
end

-- The instant up to which the entry has forgotten events of this hostname, or of all clients.
local function forgottenUntil(key, hostname, known)
  if known[hostname] == nil then
    local till = redis.call('HGET', key, 'w' .. hostname)
    known[hostname] = till and tonumber(till, 36) or -1
  end
  return known[hostname]
end

local step = math.max(1, math.floor(ttl / 64))
local reported = {0, 0}
local changes = cjson.decode(ARGV[4])
for index = 1, #KEYS - 1 do
  local key = KEYS[index + 1]
  local facts, eta, texts, details = changes[index][1], changes[index][2] or 0, changes[index][3], changes[index][4]
  local fields = {'o', 't', 'l'}
  for i = 1, #facts do fields[i + 3] = facts[i] end
  if texts then
    for i = 1, #texts, 2 do fields[#fields + 1] = texts[i] end
  end
  local values = hmget(key, fields)
  local counted, tombstone, limit = values[1], values[2], values[3]
  local isSized = limit or #facts > 16 or sample
  local size = isSized and redis.call('HLEN', key) or 0
  local set = {}
  local goesOn, pending, retried = false, false, false
  local ends, known
  for i = 1, #facts do
    local fact, value = facts[i], values[i + 3]
    local kind = fact:byte(1)
    local isFinal = kind == 102
    if not value then
      local isNew = true
      if isSized then
        if size + #set / 2 >= (isFinal and full * 1.25 or full) then
          reported[1] = reported[1] + 1
          isNew = false
        elseif limit then
          known = known or {}
          local at, hostname = fact:match('^.([^.]*)%.?([^.]*)')
          if tonumber(at, 36) <= forgottenUntil(key, kind == 115 and '' or hostname, known) then
            reported[2] = reported[2] + 1
            isNew = false
          end
        end
      end
      if isNew then
        set[#set + 1] = fact
        set[#set + 1] = details and details[i] or ''
        if isFinal then
          goesOn, pending = true, true
        elseif kind == 121 then
          local fieldCount = redis.call('HLEN', key)
          retried = retried or fieldCount <= 64 or time[2] % math.ceil(fieldCount / 64) == 0
        elseif kind == 98 and tombstone and not goesOn then
          ends = ends or sentEnds(key)
          local at, hostname = fact:match('^b([^.]*)%.([^.]*)')
          goesOn = tonumber(at, 36) > (ends[hostname] or -1)
        end
      end
    elseif value:byte(1) ~= 49 then
      if isFinal then pending = true elseif kind == 121 then retried = true end
    end
  end
  if texts and not (isSized and size + #set / 2 >= full * 1.25) then
    for i = 1, #texts, 2 do
      if not values[#facts + 3 + (i + 1) / 2] then
        set[#set + 1] = texts[i]
        set[#set + 1] = texts[i + 1]
      end
    end
  end

  local due = math.ceil((math.max(now + 1, eta) + ttl) / step) * step
  local renewed = (goesOn or not tombstone) and (not counted or due > tonumber(counted))
  if renewed then
    local text = string.format('%.0f', due)
    set[#set + 1] = 'o'
    set[#set + 1] = text
    count(text, 1)
    if counted then count(counted, -1) end
  end

  inParts('HSET', key, set)
  if renewed then redis.call('EXPIREAT', key, string.format('%.0f', due)) end
  if goesOn and tombstone then redis.call('HDEL', key, 't') end
  if isSized and not pending then
    size = size + #set / 2
    if size >= (limit and tonumber(limit) or long) then
      redis.call('HSET', key, 'l', size * 2)
      pending = true
    end
  end
  if pending then reported[#reported + 1] = index
  elseif retried then reported[#reported + 1] = -index end
end
storeCounts()
return reported
`;
