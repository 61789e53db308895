/**
 * Claims tasks for a job.
 *
 *   KEYS  the tasks
 *   ARGV  the job's id; the lease in milliseconds; the number of fields from which an entry is long (see `forget.ts`)
 *
 * Replies with one text (one reply is read faster than thousands, and joining is faster than writing JSON): parts between NULs, which no
 * field or value contains. For each task, the number of parts of its entry, a number of milliseconds, and the entry:
 *
 *   0, 0                       nothing to report: every final and retry was reported and the entry is not long, or the task is not known
 *   0, milliseconds            another job has a lease on it for this long
 *   parts, milliseconds, hash  the job has the lease: how long ago the task was first claimed, and its alternating fields and values
 *
 * `c` holds the lease as `<end>:<job>`. Nearly every task is claimed once, so the time of the first claim is worked out from the end of the
 * first lease, and stored (`p`) only when that lease changes. Both are in milliseconds of Redis' clock, so that only one clock counts. A job
 * can take its own lease again at once, because the same job runs again after a crash.
 */
export const CLAIM_SCRIPT = `
local byte, call = string.byte, redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local job, lease, long = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local own = string.format('%.0f:%s', now + lease, job)
local parts = {}
local at = 0
for _, key in ipairs(KEYS) do
  local hash = call('HGETALL', key)
  local size = #hash
  local pending, held, since = size / 2 >= long, nil, nil
  for i = 1, size, 2 do
    local field = hash[i]
    local kind = byte(field)
    if kind == 102 or kind == 121 then
      if byte(hash[i + 1]) ~= 49 then pending = true end
    elseif field == 'c' then held = hash[i + 1]
    elseif field == 'p' then since = tonumber(hash[i + 1]) end
  end
  local left = 0
  if held then
    local finish, holder = held:match('^(%d+):(.*)$')
    if holder ~= job then left = tonumber(finish) - now end
    if not since then since = finish - lease end
  end
  parts[at + 1] = 0
  parts[at + 2] = 0
  if pending and left > 0 then
    parts[at + 2] = left
  elseif pending then
    if held then
      call('HSET', key, 'c', own, 'p', string.format('%.0f', since))
    else
      call('HSET', key, 'c', own)
      hash[size + 1] = 'c'
      hash[size + 2] = own
      size = size + 2
    end
    parts[at + 1] = size
    parts[at + 2] = now - (since or now)
    parts[at + 3] = table.concat(hash, '\\0')
    at = at + 1
  end
  at = at + 2
end
return table.concat(parts, '\\0')
`;

/**
 * Extends leases on tasks to a whole lease from now.
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
  local finish, holder = (redis.call('HGET', key, 'c') or ''):match('^(%d+):(.*)$')
  if holder == ARGV[1] then
    redis.call('HSET', key, 'c', held)
    redis.call('HSETNX', key, 'p', string.format('%.0f', finish - ARGV[2]))
  else lost[#lost + 1] = index end
end
return lost
`;

/**
 * Gives up leases on tasks that cannot be reported yet. The time of the first claim stays, so that the wait is counted from there.
 *
 *   KEYS  the tasks
 *   ARGV  the job's id; the lease in milliseconds
 */
export const RELEASE_SCRIPT = `
for _, key in ipairs(KEYS) do
  local finish, holder = (redis.call('HGET', key, 'c') or ''):match('^(%d+):(.*)$')
  if holder == ARGV[1] then
    redis.call('HSETNX', key, 'p', string.format('%.0f', finish - ARGV[2]))
    redis.call('HDEL', key, 'c')
  end
end
`;
