/**
 * A fact is what one event says about a task. The Store keeps it as the NAME of a hash field. Adding a fact is adding to a set, so it does
 * not matter how often or in which order facts arrive.
 *
 *   s<at>.<name>.<queue>.<retries>.<eta>       task-sent
 *   r<at>.<hostname>.<name>.<retries>.<eta>    task-received
 *   b<at>.<hostname>                           task-started ("begun")
 *   f<at>.<hostname>.<state><detail>           a final
 *   y<at>.<hostname>                           task-retried
 *   j<at>.<hostname>                           task-rejected and requeued, if `everyEvent` is on
 *
 * Instants are in microseconds and runtimes in nanoseconds, both in base 36. Hostnames are hashed. Empty parts at the end are omitted. Names
 * and queues are keys of texts in the same hash (`texts.ts`). A `!` after the name marks an attempt that a filter excludes. The detail of a
 * success is its runtime. The detail of other finals is `1` if they belong to a termination (the revocation of a running task, or the
 * failure of a task whose process got a signal), and `0` for the failure of a task that its worker does not know.
 *
 * The field's name is the fact's identity. The value is not part of it. It is `|<worker>|<exception>`, if the opt-in tags need them, and
 * otherwise empty. Once something of the task was reported, a `0` precedes it if the fact itself was not (see `state.ts`).
 */
import { MAX_TIMESTAMP, type TaskEvent, isFinal, reportsExit, stateOf, toMicroseconds } from "@celery-metrics-exporter/celery";
import { hostnameHash, ownCopy, readBase36, toBase36 } from "./encoding.ts";
import { exceptionClass } from "./exception-class.ts";
import { storedText } from "./texts.ts";

/** The states that end a task, or one run of it. */
export const FINAL_STATES = ["SUCCESS", "FAILURE", "REVOKED", "REJECTED"] as const;
export type FinalState = (typeof FINAL_STATES)[number];

interface FactBase {
  /** The hash field. */
  readonly field: string;
  /** Microseconds since the epoch, by the sender's clock. */
  readonly at: number;
  /** Whether the metrics that follow from it were reported. */
  readonly reported: boolean;
}

/** What `task-sent` and `task-received` both say about an attempt's message. */
interface Message extends FactBase {
  readonly retries: number;
  /** Microseconds since the epoch. */
  readonly eta: number | undefined;
  /** The key of the name's text; empty if the event had none. */
  readonly name: string;
  /** Whether a filter excludes this attempt. */
  readonly excluded: boolean;
}

export interface SentFact extends Message {
  /** The key of the queue's text; empty if the event had none. */
  readonly queue: string;
}

export interface ReceivedFact extends Message {
  readonly hostname: string;
  /** Only if `keepWorker` and `everyEvent` are on. */
  readonly worker: string | undefined;
}

export interface StartedFact extends FactBase {
  readonly hostname: string;
  /** Only if `keepWorker` is on. */
  readonly worker: string | undefined;
}

export interface FinalFact extends FactBase {
  readonly hostname: string;
  readonly state: FinalState;
  /** Seconds; only for SUCCESS. */
  readonly runtime: number | undefined;
  /** REVOKED: the task was running and was terminated. FAILURE: its process got a signal, such as a termination sends. */
  readonly terminated: boolean;
  /**
   * Whether it ended no run. REVOKED: the message expired, or was revoked before it started. FAILURE: its worker does not know the task.
   */
  readonly unbegun: boolean;
  readonly worker: string | undefined;
  /** The exception's class, if `keepException` is on. */
  readonly exception: string | undefined;
}

/** An event after which the task's message comes again: a retry, or a rejection that puts the message back into its queue. */
export interface RepeatFact extends FactBase {
  readonly hostname: string;
  readonly kind: "retried" | "requeued";
  readonly worker: string | undefined;
}

/** What to keep beyond the facts that decide how a task ends. All of it costs memory. */
export interface FactOptions {
  /** For the opt-in tags and labels. */
  readonly keepWorker: boolean;
  readonly keepException: boolean;
  /** Whether every event is counted. Then requeued rejections are facts too, and a receipt keeps its worker. Default: false. */
  readonly everyEvent?: boolean;
}

