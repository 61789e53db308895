/** How many arguments fit on Lua's stack. An even number, because fields and values alternate. */
export const MOST_ARGUMENTS = 4_000;

/** Lua: splits a command with more arguments into several calls. Without arguments it does nothing. Returns all replies that are lists as one. */
export const IN_PARTS = `
local function inParts(command, key, arguments)
  local replies
  for from = 1, #arguments, ${MOST_ARGUMENTS} do
    local reply = redis.call(command, key, unpack(arguments, from, math.min(from + ${MOST_ARGUMENTS - 1}, #arguments)))
    if not replies then replies = reply
    elseif type(reply) == 'table' then
      for _, each in ipairs(reply) do replies[#replies + 1] = each end
    end
  end
  return replies or {}
end
`;
