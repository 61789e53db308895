/** The scripts behind the receivers' lease. One key, Redis' own clock, milliseconds. */

/**
 * KEYS: the lease. ARGV: receiver, time to live, expiry of the record, for how long the receiver has had everything, `safeUntil` or nothing.
 * Answers now, whether the receiver holds the lease, whether it took it over, whether it has everything since `safeUntil`, and that (or -1).
 *
 * - An expired lease that nobody took is still its holder's.
 * - Ends in the future by more than the time to live come from before Redis' clock was set back; they count as past.
 */
export const CLAIM_LEASE = `
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local id, ttl, expiry, completeFor = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local record = redis.call('HMGET', KEYS[1], 'holder', 'heldUntil', 'safeUntil', 'coveredUntil')
local holder, safeUntil = record[1], tonumber(record[3] or nil)
local heldUntil, coveredUntil = tonumber(record[2] or 0), tonumber(record[4] or 0)

local function ahead(moment) return moment > now and moment <= now + ttl end
local function store(...)
  redis.call('HSET', KEYS[1], ...)
  redis.call('PEXPIRE', KEYS[1], expiry)
end
local function text(moment) return string.format('%.0f', moment) end
local function answer(held, tookOver, covers)
  return {now, held and 1 or 0, tookOver and 1 or 0, covers and 1 or 0, safeUntil or -1}
end

local covers = not safeUntil or now - completeFor <= safeUntil
if holder == id then
  safeUntil = tonumber(ARGV[5]) or safeUntil or now - completeFor
  store('heldUntil', text(now + ttl), 'safeUntil', text(safeUntil))
  return answer(true, false, covers)
end
local free = not holder or holder == '' or not ahead(heldUntil)
if free and (covers or not ahead(coveredUntil)) then
  -- Of what was published before the first receiver came nobody can have anything.
  store('holder', id, 'heldUntil', text(now + ttl), 'safeUntil', text(safeUntil or now - completeFor))
  return answer(true, safeUntil, covers)
end
if covers then store('coveredUntil', text(now + ttl)) end
return answer(false, false, covers)
`;

/** KEYS: the lease. ARGV: receiver, `safeUntil` or nothing: then what was told last stays. */
export const RELEASE_LEASE = `
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'holder', '')
if tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], 'safeUntil', ARGV[2]) end
return 1
`;