/** A task's facts by kind. */
export interface Facts {
  readonly sent: readonly SentFact[];
  readonly received: readonly ReceivedFact[];
  readonly started: readonly StartedFact[];
  readonly finals: readonly FinalFact[];
  /** Requeued rejections only if `everyEvent` is on. */
  readonly repeats: readonly RepeatFact[];
}

/** The letter for each final state. */
const STATE_LETTERS: Readonly<Record<FinalState, string>> = { SUCCESS: "S", FAILURE: "F", REVOKED: "V", REJECTED: "J" };

/** The detail of a final that belongs to a termination. */
const TERMINATED = "1";

/** The detail of the failure of a task that its worker does not know. */
const UNKNOWN_TASK = "0";

/** Follows the name of an attempt that a filter excludes. */
export const EXCLUDED = "!";

/** The first character of a fact's value if its metrics were not reported, in an entry of which something was. */
const UNREPORTED = "0";

/** Precedes each value that an opt-in tag needs. */
const DETAIL = "|";

// Writing: from an event to its fact.

const MAX_MICROSECONDS = MAX_TIMESTAMP * 1e6;
const MAX_WORKER_LENGTH = 200;

type Final = Extract<TaskEvent, { readonly type: "task-succeeded" | "task-failed" | "task-revoked" | "task-rejected" }>;

/** The field for an event; undefined for an event that the Store does not use. */
export function factOf(event: TaskEvent, { everyEvent = false }: Pick<FactOptions, "everyEvent"> = {}): string | undefined {
  switch (event.type) {
    case "task-sent":
      return trimEnd(`s${instant(event.timestamp)}.${nameKey(event)}.${textKey(event.queue)}${attempt(event)}`);
    case "task-received":
      return trimEnd(`r${instant(event.timestamp)}.${hostnameHash(event.hostname)}.${nameKey(event)}${attempt(event)}`);
    case "task-started":
      return `b${instant(event.timestamp)}.${hostnameHash(event.hostname)}`;
    case "task-succeeded":
    case "task-failed":
    case "task-revoked":
    case "task-rejected":
      if (isFinal(event)) return finalOf(event);
      return everyEvent ? `j${instant(event.timestamp)}.${hostnameHash(event.hostname)}` : undefined;
    case "task-retried":
      return `y${instant(event.timestamp)}.${hostnameHash(event.hostname)}`;
    default:
      return event satisfies never;
  }
}

/** What the opt-in tags need from an event, as part of its fact's value; may be empty. */
export function detailsOf(event: TaskEvent, { keepWorker, keepException, everyEvent = false }: FactOptions): string {
  if (event.type === "task-sent" || (event.type === "task-received" && !everyEvent)) return "";
  const worker = keepWorker ? event.hostname.replace(/[|\p{Surrogate}]/gu, "_").slice(0, MAX_WORKER_LENGTH) : "";
  const exception = keepException && event.type === "task-failed" ? (exceptionClass(event.exception ?? "") ?? "") : "";
  if (exception !== "") return `${DETAIL}${worker}${DETAIL}${exception}`;
  return worker === "" ? "" : `${DETAIL}${worker}`;
}

function finalOf(event: Final): string {
  return `f${instant(event.timestamp)}.${hostnameHash(event.hostname)}.${STATE_LETTERS[stateOf(event) as FinalState]}${outcome(event)}`;
}

function outcome(event: Final): string {
  switch (event.type) {
    case "task-succeeded":
      return event.runtime === undefined ? "" : nanoseconds(event.runtime);
    case "task-failed":
      if (reportsExit(event)) return TERMINATED;
      return isOfUnknownTask(event) ? UNKNOWN_TASK : "";
    case "task-revoked":
      return event.terminated === true ? TERMINATED : "";
    default:
      return "";
  }
}

/**
 * For a task that its worker does not know, Celery sends no traceback. If a task raises the same exception, it does
 * (celery/worker/consumer).
 */
