/**
 * Marks facts of claimed tasks of one shard as sent, and gives up the leases.
 *
 *   KEYS  the shard's count of open tasks (see `open-tasks.ts`); the tasks
 *   ARGV  the job's id; the tombstone's expiry in seconds; the facts of each task as JSON
 *
 * Facts are marked by name, so one that arrived after the claim stays unsent. Once no final is left unsent the task is a tombstone: the same
 * hash, with \`t\`, and a short expiry. It is there so that late and repeated events find their facts marked and change nothing.
 */
import { COUNT_OPEN_TASKS } from "./open-tasks.ts";

export const SETTLE_SCRIPT = `
${COUNT_OPEN_TASKS}
local job, ttl = ARGV[1], tonumber(ARGV[2])
local facts = cjson.decode(ARGV[3])
for index = 1, #KEYS - 1 do
  local key = KEYS[index + 1]
  local sent = {}
  for _, fact in ipairs(facts[index]) do sent[fact] = true end
  local set, finals, pending, ours, due = {}, 0, 0, false, nil
  local hash = redis.call('HGETALL', key)
  for i = 1, #hash, 2 do
    local field, value = hash[i], hash[i + 1]
    if sent[field] then
      set[#set + 1] = field
      set[#set + 1] = '1'
      value = '1'
    end
    if field:byte(1) == 102 then
      finals = finals + 1
      if value ~= '1' then pending = pending + 1 end
    elseif field == 'c' then
      ours = value:match(':(.*)$') == job
    elseif field == 'o' then
      due = value
    end
  end
  local done = finals > 0 and pending == 0
  if done then
    set[#set + 1] = 't'
    set[#set + 1] = '1'
  end
  if #set > 0 then redis.call('HSET', key, unpack(set)) end
  local gone = ours and {'c', 'p'} or {}
  if done then
    redis.call('EXPIRE', key, ttl)
    if due then
      gone[#gone + 1] = 'o'
      count(due, -1)
    end
  end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
end
storeCounts()
`;
