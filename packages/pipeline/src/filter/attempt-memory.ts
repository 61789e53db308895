/** Remembers in Redis what is known of the attempts of tasks, for the events that carry neither name nor queue. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import type { RedisConnection } from "@celery-metrics-exporter/runtime";
import { withRedis } from "../queue/redis-errors.ts";
import type { Description, EventFilter } from "./task-filter.ts";

const DEFAULT_EXPIRY_SECONDS = 7 * 24 * 3_600;
/**
 * Expiry after a task's final event, when only stragglers come. Filtered tasks are often the frequent ones: a week of them would fill
 * Redis.
 */
const FINISHED_EXPIRY_SECONDS = 600;
/** The same for a task with events set aside and no name or queue that excludes it. Some clients never send either. */
export const DOUBTFUL_EXPIRY_SECONDS = 120;
/** Duration of a lock: longer than forgetting may take. */
const LOCK_MS = 60_000;

/** What to remember of one task. */
export interface Note {
  readonly marks: readonly string[];
  /** The time of the latest description of an attempt, in milliseconds since the epoch; 0 if there is none. */
  readonly describedAt?: number;
  /** The time of the latest end, in the same form. */
  readonly finishedAt?: number;
  /** Events to set aside, in case another attempt keeps the task. */
  readonly aside?: readonly CeleryEvent[];
  /**
   * Set if these marks keep the task. Both values request the events that were set aside, if the task was excluded before. If it was not,
   * `for good` drops them, because they are not needed any more.
   */
  readonly keeps?: "for now" | "for good";
}

/** What is remembered of one task, including what was just noted. */
export interface Remembered {
  readonly marks: readonly string[];
  /** Whether another process is forgetting the task now. */
  readonly isLocked: boolean;
  /** The events that were set aside, if they were requested. */
  readonly aside: readonly CeleryEvent[];
}

export interface AttemptMemoryOptions {
  readonly redis: RedisConnection;
  /** Contains a `{hash tag}`, so that all keys are in one slot of a Redis Cluster, as the script requires. */
  readonly prefix: string;
  /**
   * The process that remembers: `receiver`, or the exporter's name. Each has its own memory, because each finishes a task at a different
   * time, and expiry is counted from there.
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
   * Notes something about these tasks (or nothing, if undefined) and returns what is known of them, in one round trip. Noting the same
   * again changes nothing.
   *
   * @throws {UnavailableError} if Redis is unavailable. Some may be noted; call again.
   */
  async note(notes: ReadonlyMap<string, Note | undefined>): Promise<Map<string, Remembered>> {
    const known = await this.#run([...notes.keys()], Array.from(notes.values(), written));
    return new Map(Array.from(notes, ([id, note], index) => [id, read(known[index] ?? "", note)]));
  }

  /**
   * Locks these tasks for a minute while they are being forgotten, and returns what is known of them. `isLocked` is true for those that
   * another holder is forgetting.
   *
   * @param holder a unique name.
   * @throws {UnavailableError} if Redis is unavailable.
   */
  async lock(ids: readonly string[], holder: string): Promise<Map<string, Remembered>> {
    const known = await this.#run(
      ids,
      ids.map(() => `l${holder}`),
    );
    return new Map(ids.map((id, index) => [id, read(known[index] ?? "")]));
  }

  /** @throws {UnavailableError} if Redis is unavailable. The locks then expire. */
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

// The script behind the memory of attempts. Each task has one value, whose lines are:
//
//   <described>;<finished>;<holder>;<until>;<marks>      instants in milliseconds; a space after each mark
//   <JSON array of events>                               the events set aside, one line per batch
//
// Marks are only ever added, so what is known does not depend on the order in which they were noted.

/**
 * KEYS: the tasks. ARGV: expiry in seconds of an unfinished task, of a finished task, and of a finished task with events set aside and no
 * mark that excludes it; the duration of a lock in milliseconds; then for each task an empty text, to read only; or `<kind><value>`, with
 * the value that an unknown task gets; or `l<holder>` or `u<holder>`. The kinds (in capitals if this value alone shows that the task is
 * finished):
 *
 *   n  adds
 *   k  adds, and returns the events set aside if the task was excluded before; otherwise drops them, because they are not needed any more
 *   w  adds, and returns the events set aside if the task was excluded before
 *   l  locks, unless another holder has the lock; u unlocks
 *
 * Replies for each task with an empty text if nothing was known; otherwise with `!` if another holder has locked it, its marks, and the
 * events set aside if they are returned.
 */