function isOfUnknownTask({ exception = "", traceback }: Extract<Final, { readonly type: "task-failed" }>): boolean {
  return traceback === undefined && exception.startsWith("NotRegistered(");
}

function nameKey({ name, excluded }: { readonly name?: string; readonly excluded?: boolean }): string {
  return excluded === true ? `${textKey(name)}${EXCLUDED}` : textKey(name);
}

function textKey(text: string | undefined): string {
  return text === undefined || text === "" ? "" : storedText(text).key;
}

function attempt(event: { readonly retries?: number; readonly eta?: number }): string {
  const retries = event.retries === undefined || event.retries <= 0 ? "" : event.retries.toString(36);
  return `.${retries}.${event.eta === undefined ? "" : instant(event.eta)}`;
}

function instant(seconds: number): string {
  return toBase36(Math.min(Math.max(toMicroseconds(seconds), 0), MAX_MICROSECONDS));
}

function nanoseconds(seconds: number): string {
  return toBase36(Math.min(Math.max(Math.round(seconds * 1e9), 0), Number.MAX_SAFE_INTEGER));
}

function trimEnd(field: string): string {
  let end = field.length;
  while (field[end - 1] === ".") end--;
  return field.slice(0, end);
}

// Reading: from the fields of a hash to facts.

const STATES: ReadonlyMap<string, FinalState> = new Map(
  Object.entries(STATE_LETTERS).map(([state, letter]) => [letter, state as FinalState]),
);

const NO_FACTS: readonly never[] = [];

/** One bit per list. */
const OWN = { sent: 1, received: 2, started: 4, finals: 8, repeats: 16 } as const;

/** Gathers the facts of one task. */
export class FactCollector implements Facts {
  sent: readonly SentFact[];
  received: readonly ReceivedFact[];
  started: readonly StartedFact[];
  finals: readonly FinalFact[];
  repeats: readonly RepeatFact[];
  /** The lists that no other collector has. The others are copied before they change: mostly a change adds to one of them. */
  #own = 0;

  /** @param from facts to begin with. This collector does not change them, and nothing else may from now on. */
  constructor(from?: Facts) {
    this.sent = from?.sent ?? NO_FACTS;
    this.received = from?.received ?? NO_FACTS;
    this.started = from?.started ?? NO_FACTS;
    this.finals = from?.finals ?? NO_FACTS;
    this.repeats = from?.repeats ?? NO_FACTS;
  }

  /**
   * Adds the fact that a field holds. Ignores other fields, including those that a later version may add.
   *
   * @param hasMarks whether the facts without a mark were reported; see `isMarked`.
   */
  add(field: string, value: string, hasMarks = false): void {
    const reported = hasMarks && value[0] !== UNREPORTED;
    switch (field[0]) {
      case "s":
        this.#addSent(field, reported);
        break;
      case "r":
        this.#addReceived(field, reported, value);
        break;
      case "b":
        this.#addStart(field, reported, value);
        break;
      case "f":
        this.#addFinal(field, reported, value);
        break;
      case "y":
      case "j":
        this.#addRepeat(field, reported, value);
        break;
      default:
    }
  }

  /** Whether it has the fact that a field holds. */
  has(field: string): boolean {
    for (const fact of this.#listOf(field)) if (fact.field === field) return true;
    return false;
  }

  #listOf(field: string): readonly FactBase[] {
    switch (field[0]) {
      case "s":
        return this.sent;
      case "r":
        return this.received;
      case "b":
        return this.started;
      case "f":
        return this.finals;
      default:
        return this.repeats;
    }
  }

  /** Whether the list is the collector's own. From now on it is. */
  #takes(list: number): boolean {
    const isOwn = (this.#own & list) !== 0;
    this.#own |= list;
    return isOwn;
  }

