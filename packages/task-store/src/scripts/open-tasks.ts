/**
 * Counts the tasks that the Store gives up. Redis itself expires an entry without any notice.
 *
 * Open (unreported) tasks are counted by the time at which their entry expires. The count is one hash of at most about 66 fields:
 * `due → tasks`, with `due` in seconds since the epoch. A task's field `o` holds the `due` under which it is counted (see `state.ts`). The
 * scripts that create, renew, settle and forget a task update the count themselves, so it is exact. Tasks that are still counted after their
 * `due` have expired.
 *
 * One Redis has one count, and a cluster one for each shard. After a move from one to the other, some tasks are added to one count and
 * subtracted from another. So only the sum of all counts is meaningful.
 */

/** Lua: `count(due, by)` collects, and at the end `storeCounts(key)` writes what was collected. */
export const COUNT_OPEN_TASKS = `
local counts = {}
local function count(due, by) counts[due] = (counts[due] or 0) + by end
local function storeCounts(key)
  for due, by in pairs(counts) do
    if by ~= 0 and redis.call('HINCRBY', key, due, by) == 0 then redis.call('HDEL', key, due) end
  end
end
`;

/**
 *   KEYS  the count; the tasks
 *
 * Removes the tasks, except those that have a `task-sent` (`s`, see `fact.ts`).
 */
export const FORGET_SCRIPT = `
${COUNT_OPEN_TASKS}
for index = 2, #KEYS do
  local due, isSent = nil, false
  local hash = redis.call('HGETALL', KEYS[index])
  for i = 1, #hash, 2 do
    if hash[i] == 'o' then due = hash[i + 1]:match('^%d+') end
    if string.byte(hash[i]) == 115 then isSent = true end
  end
  if not isSent then
    if due then count(due, -1) end
    redis.call('UNLINK', KEYS[index])
  end
end
storeCounts(KEYS[1])
`;

/** KEYS a count. Replies with how many tasks have expired since the last call (by any process), and how many are open. */
export const SWEEP_SCRIPT = `
local now = tonumber(redis.call('TIME')[1])
local hash = redis.call('HGETALL', KEYS[1])
local expired, open, past = 0, 0, {}
for i = 1, #hash, 2 do
  local tasks = tonumber(hash[i + 1])
  if tonumber(hash[i]) < now then
    expired = expired + tasks
    past[#past + 1] = hash[i]
  else
    open = open + tasks
  end
end
if #past > 0 then redis.call('HDEL', KEYS[1], unpack(past)) end
return {expired, open}
`;

/** KEYS the tasks. Replies with the hash of each. */
export const LOOK_SCRIPT = `
local hashes = {}
for index, key in ipairs(KEYS) do hashes[index] = redis.call('HGETALL', key) end
return hashes
`;
