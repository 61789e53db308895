/** Lua: splits a command with more arguments than fit on Lua's stack into several calls. */
export const IN_PARTS = `
-- Arguments per call. An even number, because fields and values alternate.
local MOST = 4000

local function inParts(command, key, arguments)
  for from = 1, #arguments, MOST do
    redis.call(command, key, unpack(arguments, from, math.min(from + MOST - 1, #arguments)))
  end
end
`;
