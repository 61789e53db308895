/** How many arguments fit on Lua's stack. An even number, because fields and values alternate. */
export const MOST_ARGUMENTS = 4_000;

/** Lua: splits a command with more arguments into several calls. Without arguments it does nothing. */
export const IN_PARTS = `
local function inParts(command, key, arguments)
  for from = 1, #arguments, ${MOST_ARGUMENTS} do
    redis.call(command, key, unpack(arguments, from, math.min(from + ${MOST_ARGUMENTS - 1}, #arguments)))
  end
end
`;
