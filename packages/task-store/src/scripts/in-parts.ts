/** Lua: calls of one command with more arguments than fit Lua's stack. */
export const IN_PARTS = `
-- As many fit. An even number: fields and values come in turn.
local MOST = 4000

local function inParts(command, key, arguments)
  for from = 1, #arguments, MOST do
    redis.call(command, key, unpack(arguments, from, math.min(from + MOST - 1, #arguments)))
  end
end
`;
