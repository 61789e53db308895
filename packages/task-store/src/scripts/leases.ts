/**
 * Claims tasks of one shard for a job.
 *
 *   KEYS  the tasks
 *   ARGV  the job's id; the lease in milliseconds; the number of fields from which an entry is long (see `forget.ts`)
 *
 * Replies with JSON (one reply is read faster than thousands), for each task:
 *   0                        nothing to report: every final and retry was reported and the entry is not long, or the task is not known
 *   milliseconds             another job has a lease on it for this long
 *   [milliseconds, hash…]    the job has the lease: how long ago the task was first claimed, and its alternating fields and values
 *
 * `c` holds the lease as `<end>:<job>`, `p` the first claim. Both are in milliseconds of Redis' clock, so that only one clock counts. A job
 * can take its own lease again at once, because the same job runs again after a crash.
 */
export const CLAIM_SCRIPT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local job, lease, long = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local replies = {}
for index, key in ipairs(KEYS) do
  local hash = redis.call('HGETALL', key)
  local pending, held, since = #hash / 2 >= long, nil, now
  for i = 1, #hash, 2 do
    local field, value = hash[i], hash[i + 1]
    if field == 'c' then held = value
    elseif field == 'p' then since = tonumber(value)
    elseif not pending and value:byte(1) ~= 49 then
      local kind = field:byte(1)
      pending = kind == 102 or kind == 121
    end
  end
  local left = 0
  if held then
    local finish, holder = held:match('^(%d+):(.*)$')
    if holder ~= job then left = tonumber(finish) - now end
  end
  if not pending then
    replies[index] = 0
  elseif left > 0 then
    replies[index] = left
  else
    redis.call('HSET', key, 'c', string.format('%.0f:%s', now + lease, job), 'p', string.format('%.0f', since))
    table.insert(hash, 1, now - since)
    replies[index] = hash
  end
end
return cjson.encode(replies)
`;

/**
 * Extends leases on tasks of one shard to a whole lease from now.
 *
 *   KEYS  the tasks
 *   ARGV  the job's id; the lease in milliseconds
 *
 * Replies with the indices (from 1) of tasks on which the job has no lease: another job has claimed the task, or it is gone. An expired
 * lease still belongs to the job until another job takes it.
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

/**
 * Gives up leases on tasks of one shard that cannot be reported yet. The time of the first claim stays, so that the wait is counted from
 * there.
 *
 *   KEYS  the tasks
 *   ARGV  the job's id
 */
export const RELEASE_SCRIPT = `
for _, key in ipairs(KEYS) do
  local held = redis.call('HGET', key, 'c')
  if held and held:match(':(.*)$') == ARGV[1] then redis.call('HDEL', key, 'c') end
end
`;