const NOTE_ATTEMPTS = `
local open, done, doubtful, lease = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local MOST_MARKS, MOST_ASIDE = 4096, 32768
local find, sub = string.find, string.sub

-- Called only if a task is locked, which is rare.
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

-- Bounds the marks of a task with thousands of attempts. A mark that keeps the task is still added, unless one keeps it for good already.
local function add(marks, mark)
  if string.find(' ' .. marks, ' ' .. mark .. ' ', 1, true) then return marks end
  if #marks > MOST_MARKS and (string.sub(mark, 1, 1) ~= '+' or string.find(marks, '+s', 1, true)) then return marks end
  return marks .. mark .. ' '
end

-- Keeps the latest lines: a further attempt comes after the events that it may need.
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
  -- The same batch may come many times, so a line is added once. No line is a part of another, because each is a JSON array.
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

// What is known of a task's attempts, as marks. A mark is `+` for a wanted attempt or `-` for an unwanted one, then `s` if its `task-sent`
// shows that or `r` if its `task-received` does, then the attempt. The mark `?` means that events passed while nothing was known of the
// task. Marks are only added, and what follows from them does not depend on their order.

/** The decision on the task as a whole. */
export type Standing = "kept" | "excluded" | "unknown";

/** The mark of a task whose events passed while nothing was known of it. */
export const PASSED = "?";
/** The mark of an unwanted attempt of which nothing else is known any more. */
export const UNWANTED = "-s";

/** The mark for a description; undefined if it has neither name nor queue. An attempt that another filter has marked is unwanted. */
export function markOf(event: Description, filter: EventFilter): string | undefined {
  const verdict = event.excluded === true ? "excluded" : filter.verdictOn(event);
  if (verdict === undefined) return undefined;
  return `${verdict === "included" ? "+" : "-"}${event.type === "task-sent" ? "s" : "r"}${attemptOf(event)}`;
}

/**
 * A task is kept if any of its attempts is wanted. An attempt is judged by its `task-sent`, because its `task-received` has no queue and
 * may have a shadow name. It is judged by its `task-received` if it has no `task-sent`, or until that comes.
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

/** Whether the `task-sent` of a wanted attempt is known. Then nothing can exclude the task any more. */
export function isKeptForGood(marks: readonly string[]): boolean {
  return marks.some((mark) => mark.startsWith("+s"));
}

/** Whether any attempt is unwanted. */
export function hasUnwanted(marks: readonly string[]): boolean {
  return marks.some((mark) => mark.startsWith("-"));
}

/** Whether events may have passed before the task was excluded. */
export function hasPassed(marks: readonly string[]): boolean {
  return marks.some((mark) => mark === PASSED || mark.startsWith("+"));
}

/** Whether the attempt that an event describes is unwanted, according to these marks and the event. */
export function isUnwanted(event: Description, marks: readonly string[], filter: EventFilter): boolean {
  const own = markOf(event, filter)?.startsWith("-") === true;
  if (event.type === "task-sent") return own;
  const attempt = attemptOf(event);
  const [wanted, unwanted] = [marks.includes(`+s${attempt}`), marks.includes(`-s${attempt}`)];
  return wanted === unwanted ? own : unwanted;
}

/**
 * Identifies an attempt. It is the same in both descriptions of an attempt, and usually differs between attempts: a retry, a replacement,
 * the last task of a chain.
 */
function attemptOf({ retries = 0, again = false, parent_id = "" }: Description): string {
  return `${Math.max(0, retries)}${again ? "a" : ""}${parent_id === "" ? "" : `.${parent_id.replaceAll(/[^0-9A-Za-z]/g, "").slice(-8)}`}`;
}

/** Whether the task itself sent this message: as a retry, or as its replacement. */
export function isFurtherAttempt(event: CeleryEvent): boolean {
  const { again = false, retries = 0 } = event as { readonly again?: boolean; readonly retries?: number };
  return again || retries > 0;
}
