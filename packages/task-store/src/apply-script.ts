/**
 * Adds changes to tasks of one shard: facts and texts to their sets, the expiry never lowered.
 *
 *   KEYS  the shard's count of open tasks (see `open-tasks.ts`); the tasks
 *   ARGV  expiry in seconds; fields from which an entry is long; the changes as JSON, one for each task: [facts], or
 *         [facts, ETA in seconds or 0, [text fields and values in turn]]
 *
 * JSON, since a client that writes each part as an argument of its own spends more time on that than on everything else. One read and one write
 * for most tasks: each call of a command costs beside what the command does. Only the fields in question are read, so that a task with
 * thousands of attempts costs no more than any other.
 *
 * Replies with the indices (from 1) of the tasks to be looked at: those for which one of these facts is a final that was not sent yet, and those
 * that have become long (see `forget.ts`). `l` holds the size at which that happens next; doubled each time, so that tasks which cannot be sent
 * now are not reported over and over.
 *
 * Expiries are rounded up to a 64th of the time (two and a half of 168 hours): few points of time, so that most changes of a task find it
 * renewed already, and the count of open tasks by expiry is short.
 *
 * A tombstone (`t`, see `settle-script.ts`) keeps its short expiry, unless a new final, or a new start of a run that has not been sent, shows
 * that the task goes on.
 */
import { COUNT_OPEN_TASKS } from "./open-tasks.ts";

export const APPLY_SCRIPT = `
${COUNT_OPEN_TASKS}
local now = tonumber(redis.call('TIME')[1])
local ttl, long = tonumber(ARGV[1]), tonumber(ARGV[2])

-- More arguments than this do not fit Lua's stack. An even number: fields and values come in turn.
local MOST = 4000

local function hmget(key, fields)
  if #fields <= MOST then return redis.call('HMGET', key, unpack(fields)) end
  local values = {}
  for from = 1, #fields, MOST do
    for _, value in ipairs(redis.call('HMGET', key, unpack(fields, from, math.min(from + MOST - 1, #fields)))) do values[#values + 1] = value end
  end
  return values
end

local function hset(key, set)
  if #set <= MOST then return redis.call('HSET', key, unpack(set)) end
  for from = 1, #set, MOST do redis.call('HSET', key, unpack(set, from, math.min(from + MOST - 1, #set))) end
end

-- Whether a run that has been sent is the one that this start begins: it only came late, and belongs to no further run.
local function ended(key, start)
  local at, host = start:match('^b([^.|]*)%.([^.|]*)')
  local hash = redis.call('HGETALL', key)
  for i = 1, #hash, 2 do
    local finish, worker = hash[i]:match('^f([^.|]*)%.([^.|]*)')
    if hash[i + 1] == '1' and worker == host and tonumber(finish, 36) >= tonumber(at, 36) then return true end
  end
  return false
end

-- Whether this fact repeats one that was sent and forgotten. That of a client has no host to tell it by.
local function forgotten(key, fact)
  local at, host = fact:match('^.([^.|]*)%.([^.|]*)')
  local till = redis.call('HGET', key, 'w' .. host)
  return till and tonumber(at, 36) <= tonumber(till, 36)
end

local step = math.max(1, math.floor(ttl / 64))
local reported = {}
local changes = cjson.decode(ARGV[3])
for index = 1, #KEYS - 1 do
  local key = KEYS[index + 1]
  local facts, eta, texts = changes[index][1], changes[index][2] or 0, changes[index][3]
  local fields = {'o', 't', 'l'}
  for i = 1, #facts do fields[i + 3] = facts[i] end
  if texts then
    for i = 1, #texts, 2 do fields[#fields + 1] = texts[i] end
  end
  local values = hmget(key, fields)
  local counted, tombstone, limit = values[1], values[2], values[3]
  local set = {}
  local goesOn, pending, started = false, false, false
  for i = 1, #facts do
    local fact, value = facts[i], values[i + 3]
    local kind = fact:byte(1)
    local isFinal, isStart = kind == 102, kind == 98
    if not value and not (limit and kind ~= 115 and forgotten(key, fact)) then
      set[#set + 1] = fact
      set[#set + 1] = ''
      if isFinal then
        goesOn, pending = true, true
      elseif isStart then
        started = true
        if tombstone and not goesOn and not ended(key, fact) then goesOn = true end
      end
    elseif isFinal and value == '' then
      pending = true
    end
  end
  if texts then
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

  if #set > 0 then hset(key, set) end
  if renewed then redis.call('EXPIREAT', key, string.format('%.0f', due)) end
  if goesOn and tombstone then redis.call('HDEL', key, 't') end
  if started and not pending then
    local isNew = not counted and not tombstone
    local size = isNew and #set / 2 or redis.call('HLEN', key)
    if size >= (limit and tonumber(limit) or long) then
      redis.call('HSET', key, 'l', size * 2)
      pending = true
    end
  end
  if pending then reported[#reported + 1] = index end
end
storeCounts()
return reported
`;
