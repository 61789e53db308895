/**
 * Claims tasks for a job.
 *
 *   KEYS  the tasks
 *   ARGV  the job's id; the lease in milliseconds; the number of fields from which an entry is long (see `forget.ts`)
 *
 * Replies for each task with one of
 *
 *   0              nothing to report: every final and retry was reported and the entry is not long, or the task is not known
 *   milliseconds   another job has a lease on it for this long
 *   a text         the job has the lease: the alternating fields and values, and how long ago the task was first claimed, in milliseconds.
 *                  Between them are NULs, which no field or value contains. (Joining is faster than writing JSON or a list.)
 *
 * The lease is part of the field `o` (see `state.ts`). A job can take its own lease again at once, because the same job runs again after a
 * crash.
 */
export const CLAIM_SCRIPT = `
local byte, call = string.byte, redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local job, lease, long = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local own = string.format(':%.0f:%s', now + lease, job)
local first = string.format(':%.0f', now)

-- Whether a final or retry was not reported. The last fields are the most likely ones.
local function isPending(hash, isMarked)
  for i = #hash - 1, 1, -2 do
    local kind = byte(hash[i])
    if (kind == 102 or kind == 121) and not (isMarked and byte(hash[i + 1]) ~= 48) then return true end
  end
  return false
end

local function stateOf(hash)
  for i = 1, #hash, 2 do
    if hash[i] == 'o' then return hash[i + 1] end
  end
  return ''
end

local replies = {}
for index, key in ipairs(KEYS) do
  local hash = call('HGETALL', key)
  local size = #hash
  local head, since, left = stateOf(hash), nil, 0
  local isMarked = not tonumber(head)
  if isMarked then
    local finish, holder
    head, since, finish, holder = head:match('^(%d*%a?):?(%d*):?(%d*):?(.*)$')
    isMarked = not tonumber(head)
    if since == '' then since = nil elseif holder ~= job then left = finish - now end
  end
  replies[index] = 0
  if size / 2 >= long or isPending(hash, isMarked) then
    if left > 0 then
      replies[index] = left
    else
      call('HSET', key, 'o', head .. (since and ':' .. since or first) .. own)
      hash[size + 1] = since and now - since or 0
      replies[index] = table.concat(hash, '\\0')
    end
  end
end
return replies
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
local own = string.format(':%.0f:%s', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2], ARGV[1])
local lost = {}
for index, key in ipairs(KEYS) do
  local head, holder = (redis.call('HGET', key, 'o') or ''):match('^([^:]*:%d+):%d+:(.*)$')
  if holder == ARGV[1] then redis.call('HSET', key, 'o', head .. own) else lost[#lost + 1] = index end
end
return lost
`;

/**
 * Gives up leases on tasks that cannot be reported yet. The time of the first claim stays, so that the wait is counted from there.
 *
 *   KEYS  the tasks
 *   ARGV  the job's id
 */
export const RELEASE_SCRIPT = `
for _, key in ipairs(KEYS) do
  local head, holder = (redis.call('HGET', key, 'o') or ''):match('^([^:]*:%d+):%d+:(.*)$')
  if holder == ARGV[1] then redis.call('HSET', key, 'o', head .. ':0:') end
end
`;
