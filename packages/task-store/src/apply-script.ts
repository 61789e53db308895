/**
 * Adds changes to tasks of one shard: facts to the set, name and queue by their key (see `description.ts`), the expiry never lowered.
 *
 *   KEYS  the shard's count of open tasks (see `open-tasks.ts`); the tasks
 *   ARGV  expiry in seconds; facts kept of each kind; the changes as JSON, one for each task: [facts], or
 *         [facts, ETA in seconds or 0, key of its description or '', [description fields and values in turn]]
 *
 * JSON, since a client that writes each part as an argument of its own spends more time on that than on everything else. One read and one write
 * for most tasks: each call of a command costs beside what the command does.
 *
 * Replies with the indices (from 1) of the tasks for which one of these facts is a final that was not sent yet.
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
  for i = from, from + 3 do text = text .. (fields[texts[i]] or '') end
  return text
end

-- Whether a description with the key of the stored one replaces it.
local function smaller(have, described)
  local given = {}
  for i = 1, #described, 2 do given[described[i]] = described[i + 1] end
  local order = compare(join(given, 1), join(have, 1))
  if order == 0 then order = compare(join(given, 5), join(have, 5)) end
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

-- Whether a run that has been sent is the one that this start begins: it only came late, and tells of no further run.
local function ended(have, start)
  local at, host = start:match('^b([^.|]*)%.([^.|]*)')
  for field, value in pairs(have) do
    local finish, worker = field:match('^f([^.|]*)%.([^.|]*)')
    if value == '1' and worker == host and (finish == at or later(finish, at)) then return true end
  end
  return false
end

local step = math.max(1, math.floor(ttl / 64))
local unsent = {}
local changes = cjson.decode(ARGV[3])
for index = 1, #KEYS - 1 do
  local key = KEYS[index + 1]
  local facts, eta, k, described = changes[index][1], changes[index][2] or 0, changes[index][3] or '', changes[index][4]
  local hash = redis.call('HGETALL', key)
  local have = {}
  for i = 1, #hash, 2 do have[hash[i]] = hash[i + 1] end
  local set = {}
  local goesOn, pending = false, false
  for _, fact in ipairs(facts) do
    local value, kind = have[fact], fact:byte(1)
    if not value then
      set[#set + 1] = fact
      set[#set + 1] = ''
      if kind == 102 or (kind == 98 and have.t and not ended(have, fact)) then goesOn = true end
    end
    if kind == 102 and value ~= '1' then pending = true end
  end
  if pending then unsent[#unsent + 1] = index end

  if k ~= '' then
    local old, new = tonumber(have.k), tonumber(k)
    if not old or new < old or (new == old and smaller(have, described)) then
      if old then redis.call('HDEL', key, unpack(texts)) end
      set[#set + 1] = 'k'
      set[#set + 1] = k
      for _, part in ipairs(described) do set[#set + 1] = part end
    end
  end

  local due, counted = math.ceil((math.max(now + 1, eta) + ttl) / step) * step, tonumber(have.o)
  local renewed = (goesOn or not have.t) and (not counted or due > counted)
  if renewed then
    local text = string.format('%.0f', due)
    set[#set + 1] = 'o'
    set[#set + 1] = text
    count(text, 1)
    if counted then count(have.o, -1) end
  end

  if #set > 0 then redis.call('HSET', key, unpack(set)) end
  if renewed then redis.call('EXPIREAT', key, string.format('%.0f', due)) end
  if goesOn and have.t then redis.call('HDEL', key, 't') end
  if (#hash + #set) / 2 > kept then trim(key) end
end
storeCounts()
return unsent
`;
