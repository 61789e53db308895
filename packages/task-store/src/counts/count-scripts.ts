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
import { MOST_ARGUMENTS } from "../scripts/in-parts.ts";

/**
 *   KEYS  for each shard: its counts; its floors; how often they were read; its tasks
 *   ARGV  as JSON, the changes of all tasks: for each the version it was computed from or '', its expiry in seconds (0: no change, -1: remove it), the
 *         number of texts to set, those (alternating fields and values), the number of fields to remove, and those;
 *         as JSON, what to add to the counts of each shard: [fields, numbers];
 *         as JSON, what to subtract from the counts of each shard: alternating indices (from 1) of tasks, fields and numbers, with an index of 0 for a
 *         field that has no floor;
 *         how many tasks each shard has
 *
 * Replies with a list for each shard.
 *
 * Makes all changes of a shard, or none: if a task has another version, replies with such tasks, as alternating indices and whole hashes. Changing tasks
 * and adding what this changes in the counts is one call, so a difference is added exactly once.
 *
 * A count is never negative: if its field was removed, there is nothing to subtract from.
 *
 * If a count that was read becomes smaller, its floor is what it was; see `READ_SCRIPT`. A count cannot have been read with what a task contributes if the
 * counts were not read since the task was new. Fields whose code begins with `q` are gauges and have no floor.
 *
 * Each command that a script calls has a cost of its own, so new tasks are looked for together, and the counts are read together and written together.
 */
export const COUNT_SCRIPT = `
local MOST = ${MOST_ARGUMENTS}
local call, unpack, format = redis.call, unpack, string.format

-- A sum that would not fit any more begins anew, as any counter may. An error here would leave half of the changes.
local function increase(counts, field, by)
  local text = format('%.0f', by)
  local reply = redis.pcall('HINCRBY', counts, field, text)
  if type(reply) == 'number' then return reply end
  call('HSET', counts, field, text)
  return by
end

-- Lua's numbers are exact up to 2^53, Redis' up to 2^63.
local EXACT = 2 ^ 53

local function increaseAll(counts, fields, numbers)
  for from = 1, #fields, MOST / 2 do
    local to = math.min(from + MOST / 2 - 1, #fields)
    local old = call('HMGET', counts, unpack(fields, from, to))
    local set, size = {}, 0
    for i = from, to do
      local sum = (tonumber(old[i - from + 1]) or 0) + numbers[i]
      if sum < EXACT then
        set[size + 1] = fields[i]
        set[size + 2] = format('%d', sum)
        size = size + 2
      else
        increase(counts, fields[i], numbers[i])
      end
    end
    if size > 0 then call('HSET', counts, unpack(set)) end
  end
end

-- Whether any of these keys is there.
local function exist(keys)
  for from = 1, #keys, MOST do
    if call('EXISTS', unpack(keys, from, math.min(from + MOST - 1, #keys))) > 0 then return true end
  end
  return false
end

local changes, last = cjson.decode(ARGV[1]), 0
local expiries, time = {}, call('TIME')

local function expire(key, ttl)
  if not expiries[ttl] then expiries[ttl] = format('%.0f', (time[1] + ttl) * 1000 + math.floor(time[2] / 1000)) end
  call('PEXPIREAT', key, expiries[ttl])
end

-- \`first\` is the index of the shard's first key.
local function store(first, tasks, added, subtracted)
  local counts, floors = KEYS[first], KEYS[first + 1]
  local others, new = {}, {}
  local starts, at = {}, last + 1
  for index = 1, tasks do
    local key, version = KEYS[first + 2 + index], changes[at]
    starts[index] = at
    at = at + 3 + changes[at + 2]
    at = at + 1 + changes[at]
    if version == '' then
      new[#new + 1] = key
    elseif call('HGET', key, 'v') ~= version then
      others[#others + 1] = index
      others[#others + 1] = call('HGETALL', key)
    end
  end
  last = at - 1
  if #new > 0 and exist(new) then
    for index = 1, tasks do
      local key = KEYS[first + 2 + index]
      if changes[starts[index]] == '' and call('EXISTS', key) == 1 then
        others[#others + 1] = index
        others[#others + 1] = call('HGETALL', key)
      end
    end
  end
  if #others > 0 then return others end

  local reads = call('GET', KEYS[first + 2]) or '0'
  for i = 1, #subtracted, 3 do
    local index, field, by = subtracted[i], subtracted[i + 1], subtracted[i + 2]
    local old = tonumber(call('HGET', counts, field) or '0')
    if old <= by or increase(counts, field, -by) == 0 then call('HDEL', counts, field) end
    if index > 0 and call('HGET', KEYS[first + 2 + index], 'g') ~= reads then
      local floor = tonumber(call('HGET', floors, field) or '0')
      if old > floor then call('HSET', floors, field, format('%.0f', old)) end
    end
  end
  for index = 1, tasks do
    local key, start = KEYS[first + 2 + index], starts[index]
    local ttl, from = changes[start + 1], start + 3
    local to = from + changes[start + 2] - 1
    if ttl < 0 then
      call('UNLINK', key)
    else
      for part = from, to, MOST do
        local till = math.min(part + MOST - 1, to)
        if changes[start] == '' then call('HSET', key, 'g', reads, unpack(changes, part, till)) else call('HSET', key, unpack(changes, part, till)) end
      end
      local removed = to + 1 + changes[to + 1]
      for part = to + 2, removed, MOST do call('HDEL', key, unpack(changes, part, math.min(part + MOST - 1, removed))) end
      if ttl > 0 then expire(key, ttl) end
    end
  end
  increaseAll(counts, added[1], added[2])
  return others
end

local added, subtracted = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local replies, first = {}, 1
for shard = 1, #ARGV - 3 do
  local tasks = tonumber(ARGV[shard + 3])
  replies[shard] = store(first, tasks, added[shard], subtracted[shard])
  first = first + 3 + tasks
end
return replies
`;

/**
 *   KEYS  the shard's counts; its floors; how often they were read
 *
 * Replies with the counts and the floors, each as one text of alternating fields and values, separated by spaces: a reply of so many values costs the client
 * several times as much. A count that was read never becomes smaller for the reader: while it is below its floor, the floor counts.
 *
 * Also runs while Redis is full. Redis then refuses a script's first write if it may need memory, but none after another write: so something is removed first,
 * if only a field that is never there.
 */
export const READ_SCRIPT = `
redis.call('HDEL', KEYS[2], '')
redis.call('INCR', KEYS[3])
local floors = redis.call('HGETALL', KEYS[2])
for i = 1, #floors, 2 do
  if tonumber(redis.call('HGET', KEYS[1], floors[i]) or '0') >= tonumber(floors[i + 1]) then redis.call('HDEL', KEYS[2], floors[i]) end
end
return {table.concat(redis.call('HGETALL', KEYS[1]), ' '), table.concat(floors, ' ')}
`;
