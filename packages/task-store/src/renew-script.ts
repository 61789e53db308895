/**
 * Extends leases on tasks of one shard, each by a whole lease from now.
 *
 *   KEYS  the tasks
 *   ARGV  the job's id; the lease in milliseconds
 *
 * Replies with the indexes (from 1) of tasks on which the job has no lease: another job has claimed it, or it is gone. A lease whose time is
 * over is still the job's until another job takes it.
 */
export const RENEW_SCRIPT = `
local time = redis.call('TIME')
local held = string.format('%.0f:%s', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2], ARGV[1])
local lost = {}
for index, key in ipairs(KEYS) do
  local lease = redis.call('HGET', key, 'c')
  if lease and lease:match(':(.*)$') == ARGV[1] then redis.call('HSET', key, 'c', held)
  else lost[#lost + 1] = index end
end
return lost
`;
