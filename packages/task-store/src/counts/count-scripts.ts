/**
 * The scripts of `TaskCounts`. All keys of a call belong to one shard.
 *
 * A task's hash contains its facts and texts (`fact.ts`, `texts.ts`) and
 *
 *   x  what the task contributes to the shard's counts (`contribution.ts`); absent if nothing
 *   g  how often the counts had been read when the task first contributed
 *   d  `1` once the task is not waited for any longer
 *   p  the instant up to which its events are forgotten, in microseconds, in base 36
 */
import { IN_PARTS } from "../scripts/in-parts.ts";

/**
 *   KEYS  the tasks
 *   ARGV  expiry of a new task in seconds; the changes as JSON, one per task: [facts, details of each fact or [], alternating text fields and values]
 *
 * Adds facts and texts, and replies with the whole hash of each task, as JSON.
 */
export const MERGE_SCRIPT = `
${IN_PARTS}
local changes = cjson.decode(ARGV[2])
local replies = {}
for index, key in ipairs(KEYS) do
  local facts, details, texts = changes[index][1], changes[index][2], changes[index][3]
  local hash = redis.call('HGETALL', key)
  local isNew, past = #hash == 0, nil
  local known = {}
  for i = 1, #hash, 2 do
    known[hash[i]] = true
    if hash[i] == 'p' then past = tonumber(hash[i + 1], 36) end
  end
  local set = {}
  local function add(field, value)
    if known[field] then return end
    known[field] = true
    set[#set + 1] = field
    set[#set + 1] = value
    hash[#hash + 1] = field
    hash[#hash + 1] = value
  end
  for i = 1, #facts do
    if not past or tonumber(facts[i]:match('^.([^.]*)'), 36) > past then add(facts[i], details[i] or '') end
  end
  for i = 1, #texts, 2 do add(texts[i], texts[i + 1]) end
  inParts('HSET', key, set)
  if isNew and #set > 0 then redis.call('EXPIRE', key, ARGV[1]) end
  replies[index] = hash
end
return cjson.encode(replies)
`;

/**
 *   KEYS  the shard's counts; its floors; how often they were read; the tasks
 *   ARGV  the changes as JSON, one per task: [x as it was read, x from now on, expiry in seconds, d, p or '', fields to remove,
 *         alternating fields of the counts and whole numbers to add]. An expiry of 0 removes the task.
 *
 * Changes a task only if its x is as it was read, and replies with the indices (from 1) of the others. Storing the new x and adding the difference is one
 * call, so a difference is added exactly once.
 *
 * If a count that was read becomes smaller, its floor is what it was. See `READ_SCRIPT`. Fields whose code begins with `q` are gauges and have no floor.
 */
export const COUNT_SCRIPT = `
${IN_PARTS}
local reads = redis.call('GET', KEYS[3]) or '0'
local sums, wasRead, others = {}, {}, {}
for index, change in ipairs(cjson.decode(ARGV[1])) do
  local key = KEYS[index + 3]
  local old, x, ttl, d, past, removed, added = unpack(change)
  local stored = redis.call('HMGET', key, 'x', 'g')
  if (stored[1] or '') ~= old then
    others[#others + 1] = index
  else
    for i = 1, #added, 2 do
      local field, by = added[i], added[i + 1]
      sums[field] = (sums[field] or 0) + by
      if by < 0 and stored[2] ~= reads then wasRead[field] = true end
    end
    if ttl == 0 then
      redis.call('UNLINK', key)
    else
      local set = {}
      if x ~= old then set = {'x', x} end
      if not stored[2] and x ~= '' then
        set[#set + 1] = 'g'
        set[#set + 1] = reads
      end
      if d == 1 then
        set[#set + 1] = 'd'
        set[#set + 1] = '1'
      end
      if past ~= '' then
        set[#set + 1] = 'p'
        set[#set + 1] = past
      end
      inParts('HSET', key, set)
      inParts('HDEL', key, removed)
      redis.call('EXPIRE', key, ttl)
    end
  end
end
for field, by in pairs(sums) do
  if by ~= 0 then
    local now = redis.call('HINCRBY', KEYS[1], field, string.format('%.0f', by))
    if by < 0 then
      if wasRead[field] and not field:find('.q', 1, true) then
        local floor = tonumber(redis.call('HGET', KEYS[2], field) or '0')
        if now - by > floor then redis.call('HSET', KEYS[2], field, string.format('%.0f', now - by)) end
      elseif now == 0 then
        redis.call('HDEL', KEYS[1], field)
      end
    end
  end
end
return others
`;

/**
 *   KEYS  the shard's counts; its floors; how often they were read
 *
 * Replies with the counts and the floors, each as alternating fields and values. A count that was read never becomes smaller for the reader: while it is below
 * its floor, the floor counts.
 */
export const READ_SCRIPT = `
redis.call('INCR', KEYS[3])
local floors = redis.call('HGETALL', KEYS[2])
for i = 1, #floors, 2 do
  if tonumber(redis.call('HGET', KEYS[1], floors[i]) or '0') >= tonumber(floors[i + 1]) then redis.call('HDEL', KEYS[2], floors[i]) end
end
return {redis.call('HGETALL', KEYS[1]), floors}
`;
