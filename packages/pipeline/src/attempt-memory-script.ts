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
 * milliseconds that a lock lasts; then for each task nothing, to ask only, or `<kind><value>`: the value that a task gets of which nothing is
 * known; `l<holder>` or `u<holder>`. The kinds, in capitals where the task is finished by this value alone:
 *
 *   n  adds
 *   k  adds, and what was set aside is not needed any more unless the task was excluded before: then it is told
 *   w  adds, and what was set aside is told if the task was excluded before
 *   l  locks, unless another holds the lock; u unlocks
 *
 * Answers for each task nothing, if nothing was known; else `!` if somebody else has locked it, its marks, and what was set aside if it is told.
 */
export const NOTE_ATTEMPTS = `
local open, done, doubtful, lease = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local MOST_MARKS, MOST_ASIDE = 4096, 32768
local find, sub = string.find, string.sub

-- Asked for only where something is locked: few may.
local time
local function now()
  time = time or redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function lines(text)
  local at = find(text, '\\n', 1, true)
  if at then return sub(text, 1, at - 1), sub(text, at) end
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

local function parse(value)
  local head, aside = lines(value)
  local described, finished, holder, till, marks = string.match(head, '^(%d+);(%d+);([^;]*);(%d+);(.*)$')
  return tonumber(described), tonumber(finished), holder, tonumber(till), marks, aside
end

local function store(key, described, finished, holder, till, marks, aside)
  local seconds = open
  if finished > 0 and finished >= described then
    seconds = done
    if aside ~= '' and not find(marks, '-', 1, true) then seconds = doubtful end
  end
  local value = string.format('%.0f;%.0f;%s;%.0f;%s', described, finished, holder, till, marks) .. aside
  redis.call('SET', key, value, 'EX', seconds)
end

local function change(key, value, kind, what)
  local described, finished, holder, till, marks, aside = parse(value or '0;0;;0;')
  local told = ''
  if kind == 'l' then
    if till == 0 or till <= now() then holder, till = what, now() + lease end
    store(key, described, finished, holder, till, marks, aside)
    return (holder == what and '' or '!') .. marks
  elseif kind == 'u' then
    if holder ~= what then return marks end
    if marks == '' then redis.call('DEL', key) else store(key, described, finished, '', 0, marks, aside) end
    return marks
  end
  local d, f, _, _, adds, set = parse(what)
  local newDescribed, newFinished, newMarks, newAside = math.max(described, d), math.max(finished, f), marks, aside
  for mark in string.gmatch(adds, '%S+') do newMarks = add(newMarks, mark) end
  local wasExcluded = find(newMarks, '-', 1, true)
  if kind ~= 'n' and wasExcluded then told = aside end
  if kind == 'k' and not wasExcluded then newAside = '' end
  -- A batch may come again many times. No line is a part of another: each is a JSON array.
  if set ~= '' and not find(newMarks, '+s', 1, true) and not find(newAside, set, 1, true) then newAside = latest(newAside .. set) end
  if newDescribed ~= described or newFinished ~= finished or newMarks ~= marks or newAside ~= aside then
    store(key, newDescribed, newFinished, holder, till, newMarks, newAside)
  end
  return (till > 0 and till > now() and '!' or '') .. newMarks .. told
end

local answers = {}
for index = 1, #KEYS do
  local key, op = KEYS[index], ARGV[index + 4]
  local value = redis.call('GET', key)
  local answer = ''
  if op ~= '' then
    local kind, what = sub(op, 1, 1), sub(op, 2)
    local lower = string.lower(kind)
    if value or lower == 'l' or lower == 'u' then
      answer = change(key, value, lower, what)
    elseif not find(what, '\\n', 1, true) then
      redis.call('SET', key, what, 'EX', kind == lower and open or done)
    else
      local described, finished, holder, till, marks, aside = parse(what)
      store(key, described, finished, holder, till, marks, latest(aside))
    end
  elseif value then
    local _, _, _, till, marks = parse(value)
    answer = (till > 0 and till > now() and '!' or '') .. marks
  end
  answers[index] = answer
end
return answers
`;
