/** Redis' memory of what is known of the attempts of tasks, for the events that carry neither name nor queue. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { withRedis } from "../queue/redis-errors.ts";
import type { Description, EventFilter } from "./task-filter.ts";

const DEFAULT_EXPIRY_SECONDS = 7 * 24 * 3_600;
/** After a task's final event only stragglers come. Filtered tasks are often the noisy ones: a week of them would fill Redis. */
const FINISHED_EXPIRY_SECONDS = 600;
/** The same, with what was set aside of a task of which no name or queue has come: some clients never send any. */
export const DOUBTFUL_EXPIRY_SECONDS = 120;
/** Longer than a forgetting may take. */
const LOCK_MS = 60_000;

/** What to remember of one task. */
export interface Note {
  readonly marks: readonly string[];
  /** When the latest attempt among these was described, in ms since the epoch; 0: none was. */
  readonly describedAt?: number;
  /** When the latest of these ends was, likewise. */
  readonly finishedAt?: number;
  /** Events to be set aside, in case another attempt keeps the task. */
  readonly aside?: readonly CeleryEvent[];
  /**
   * What these marks do to what was set aside: they ask for it, if the task was excluded before. `for good`: otherwise it is not needed
   * any more.
   */
  readonly keeps?: "for now" | "for good";
}

/** What is remembered of one task, with what was just noted. */
export interface Remembered {
  readonly marks: readonly string[];
  /** Whether somebody is just forgetting the task. */
  readonly isLocked: boolean;
  /** What was set aside, if it was asked for. */
  readonly aside: readonly CeleryEvent[];
}

export interface AttemptMemoryOptions {
  readonly redis: RedisConnection;
  /** With a `{hash tag}` all keys are in one slot of a Redis Cluster, as the script needs. */
  readonly prefix: string;
  /**
   * Who remembers: `receiver`, or the exporter's name. Each has its own memory, because each is done with a task at another time, and
   * forgetting is counted from there.
   */
  readonly owner: string;
  readonly expirySeconds?: number;
}

export class AttemptMemory {
  readonly #redis: RedisConnection;
  readonly #keyPrefix: string;
  readonly #limits: readonly number[];

  constructor({ redis, prefix, owner, expirySeconds = DEFAULT_EXPIRY_SECONDS }: AttemptMemoryOptions) {
    this.#redis = redis;
    this.#keyPrefix = `${prefix}:excluded:${owner}:`;
    const atMost = (seconds: number): number => Math.min(seconds, expirySeconds);
    this.#limits = [expirySeconds, atMost(FINISHED_EXPIRY_SECONDS), atMost(DOUBTFUL_EXPIRY_SECONDS), LOCK_MS];
  }

  /**
   * Notes what there is to note of these tasks (undefined: nothing) and tells what is known of them, in one round trip. Noting something again
   * changes nothing.
   *
   * @throws {UnavailableError} when Redis does not serve: some may be noted; call again.
   */
  async note(notes: ReadonlyMap<string, Note | undefined>): Promise<Map<string, Remembered>> {
    const known = await this.#run([...notes.keys()], Array.from(notes.values(), written));
    return new Map(Array.from(notes, ([id, note], index) => [id, read(known[index] ?? "", note)]));
  }

  /**
   * Tells everybody for a minute that these tasks are being forgotten, and what is known of them. Those that another is just forgetting are told
   * to be locked.
   *
   * @param holder a name that nobody else has.
   * @throws {UnavailableError} when Redis does not serve.
   */
  async lock(ids: readonly string[], holder: string): Promise<Map<string, Remembered>> {
    const known = await this.#run(
      ids,
      ids.map(() => `l${holder}`),
    );
    return new Map(ids.map((id, index) => [id, read(known[index] ?? "")]));
  }

  /** @throws {UnavailableError} when Redis does not serve: the locks will expire. */
  async unlock(ids: readonly string[], holder: string): Promise<void> {
    await this.#run(
      ids,
      ids.map(() => `u${holder}`),
    );
  }

  async #run(ids: readonly string[], args: readonly string[]): Promise<readonly string[]> {
    if (ids.length === 0) return [];
    const keys = ids.map((id) => this.#keyPrefix + id);
    const command = (): Promise<unknown> => this.#redis.eval(NOTE_ATTEMPTS, keys.length, ...keys, ...this.#limits, ...args);
    return (await withRedis("remembering what filters decided", command)) as string[];
  }
}

function written(note: Note | undefined): string {
  if (note === undefined) return "";
  const { marks, describedAt = 0, finishedAt = 0, aside, keeps } = note;
  const kind = keeps === undefined ? "n" : keeps === "for good" ? "k" : "w";
  const [described, finished] = [milliseconds(describedAt), milliseconds(finishedAt)];
  const isFinished = finished > 0 && finished >= described;
  let text = `${isFinished ? kind.toUpperCase() : kind}${described};${finished};;0;`;
  for (const mark of marks) text += `${mark} `;
  return aside === undefined || aside.length === 0 ? text : `${text}\n${JSON.stringify(aside)}`;
}

