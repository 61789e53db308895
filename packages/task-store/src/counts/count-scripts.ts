/**
 * The scripts of `TaskCounts`. All keys of a call belong to one shard.
 *
 * A task's hash contains its facts and texts (`fact.ts`, `texts.ts`) and
 *
 *   v  its version: another number after each change
 *   x  what it contributes to the shard's counts (`contribution.ts`)
 *   g  how often the counts had been read when it was new
 *   d  `1` once its missing events are not waited for any longer
 *   p  the instant up to which its events are forgotten, in microseconds, in base 36
 */
import { IN_PARTS } from "../scripts/in-parts.ts";

/**
 *   KEYS  the shard's counts; its floors; how often they were read; the tasks
 *   ARGV  the changes as JSON, one per task: [version it was computed from or '', expiry in seconds or 0 for no change or -1 to remove it,
 *         alternating fields and values to set, fields to remove];
 *         what to add to the counts as JSON: alternating fields and numbers;
 *         what to subtract as JSON: alternating indices (from 1) of tasks, fields and numbers
 *
 * Makes all changes, or none: if a task has another version, replies with such tasks, as alternating indices and whole hashes. Changing tasks and adding
 * what this changes in the counts is one call, so a difference is added exactly once.
 *
 * A count is never negative: if its field was removed, there is nothing to subtract from.
 *
 * If a count that was read becomes smaller, its floor is what it was; see `READ_SCRIPT`. A count cannot have been read with what a task contributes if the
 * counts were not read since the task was new. Fields whose code begins with `q` are gauges and have no floor.
 */
export const COUNT_SCRIPT = `
${IN_PARTS}
-- A sum that would not fit any more begins anew, as any counter may. An error here would leave half of the changes.
local function increase(field, by)
  local text = string.format('%.0f', by)
  local reply = redis.pcall('HINCRBY', KEYS[1], field, text)
  if type(reply) == 'number' then return reply end
  redis.call('HSET', KEYS[1], field, text)
  return by
end

local changes = cjson.decode(ARGV[1])
local others = {}
for index, change in ipairs(changes) do
  local key = KEYS[index + 3]
  if (redis.call('HGET', key, 'v') or '') ~= change[1] then
    others[#others + 1] = index
    others[#others + 1] = redis.call('HGETALL', key)
  end
end
if #others > 0 then return others end

local reads = redis.call('GET', KEYS[3]) or '0'
local subtracted = cjson.decode(ARGV[3])
for i = 1, #subtracted, 3 do
  local field = subtracted[i + 1]
  local old = tonumber(redis.call('HGET', KEYS[1], field) or '0')
  if old <= subtracted[i + 2] or increase(field, -subtracted[i + 2]) == 0 then redis.call('HDEL', KEYS[1], field) end
  if not field:find('.q', 1, true) and redis.call('HGET', KEYS[subtracted[i] + 3], 'g') ~= reads then
    local floor = tonumber(redis.call('HGET', KEYS[2], field) or '0')
    if old > floor then redis.call('HSET', KEYS[2], field, string.format('%.0f', old)) end
  end
end
for index, change in ipairs(changes) do
  local key, ttl, set = KEYS[index + 3], change[2], change[3]
  if ttl < 0 then
    redis.call('UNLINK', key)
  else
    if change[1] == '' then
      set[#set + 1] = 'g'
      set[#set + 1] = reads
    end
    inParts('HSET', key, set)
    inParts('HDEL', key, change[4] or {})
    if ttl > 0 then redis.call('EXPIRE', key, ttl) end
  end
end
local added = cjson.decode(ARGV[2])
for i = 1, #added, 2 do increase(added[i], added[i + 1]) end
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
