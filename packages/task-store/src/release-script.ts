/**
 * Gives up leases on tasks of one shard that could not be sent yet. The time of the first claim stays, so that a limit counts from there.
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
