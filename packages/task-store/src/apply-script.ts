/**
 * Adds changes to tasks of one shard: facts to the set, name and queue by their key (see `description.ts`), the expiry never lowered.
 *
 *   KEYS  the shard's count of open tasks (see `open-tasks.ts`); the tasks
 *   ARGV  expiry in seconds; facts kept of each kind; the changes as JSON, one for each task: [facts], or
 *         [facts, ETA in seconds or 0, key of its description or '', [description fields and values in turn]]
 *
 * JSON, since a client that writes each part as an argument of its own spends more time on that than on everything else.
 *
 * Replies with the indices (from 1) of the tasks for which one of these facts is a final that was not sent yet.
 *
 * The expiry is renewed once a 64th of it has passed (two and a half of 168 hours), since each renewal is a write of its own.
 *
 * A tombstone (`t`, see `settle-script.ts`) keeps its short expiry, unless a final or a start that is new shows that the task goes on.
 */
import { COUNT_OPEN_TASKS } from "./open-tasks.ts";

export const APPLY_SCRIPT = `
${COUNT_OPEN_TASKS}
local now = tonumber(redis.call('TIME')[1])
local ttl, kept = tonumber(ARGV[1]), tonumber(ARGV[2])
local texts = {'n', 'n1', 'n2', 'n3', 'q', 'q1', 'q2', 'q3'}

-- The order of bytes: Lua's own follows the server's locale.
local function compare(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x - y end
  end
  return #a - #b
end

local function later(a, b)
  local x, y = #a:match('^[^.|]*'), #b:match('^[^.|]*')
  if x ~= y then return x > y end
  return compare(a, b) > 0
end

local function join(fields, from)
  local text = ''
  for i = from, from + 3 do text = text .. (fields[i] or '') end
  return text
end

-- Whether a description with the key of the stored one replaces it.
local function smaller(key, described)
  local given = {}
  for i = 1, #described, 2 do given[described[i]] = described[i + 1] end
  local new = {}
  for i, field in ipairs(texts) do new[i] = given[field] end
  local old = redis.call('HMGET', key, unpack(texts))
  local order = compare(join(new, 1), join(old, 1))
  if order == 0 then order = compare(join(new, 5), join(old, 5)) end
  return order < 0
end

local function trim(key)
  local kinds = {s = {}, r = {}, b = {}, f = {}}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local kind = kinds[field:sub(1, 1)]
    if kind then kind[#kind + 1] = field end
  end
  for _, facts in pairs(kinds) do
    if #facts > kept then
      table.sort(facts, later)
      redis.call('HDEL', key, unpack(facts, kept + 1))
    end
  end
end

local unsent = {}
local changes = cjson.decode(ARGV[3])
for index = 1, #KEYS - 1 do
  local key = KEYS[index + 1]
  local facts, eta, k, described = changes[index][1], changes[index][2] or 0, changes[index][3] or '', changes[index][4]
  local have = redis.call('HMGET', key, 'k', 't', 'o', unpack(facts))
  local add = {}
  local goesOn, pending = false, false
  for i, fact in ipairs(facts) do
    local value, kind = have[i + 3], fact:byte(1)
    if not value then
      add[#add + 1] = fact
      add[#add + 1] = ''
      if kind == 98 or kind == 102 then goesOn = true end
    end
    if kind == 102 and value ~= '1' then pending = true end
  end
  if pending then unsent[#unsent + 1] = index end

  if k ~= '' then
    local old = have[1] and tonumber(have[1])
    local new = tonumber(k)
    if not old or new < old or (new == old and smaller(key, described)) then
      if old then redis.call('HDEL', key, unpack(texts)) end
      add[#add + 1] = 'k'
      add[#add + 1] = k
      for _, part in ipairs(described) do add[#add + 1] = part end
    end
  end

  if #add > 0 then
    redis.call('HSET', key, unpack(add))
    if redis.call('HLEN', key) > kept then trim(key) end
  end

  local tombstone = have[2]
  if tombstone and goesOn then
    redis.call('HDEL', key, 't')
    tombstone = false
  end
  if not tombstone then
    local wanted = ttl
    if eta > now then wanted = eta - now + ttl end
    local left = redis.call('TTL', key)
    local renewed = left < wanted - ttl / 64
    if renewed then redis.call('EXPIRE', key, string.format('%.0f', wanted)) end
    if renewed or not have[3] then
      -- At a few points of time only, so that few are counted.
      local step = math.max(1, math.floor(ttl / 64))
      local due = string.format('%.0f', math.ceil((now + math.max(left, wanted)) / step) * step)
      if due ~= have[3] then
        redis.call('HSET', key, 'o', due)
        count(due, 1)
        if have[3] then count(have[3], -1) end
      end
    end
  end
end
storeCounts()
return unsent
`;
