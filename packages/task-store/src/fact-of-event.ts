/** Turns an event into the fact it states; the layout is in `fact.ts`. */
import { MAX_TIMESTAMP, isFinal, reportsExit, stateOf, toMicroseconds, type TaskEvent } from "@celery-metrics-exporter/events";
import { toBase36 } from "./base36.ts";
import { exceptionClass } from "./exception-class.ts";
import { DETAIL, EXCLUDED, STATE_LETTERS, TERMINATED, UNKNOWN_TASK, type FactOptions, type FinalState } from "./fact.ts";
import { hostHash } from "./short-hash.ts";
import { storedText } from "./texts.ts";

const MAX_MICROSECONDS = MAX_TIMESTAMP * 1e6;
const MAX_WORKER_LENGTH = 200;

type Final = Extract<TaskEvent, { readonly type: "task-succeeded" | "task-failed" | "task-revoked" | "task-rejected" }>;

/** The field that holds what an event says; undefined for one that the Store has no use for. */
export function factOf(event: TaskEvent): string | undefined {
  switch (event.type) {
    case "task-sent":
      return trimEnd(`s${instant(event.timestamp)}.${nameKey(event)}.${textKey(event.queue)}${attempt(event)}`);
    case "task-received":
      return trimEnd(`r${instant(event.timestamp)}.${hostHash(event.hostname)}.${nameKey(event)}${attempt(event)}`);
    case "task-started":
      return `b${instant(event.timestamp)}.${hostHash(event.hostname)}`;
    case "task-succeeded":
    case "task-failed":
    case "task-revoked":
    case "task-rejected":
      return isFinal(event) ? finalOf(event) : undefined;
    case "task-retried":
      return undefined;
    default:
      return event satisfies never;
  }
}

/** What the opt-in tags need of an event, as the value of its fact has it; empty for nothing. */
export function detailsOf(event: TaskEvent, { keepWorker, keepException }: FactOptions): string {
  if (event.type === "task-sent" || event.type === "task-received") return "";
  const worker = keepWorker ? event.hostname.replace(/[|\p{Surrogate}]/gu, "_").slice(0, MAX_WORKER_LENGTH) : "";
  const exception = keepException && event.type === "task-failed" ? (exceptionClass(event.exception ?? "") ?? "") : "";
  if (exception !== "") return `${DETAIL}${worker}${DETAIL}${exception}`;
  return worker === "" ? "" : `${DETAIL}${worker}`;
}

function finalOf(event: Final): string {
  return `f${instant(event.timestamp)}.${hostHash(event.hostname)}.${STATE_LETTERS[stateOf(event) as FinalState]}${outcome(event)}`;
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

/** For a task that its worker does not know Celery tells no traceback, unlike where a task raises the same (celery/worker/consumer). */
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