  #addSent(field: string, reported: boolean): void {
    const nameAt = afterDot(field, 1);
    const queueAt = afterDot(field, nameAt);
    const retriesAt = afterDot(field, queueAt);
    const name = partAt(field, nameAt);
    const excluded = name.endsWith(EXCLUDED);
    this.sent = added(this.sent, this.#takes(OWN.sent), {
      field,
      at: instantAt(field),
      reported,
      name: excluded ? name.slice(0, -1) : name,
      excluded,
      queue: partAt(field, queueAt),
      retries: readBase36(field, retriesAt),
      eta: etaAt(field, afterDot(field, retriesAt)),
    });
  }

  #addReceived(field: string, reported: boolean, value: string): void {
    const [worker] = readDetails(value);
    const hostnameAt = afterDot(field, 1);
    const nameAt = afterDot(field, hostnameAt);
    const retriesAt = afterDot(field, nameAt);
    const name = partAt(field, nameAt);
    const excluded = name.endsWith(EXCLUDED);
    this.received = added(this.received, this.#takes(OWN.received), {
      field,
      at: instantAt(field),
      reported,
      name: excluded ? name.slice(0, -1) : name,
      excluded,
      hostname: partAt(field, hostnameAt),
      retries: readBase36(field, retriesAt),
      eta: etaAt(field, afterDot(field, retriesAt)),
      worker,
    });
  }

  #addStart(field: string, reported: boolean, value: string): void {
    const [worker] = readDetails(value);
    this.started = added(this.started, this.#takes(OWN.started), {
      field,
      at: instantAt(field),
      reported,
      hostname: partAt(field, afterDot(field, 1)),
      worker,
    });
  }

  #addRepeat(field: string, reported: boolean, value: string): void {
    const [worker] = readDetails(value);
    const kind = field[0] === "y" ? "retried" : "requeued";
    this.repeats = added(this.repeats, this.#takes(OWN.repeats), {
      field,
      at: instantAt(field),
      reported,
      hostname: partAt(field, afterDot(field, 1)),
      kind,
      worker,
    });
  }

  #addFinal(field: string, reported: boolean, value: string): void {
    const hostname = afterDot(field, 1);
    const outcomeAt = afterDot(field, hostname);
    const state = STATES.get(field.charAt(outcomeAt));
    if (state === undefined) return;
    const [worker, exception] = readDetails(value);
    const detail = field.slice(outcomeAt + 1);
    const runtime = state === "SUCCESS" && detail !== "" ? readBase36(detail, 0) / 1e9 : undefined;
    const terminated = state !== "SUCCESS" && detail === TERMINATED;
    const unbegun = state === "REVOKED" ? !terminated : state === "FAILURE" && detail === UNKNOWN_TASK;
    this.finals = added(this.finals, this.#takes(OWN.finals), {
      field,
      at: instantAt(field),
      reported,
      hostname: partAt(field, hostname),
      state,
      runtime,
      terminated,
      unbegun,
      worker,
      exception,
    });
  }
}

/** @param isOwn whether the list itself may be changed. */
function added<F>(facts: readonly F[], isOwn: boolean, fact: F): readonly F[] {
  if (!isOwn) return facts.length === 0 ? [fact] : [...facts, fact];
  (facts as F[]).push(fact);
  return facts;
}

function instantAt(field: string): number {
  return readBase36(field, 1);
}

function etaAt(field: string, from: number): number | undefined {
  return from < field.length ? readBase36(field, from) : undefined;
}

/** The index after the next dot; the text's length if there is none. */
function afterDot(text: string, from: number): number {
  const dot = text.indexOf(".", from);
  return dot === -1 ? text.length : dot + 1;
}

function partAt(text: string, from: number): string {
  const dot = text.indexOf(".", from);
  return dot === -1 ? text.slice(from) : text.slice(from, dot);
}

const NO_DETAILS = [undefined, undefined] as const;

/** What the opt-in tags need. Empty values count as undefined. */
function readDetails(value: string): readonly [worker: string | undefined, exception: string | undefined] {
  // The usual case.
  if (value.length < 2) return NO_DETAILS;
  const [, worker = "", exception = ""] = value.split(DETAIL);
  return [worker === "" ? undefined : ownCopy(worker), exception === "" ? undefined : ownCopy(exception)];
}
