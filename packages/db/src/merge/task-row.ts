/** Converts an event to a row of `celery_task`. */
import {
  type CeleryEvent,
  PRECEDENCE,
  STATE_RANK,
  type TaskEvent,
  type TaskRevoked,
  type TaskState,
  cleanText,
  isTaskEvent,
  orderingTimestamp,
  precedenceOf,
  reportsExit,
  stateOf,
  toMicroseconds,
} from "@celery-metrics-exporter/celery";

/** Whole microseconds since the epoch. */
type Instant = number;
type Optional<T> = T | undefined;

/**
 * Offset in microseconds by which a revocation that ended no run counts as earlier: 100 years, so that it loses to every REJECTED. Other ends have a
 * greater precedence.
 */
const NO_RUN_YIELDS = 100 * 365.25 * 86_400 * 1e6;

/** A row in memory: keys are column names, instants are microseconds, and undefined is NULL. */
export interface TaskRow {
  readonly task_id: string;
  readonly name: Optional<string>;
  readonly queue: Optional<string>;
  readonly first_name: Optional<string>;
  readonly first_queue: Optional<string>;
  readonly status: TaskState;
  readonly worker: Optional<string>;
  readonly args: Optional<string>;
  readonly kwargs: Optional<string>;
  readonly args_json: unknown;
  readonly kwargs_json: unknown;
  readonly result: Optional<string>;
  readonly exception: Optional<string>;
  readonly traceback: Optional<string>;
  readonly revoked_by: Optional<string>;
  readonly retries: Optional<number>;
  readonly root_id: Optional<string>;
  readonly parent_id: Optional<string>;
  readonly eta: Optional<Instant>;
  readonly expires: Optional<Instant>;
  readonly sent_at: Optional<Instant>;
  readonly received_at: Optional<Instant>;
  readonly started_at: Optional<Instant>;
  /** Seconds. */
  readonly runtime: Optional<number>;
  readonly last_event_at: Instant;
  readonly state_precedence: number;
  readonly state_rank: number;
  readonly state_at: Instant;
  readonly state_hostname: string;
  readonly worker_rank: Optional<number>;
  readonly worker_at: Optional<Instant>;
  readonly state_order_at: Optional<Instant>;
  readonly name_at: Optional<Instant>;
  readonly started_hostname: Optional<string>;
  readonly run_started_at: Optional<Instant>;
  readonly run_hostname: Optional<string>;
}

export type TaskColumn = keyof TaskRow;
export type MutableTaskRow = { -readonly [column in TaskColumn]: TaskRow[column] };

/** The row from this event alone; undefined for an event that neither creates nor changes a task. `args_json` and `kwargs_json` are not filled in yet. */
export function toTaskRow(event: CeleryEvent): MutableTaskRow | undefined {
  return isTaskEvent(event) ? fromTaskEvent(event) : undefined;
}

function fromTaskEvent(event: TaskEvent): MutableTaskRow {
  const at = toMicroseconds(event.timestamp);
  const hostname = storableText(event.hostname);
  const status = stateOf(event);
  const rank = STATE_RANK[status];
  const fromWorker = event.type !== "task-sent";
  const description = event.type === "task-sent" || event.type === "task-received" ? event : undefined;
  const failure = event.type === "task-failed" || event.type === "task-retried" ? event : undefined;
  const name = storableOrAbsent(description?.name);
  const queue = event.type === "task-sent" ? storableOrAbsent(event.queue) : undefined;
  const isStart = event.type === "task-started";
  const success = event.type === "task-succeeded" ? event : undefined;
  const endedNoRun = event.type === "task-revoked" && event.terminated !== true;
  return {
    task_id: storableText(event.uuid),
    name,
    queue,
    first_name: name,
    first_queue: queue,
    status,
    worker: fromWorker ? hostname : undefined,
    args: storableOrAbsent(description?.args),
    kwargs: storableOrAbsent(description?.kwargs),
    args_json: undefined,
    kwargs_json: undefined,
    result: storableOrAbsent(success?.result),
    exception: storableOrAbsent(failure?.exception),
    traceback: storableOrAbsent(failure?.traceback),
    revoked_by: event.type === "task-revoked" ? storableOrAbsent(revokedBy(event)) : undefined,
    retries: description?.retries,
    root_id: storableOrAbsent(description?.root_id),
    parent_id: storableOrAbsent(description?.parent_id),
    eta: microsecondsOf(description?.eta),
    expires: microsecondsOf(description?.expires),
    sent_at: event.type === "task-sent" ? at : undefined,
    received_at: event.type === "task-received" ? at : undefined,
    started_at: isStart ? at : undefined,
    runtime: success?.runtime,
    last_event_at: at,
    state_precedence: endedNoRun ? PRECEDENCE.rejected : precedenceOf(event),
    state_rank: rank,
    state_at: at,
    state_hostname: hostname,
    worker_rank: fromWorker ? rank : undefined,
    worker_at: fromWorker ? at : undefined,
    state_order_at: endedNoRun ? at - NO_RUN_YIELDS : reportsExit(event) ? toMicroseconds(orderingTimestamp(event)) : undefined,
    name_at: description === undefined ? undefined : at,
    started_hostname: isStart ? hostname : undefined,
    run_started_at: isStart ? at : undefined,
    run_hostname: isStart ? hostname : undefined,
  };
}

function microsecondsOf(seconds: number | undefined): Instant | undefined {
  return seconds === undefined ? undefined : toMicroseconds(seconds);
}

// The reason for a revocation, in a form to filter and group by.

/** Linux's signal numbers, which Celery sends. */
const SIGNALS: ReadonlyMap<string, string> = new Map([
  ["1", "SIGHUP"],
  ["2", "SIGINT"],
  ["3", "SIGQUIT"],
  ["6", "SIGABRT"],
  ["9", "SIGKILL"],
  ["10", "SIGUSR1"],
  ["12", "SIGUSR2"],
  ["14", "SIGALRM"],
  ["15", "SIGTERM"],
]);

/**
 * - `expired`: the task expired before it started.
 * - `terminated (SIGTERM)`: the task was running, and its process got a signal. `terminated` if the signal is unknown. A signal without a name here is
 *   kept as Celery sent it.
 * - `request`: the task was revoked before it ran.
 *
 * Undefined if the event does not say.
 */
export function revokedBy({ terminated, expired, signum }: TaskRevoked): string | undefined {
  if (terminated === true) return signum === undefined ? "terminated" : `terminated (${SIGNALS.get(signum) ?? signum})`;
  if (expired === true) return "expired";
  return terminated === false || expired === false ? "request" : undefined;
}

// Text that Postgres can store: without NUL, which neither `text` nor `jsonb` accepts, and without lone surrogates, which are not valid UTF-8. Decoded
// events already comply. This makes sure of it, because one NUL from another producer of the queue would cost a batch its retries.

/** Removes NUL and replaces lone surrogates with U+FFFD. */
export function storableText(text: string): string {
  return cleanText(text, Number.POSITIVE_INFINITY);
}

/** Like `storableText`. An empty text counts as absent, so that SQL and JavaScript need not distinguish the two. */
export function storableOrAbsent(text: string | undefined): string | undefined {
  return text === undefined ? undefined : storableText(text) || undefined;
}
