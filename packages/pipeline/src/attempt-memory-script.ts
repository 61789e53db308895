/**
 * The script behind the memory of attempts. One value a task, in three parts:
 *
 *   <described>;<finished>;<holder>;<until>;<marks>      instants in milliseconds; marks with a space after each
 *   <JSON array of events>                               what was set aside, one line for each batch
 *
 * Marks are only ever added, so that what is known does not depend on who told what first.
 */

/**
 * KEYS: the tasks. ARGV: seconds to remember a task that goes on, one that is finished, and one that is finished and was told of by nothing;
 * milliseconds that a lock lasts; then for each task nothing, to ask only, or `<kind><described>;<finished>;<marks>` and, on further lines, what
 * is to be set aside; `l<holder>` or `u<holder>`.
 *
 *   n  adds
 *   k  adds, and what was set aside is not needed any more unless the task was excluded before: then it is told
 *   w  adds, and what was set aside is told if the task was excluded before
 *   l  locks, unless another holds the lock; u unlocks
 *
 * Answers for each task `!` if somebody else has locked it, its marks, and what was set aside if it is told.
 */
export const NOTE_ATTEMPTS = `
local open, done, doubtful, lease = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local MOST_MARKS, MOST_ASIDE = 4096, 32768

-- Asked for only where something is locked: few may.
local time
local function now()
  time = time or redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function lines(text)
  local at = string.find(text, '\\n', 1, true)
  if at then return string.sub(text, 1, at - 1), string.sub(text, at) end
  return text, ''
end

-- A task with thousands of attempts: what keeps it is still noted, if nothing has kept it yet.
local function add(marks, mark)
  if string.find(' ' .. marks, ' ' .. mark .. ' ', 1, true) then return marks end
  if #marks > MOST_MARKS and (string.sub(mark, 1, 1) ~= '+' or string.find(marks, '+s', 1, true)) then return marks end
  return marks .. mark .. ' '
end

-- The latest: a further attempt comes after what it may need.
local function latest(aside)
  while #aside > MOST_ASIDE do
    local at = string.find(aside, '\\n', 2, true)
    if not at then return aside end
    aside = string.sub(aside, at)
  end
  return aside
end

local answers = {}
for index = 1, #KEYS do
  local key, op = KEYS[index], ARGV[index + 4]
  local value = redis.call('GET', key)
  local head, aside = lines(value or '0;0;;0;')
  local described, finished, holder, till, marks = string.match(head, '^(%d+);(%d+);([^;]*);(%d+);(.*)$')
  described, finished, till = tonumber(described), tonumber(finished), tonumber(till)
  local told = ''
  if op ~= '' then
    local before = head .. aside
    local kind, what = string.sub(op, 1, 1), string.sub(op, 2)
    if kind == 'l' then
      if till == 0 or till <= now() then holder, till = what, now() + lease end
    elseif kind == 'u' then
      if holder == what then holder, till = '', 0 end
    else
      local more, set = lines(what)
      local d, f, adds = string.match(more, '^(%d+);(%d+);(.*)$')
      described, finished = math.max(described, tonumber(d)), math.max(finished, tonumber(f))
      for mark in string.gmatch(adds, '%S+') do marks = add(marks, mark) end
      local wasExcluded = string.find(marks, '-', 1, true)
      if kind ~= 'n' and wasExcluded then told = aside end
      if kind == 'k' and not wasExcluded then aside = '' end
      if not string.find(marks, '+s', 1, true) then aside = latest(aside .. set) end
    end
    head = string.format('%.0f;%.0f;%s;%.0f;%s', described, finished, holder, till, marks)
    if marks == '' and aside == '' and holder == '' then
      redis.call('DEL', key)
    elseif head .. aside ~= before or kind == 'l' then
      local seconds = open
      if finished > 0 and finished >= described then
        seconds = done
        if aside ~= '' and not string.find(marks, '-', 1, true) then seconds = doubtful end
      end
      redis.call('SET', key, head .. aside, 'EX', seconds)
    end
  end
  local isLocked = till > 0 and till > now() and not (op ~= '' and string.sub(op, 1, 1) == 'l' and holder == string.sub(op, 2))
  answers[index] = (isLocked and '!' or '') .. marks .. told
end
return answers
`;