function milliseconds(instant: number): number {
  return Math.max(0, Math.round(instant));
}

const NO_EVENTS: readonly CeleryEvent[] = [];
const NOTHING: Remembered = { marks: [], isLocked: false, aside: NO_EVENTS };

function read(answer: string, noted?: Note): Remembered {
  if (answer === "") return noted === undefined ? NOTHING : { marks: noted.marks, isLocked: false, aside: NO_EVENTS };
  const isLocked = answer.startsWith("!");
  const [marks = "", ...aside] = answer.slice(isLocked ? 1 : 0).split("\n");
  return {
    marks: marks.split(" ").filter((mark) => mark !== ""),
    isLocked,
    aside: aside.flatMap((line) => JSON.parse(line) as CeleryEvent[]),
  };
}

// The script behind the memory of attempts. One value a task, in three parts:
//
//   <described>;<finished>;<holder>;<until>;<marks>      instants in milliseconds; marks with a space after each
//   <JSON array of events>                               what was set aside, one line for each batch
//
// Marks are only ever added, so that what is known does not depend on who told what first.

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
const NOTE_ATTEMPTS = `
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

// What is known of a task's attempts, as marks: `+` for one that is wanted and `-` for one that is not, `s` where its `task-sent` told and `r`
// where its `task-received` did, and which attempt it is. `?` says that events passed of which nothing was known. Marks are only added, and what
// follows from them does not depend on the order in which they come.

/** What follows for the task as a whole. */
export type Standing = "kept" | "excluded" | "unknown";

/** Events have passed of which nothing was known. */
export const PASSED = "?";
/** An unwanted attempt of which nothing else is known any more. */
export const UNWANTED = "-s";

/** Undefined for a description that has neither name nor queue. One that another filter has marked is not wanted. */
export function markOf(event: Description, filter: EventFilter): string | undefined {
  const verdict = event.excluded === true ? "excluded" : filter.verdictOn(event);
  if (verdict === undefined) return undefined;
  return `${verdict === "included" ? "+" : "-"}${event.type === "task-sent" ? "s" : "r"}${attemptOf(event)}`;
}

/**
 * A task is kept if any attempt of it is wanted. An attempt is judged by its `task-sent`, as its `task-received` has no queue, and perhaps a
 * shadow name; by its `task-received` where there is no `task-sent`, or until it comes.
 */
export function standingOf(marks: readonly string[]): Standing {
  let excluded = false;
  for (const mark of marks) {
    if (mark.startsWith("+s")) return "kept";
    if (mark.startsWith("+r") && !marks.includes(`-s${mark.slice(2)}`)) return "kept";
    if (mark.startsWith("-")) excluded = true;
  }
  return excluded ? "excluded" : "unknown";
}

/** Whether a `task-sent` of an attempt that is wanted is known: nothing changes that any more. */
export function isKeptForGood(marks: readonly string[]): boolean {
  return marks.some((mark) => mark.startsWith("+s"));
}

/** Whether any attempt is not wanted. */
export function hasUnwanted(marks: readonly string[]): boolean {
  return marks.some((mark) => mark.startsWith("-"));
}

/** Whether events may have passed before the task was excluded. */
export function hasPassed(marks: readonly string[]): boolean {
  return marks.some((mark) => mark === PASSED || mark.startsWith("+"));
}

/** Whether the attempt that an event describes is not wanted, as far as these marks and the event tell. */
export function isUnwanted(event: Description, marks: readonly string[], filter: EventFilter): boolean {
  const own = markOf(event, filter)?.startsWith("-") === true;
  if (event.type === "task-sent") return own;
  const attempt = attemptOf(event);
  const [wanted, unwanted] = [marks.includes(`+s${attempt}`), marks.includes(`-s${attempt}`)];
  return wanted === unwanted ? own : unwanted;
}

/** The same in both descriptions of an attempt, and mostly another in those of another attempt: a retry, a replacement, the last task of a chain. */
function attemptOf({ retries = 0, again = false, parent_id = "" }: Description): string {
  return `${Math.max(0, retries)}${again ? "a" : ""}${parent_id === "" ? "" : `.${parent_id.replaceAll(/[^0-9A-Za-z]/g, "").slice(-8)}`}`;
}

/** Whether the message was sent from within the task itself: a retry, or a replacement. */
export function isFurtherAttempt(event: CeleryEvent): boolean {
  const { again = false, retries = 0 } = event as { readonly again?: boolean; readonly retries?: number };
  return again || retries > 0;
}
