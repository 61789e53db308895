/**
 * The attempts of a task, derived from its row and its events. The result depends only on what Celery has reported, not on the order in which it arrived,
 * as long as the same `POSTGRES_HISTORY` was set. docs/adr/0015-task-events.md lists what cannot be known.
 */
import { type SQL, getTableColumns, getTableName, sql } from "drizzle-orm";
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import { type Drizzle, query } from "../tables/database.ts";
import { celeryTask, celeryTaskEvent, celeryWorker } from "../tables/schema.ts";
import { isoInstant } from "../read/iso-instant.ts";
import { type LostTasksOptions, isSilent } from "../workers/worker-state.ts";
import type { TaskRow } from "../merge/task-row.ts";
import type { TaskEventRow } from "./task-events.ts";

/**
 * How an attempt ended:
 *
 * - `success`, `failure`;
 * - `retry`: the task raised an exception that makes Celery send it again;
 * - `replaced`: the task called `self.replace(…)`;
 * - `rejected`: the task rejected its message;
 * - `revoked`: the task was revoked before it started (then there is no `started_at`), or terminated;
 * - `lost`: the end was never reported, and the worker is gone or another attempt has ended since. The task may also have raised `Ignore`;
 * - `running`: started, and nothing above is known;
 * - `waiting`: not started yet.
 */
export const OUTCOMES = ["success", "failure", "retry", "replaced", "rejected", "revoked", "lost", "running", "waiting"] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** Instants are ISO 8601 with microseconds, in UTC. Null is unknown, or has not happened. */
export interface Attempt {
  /** Counts from 1, in the order of starts by the clocks of their workers. */
  readonly number: number;
  readonly worker: string | null;
  /** Celery's queue. */
  readonly queue: string | null;
  /** For a message that was delivered again, only known with `POSTGRES_HISTORY=all`. */
  readonly received_at: string | null;
  readonly started_at: string | null;
  readonly ended_at: string | null;
  readonly outcome: Outcome;
  /** Only for `failure` and `retry`, like `traceback`. */
  readonly exception: string | null;
  readonly traceback: string | null;
}

const ROW_COLUMNS = [
  "queue",
  "first_queue",
  "status",
  "worker",
  "exception",
  "traceback",
  "revoked_by",
  "retries",
  "received_at",
  "started_at",
  "started_hostname",
  "run_started_at",
  "run_hostname",
  "state_precedence",
  "state_at",
  "state_hostname",
  "state_order_at",
] as const satisfies readonly (keyof TaskRow)[];

/** The columns of a row that attempts are derived from. Instants are microseconds, and undefined is NULL. */
export type AttemptRow = Pick<TaskRow, (typeof ROW_COLUMNS)[number]>;

export interface AttemptOptions {
  /** Whether a worker is known to be gone, or to have restarted since this instant (microseconds). */
  readonly isGone?: (worker: string, since: number) => boolean;
}

/** An event that ends an attempt. */
type End = Omit<TaskEventRow, "task_id" | "name" | "queue" | "retries" | "again" | "runtime">;

/** An attempt under construction. */
interface Run {
  readonly hostname: string | undefined;
  readonly startedAt: number | undefined;
  end: End | undefined;
  /** The `retries` of its message, as far as the attempts before it show. */
  retries: number;
  outcome: Outcome;
}

/** Celery reports some ends twice, milliseconds apart: two failures, a failure and a rejection. */
const REPEAT_MICROSECONDS = 1_000_000;

export function toAttempts(row: AttemptRow, events: readonly TaskEventRow[], { isGone = () => false }: AttemptOptions = {}): Attempt[] {
  const isFinal = row.state_precedence >= 2;
  const runs = toRuns(startsOf(row, events), endsOf(row, events));
  const messages = sortedBy(events.filter(isMessage), ({ at, hostname, type }) => [at, hostname, type]);
  decideOutcomes(runs, messages, isGone);
  const last = runs.at(-1);
  const isToComeAgain = last?.outcome === "retry" || last?.outcome === "replaced" || last?.end?.requeue === true;
  if (runs.length === 0 || (!isFinal && isToComeAgain)) runs.push(waitingRun(row, messages, last));

  const takeReceived = receivedTimes(row, messages);
  return runs.map((run, index) => {
    const { hostname, startedAt, end, outcome } = run;
    const isFault = outcome === "failure" || outcome === "retry";
    return {
      number: index + 1,
      worker: hostname ?? null,
      queue: queueOf(run, index === runs.length - 1, row, messages) ?? null,
      received_at: toIso(takeReceived(run)),
      started_at: toIso(startedAt),
      ended_at: toIso(end?.at),
      outcome,
      exception: (isFault ? end?.exception : undefined) ?? null,
      traceback: (isFault ? end?.traceback : undefined) ?? null,
    };
  });
}

// What is known: starts and ends, from the row and the events.

interface Start {
  readonly at: number;
  readonly hostname: string | undefined;
}

function startsOf(row: AttemptRow, events: readonly TaskEventRow[]): Start[] {
  const starts = new Map<string, Start>();
  const add = (at: number | undefined, hostname: string | undefined): void => {
    if (at !== undefined) starts.set(`${at} ${hostname ?? ""}`, { at, hostname });
  };
  for (const { type, at, hostname } of events) if (type === "task-started") add(at, hostname);
  add(row.run_started_at, row.run_hostname);
  // A row that is older than `started_hostname` does not know the worker of its first start, unless it is the only one.
  if (row.started_hostname !== undefined || row.started_at !== row.run_started_at) add(row.started_at, row.started_hostname);
  return [...starts.values()];
}

const ENDS: Readonly<Partial<Record<TaskRow["status"], TaskEvent["type"]>>> = {
  SUCCESS: "task-succeeded",
  FAILURE: "task-failed",
  REVOKED: "task-revoked",
  REJECTED: "task-rejected",
  RETRY: "task-retried",
};
const END_TYPES: ReadonlySet<string> = new Set(Object.values(ENDS));

function endsOf(row: AttemptRow, events: readonly TaskEventRow[]): End[] {
  const ends = new Map<string, End>();
  const add = (end: End): void => void ends.set(`${end.at} ${end.type} ${end.hostname}`, end);
  for (const event of events) if (END_TYPES.has(event.type)) add(event);
  const type = ENDS[row.status];
  if (type !== undefined) {
    const { state_at: at, state_hostname: hostname, exception, traceback, revoked_by, state_precedence } = row;
    const requeue = type === "task-rejected" && state_precedence < 2 ? true : undefined;
    const exited = type === "task-failed" && row.state_order_at !== undefined ? true : undefined;
    add({ type, at, hostname, exception, traceback, revoked_by, requeue, exited });
  }
  return [...ends.values()];
}

// Which end belongs to which start. Both are on the same worker, so that only one clock is involved.

function toRuns(starts: readonly Start[], ends: readonly End[]): Run[] {
  const runs = ends.filter((end) => !endsRun(end)).map((end) => newRun(end.hostname, undefined, end));
  const hostnames = new Set([...starts, ...ends].map(({ hostname }) => hostname));
  for (const hostname of hostnames) {
    runs.push(
      ...runsOn(
        hostname,
        starts.filter((start) => start.hostname === hostname),
        ends.filter((end) => end.hostname === hostname && endsRun(end)),
      ),
    );
  }
  return sortedBy(runs, ({ startedAt, end, hostname }) => [
    startedAt ?? end?.at ?? 0,
    startedAt === undefined ? 1 : 0,
    hostname ?? "",
    end?.type ?? "",
  ]);
}

/** A revocation without a termination is of a message that did not start, perhaps a copy of one that did. */
function endsRun({ type, revoked_by }: End): boolean {
  return type !== "task-revoked" || isTermination({ revoked_by });
}

function isTermination({ revoked_by }: Pick<End, "revoked_by">): boolean {
  return revoked_by?.startsWith("terminated") === true;
}

function newRun(hostname: string | undefined, startedAt: number | undefined, end?: End): Run {
  return { hostname, startedAt, end, retries: 0, outcome: "running" };
}

/** Of two runs at the same time on one worker, the one that started later is assumed to end first. */
function runsOn(hostname: string | undefined, starts: readonly Start[], ends: readonly End[]): Run[] {
  const runs: Run[] = [];
  const open: Run[] = [];
  /** The last run that ended, if none has started since. */
  let ended: Run | undefined;
  const facts = sortedBy<{ at: number; end?: End }>([...starts, ...ends.map((end) => ({ at: end.at, end }))], ({ at, end }) => [
    at,
    end?.type ?? "",
  ]);
  for (const { at, end } of facts) {
    if (end === undefined) {
      const run = newRun(hostname, at);
      runs.push(run);
      open.push(run);
      ended = undefined;
    } else if (ended?.end !== undefined && reportSameEnd(ended.end, end)) {
      ended.end = stronger(ended.end, end);
    } else {
      ended = open.pop();
      if (ended === undefined) runs.push((ended = newRun(hostname, undefined)));
      ended.end = end;
    }
  }
  return runs;
}

/** Whether two ends on one worker, without a start in between, are of the same run. */
function reportSameEnd(earlier: End, later: End): boolean {
  if ([earlier, later].some(({ type, requeue }) => type === "task-retried" || requeue === true)) return false;
  // A run can go on after the signal, and succeed.
  if (isTermination(earlier)) return true;
  if (earlier.type === "task-succeeded" && later.type === "task-succeeded") return false;
  return later.at - earlier.at <= REPEAT_MICROSECONDS;
}

/** As for the state of a row: a rejection yields to other ends, and an exit to the termination that caused it. Otherwise the later one counts. */
function stronger(earlier: End, later: End): End {
  if (later.type === "task-rejected") return earlier;
  return isTermination(earlier) && later.exited === true ? earlier : later;
}

// How each run ended.

const ENDED: Readonly<Record<string, Outcome>> = {
  "task-succeeded": "success",
  "task-failed": "failure",
  "task-retried": "retry",
  "task-rejected": "rejected",
  "task-revoked": "revoked",
};

function isMessage({ type }: TaskEventRow): boolean {
  return type === "task-sent" || type === "task-received";
}

function decideOutcomes(runs: readonly Run[], messages: readonly TaskEventRow[], isGone: (worker: string, since: number) => boolean): void {
  const lastEndAt = Math.max(
    ...runs.map(({ end, startedAt }) => (end !== undefined && (startedAt !== undefined || endsRun(end)) ? end.at : -Infinity)),
  );
  const sent = messages.filter(({ type }) => type === "task-sent");
  let retries = 0;
  for (const [index, run] of runs.entries()) {
    run.retries = retries;
    run.outcome =
      (run.end && ENDED[run.end.type]) ??
      passedOn(run, runs[index + 1]?.startedAt ?? Infinity, sent.length > 0 ? sent : messages) ??
      (lastEndAt > (run.startedAt ?? 0) || isGone(run.hostname ?? "", run.startedAt ?? 0) ? "lost" : "running");
    if (run.outcome === "retry") retries++;
    else if (run.outcome === "replaced") retries = 0;
  }
}

/** Celery reports no end of a task that replaces itself, and the `task-retried` may be lost. But the next message shows what happened. */
function passedOn({ startedAt = Infinity, retries: own }: Run, until: number, messages: readonly TaskEventRow[]): Outcome | undefined {
  const next = messages.find(
    ({ at, again, retries = 0 }) => at >= startedAt && at <= until && (retries > own || (again === true && retries === 0)),
  );
  if (next === undefined) return undefined;
  return (next.retries ?? 0) > own ? "retry" : "replaced";
}

// The message of each attempt.

function waitingRun(row: AttemptRow, messages: readonly TaskEventRow[], last: Run | undefined): Run {
  const retries = last === undefined ? 0 : last.outcome === "retry" ? last.retries + 1 : last.outcome === "replaced" ? 0 : last.retries;
  const since = last?.startedAt ?? -Infinity;
  const received = messages.findLast(
    (message) => message.type === "task-received" && (message.retries ?? 0) === retries && message.at >= since,
  );
  return { ...newRun(received?.hostname ?? (last === undefined ? row.worker : undefined), undefined), retries, outcome: "waiting" };
}

/** Returns when the message of a run was received by its worker. Each event counts once. */
function receivedTimes(row: AttemptRow, messages: readonly TaskEventRow[]): (run: Run) => number | undefined {
  const received = messages.filter(({ type }) => type === "task-received");
  const taken = new Set<TaskEventRow>();
  /** The first one, of which the row does not know the worker. */
  let first = received.some(({ at }) => at === row.received_at) ? undefined : row.received_at;
  return ({ hostname, retries, startedAt, end }) => {
    const until = startedAt ?? end?.at ?? Infinity;
    const found = received.findLast(
      (message) => message.hostname === hostname && (message.retries ?? 0) === retries && message.at <= until && !taken.has(message),
    );
    if (found !== undefined) {
      taken.add(found);
      return found.at;
    }
    if (retries > 0 || first === undefined || first > until) return undefined;
    const at = first;
    first = undefined;
    return at;
  };
}

function queueOf(
  { retries, startedAt, end }: Run,
  isLast: boolean,
  row: AttemptRow,
  messages: readonly TaskEventRow[],
): string | undefined {
  const until = startedAt ?? end?.at ?? Infinity;
  const sent = messages.filter((message) => message.type === "task-sent" && (message.retries ?? 0) === retries);
  const found = sent.findLast(({ at }) => at <= until) ?? (retries > 0 ? sent[0] : undefined);
  if (found !== undefined) return found.queue;
  if (retries === 0) return row.first_queue ?? (isLast ? row.queue : undefined);
  return isLast ? row.queue : undefined;
}

/** Sorts by several keys. */
function sortedBy<T>(items: readonly T[], keysOf: (item: T) => readonly (number | string)[]): T[] {
  return items.toSorted((a, b) => {
    const others = keysOf(b);
    for (const [index, key] of keysOf(a).entries()) {
      const other = others[index] as typeof key;
      if (key !== other) return key < other ? -1 : 1;
    }
    return 0;
  });
}

function toIso(microseconds: number | undefined): string | null {
  return microseconds === undefined ? null : isoInstant(microseconds);
}

// Reads both tables with one statement.

const instants: ReadonlySet<string> = new Set(
  [...Object.values(getTableColumns(celeryTask)), ...Object.values(getTableColumns(celeryTaskEvent))]
    .filter((column) => column.getSQLType() === "timestamp with time zone")
    .map(({ name }) => name),
);

const TASK = getTableName(celeryTask);

function selected(prefix: string, columns: readonly string[]): string {
  return columns
    .map((name) => (instants.has(name) ? `(extract(epoch from ${prefix}.${name}) * 1000000)::float8 as ${name}` : `${prefix}.${name}`))
    .join(", ");
}

const EVENT_COLUMNS = Object.values(getTableColumns(celeryTaskEvent)).map(({ name }) => name);

/** The value of `attemptsColumn`. */
export interface AttemptsFacts {
  readonly row: object;
  readonly events: readonly object[] | null;
  readonly workers: readonly WorkerSigns[] | null;
}

interface WorkerSigns {
  readonly hostname: string;
  readonly is_silent: boolean | null;
  /** Microseconds. */
  readonly online_at: number | null;
}

/** What attempts of a task are derived from, as an expression in a query for rows of `celery_task`. @param options as for `isLost`. */
export function attemptsColumn(options: LostTasksOptions = {}): SQL {
  return sql`(
    with event as materialized (
      select ${sql.raw(selected("event", EVENT_COLUMNS))} from ${celeryTaskEvent} event where event.task_id = ${celeryTask}.task_id
    )
    select json_build_object(
      'row', (select to_json(r) from (select ${sql.raw(selected(TASK, ROW_COLUMNS))}) r),
      'events', (select json_agg(event) from event),
      'workers', (
        select json_agg(w) from (
          select hostname, ${isSilent(options)} as is_silent, (extract(epoch from online_at) * 1000000)::float8 as online_at from ${celeryWorker} worker
          where heard_at is not null and hostname in (
            select unnest(array[${celeryTask}.worker, ${celeryTask}.started_hostname, ${celeryTask}.run_hostname]) collate "C"
            union select event.hostname from event where event.type = 'task-started'
          )
        ) w
      )
    )
  )`;
}

/** The attempts that `attemptsColumn` shows. A worker is gone if it is silent, or has restarted since. */
export function attemptsOf({ row, events, workers }: AttemptsFacts): Attempt[] {
  const signs = new Map((workers ?? []).map((worker) => [worker.hostname, worker]));
  return toAttempts(
    withoutNulls(row) as AttemptRow,
    (events ?? []).map((event) => withoutNulls(event) as TaskEventRow),
    {
      isGone: (hostname, since) => {
        const worker = signs.get(hostname);
        return worker !== undefined && (worker.is_silent === true || (worker.online_at ?? 0) > since);
      },
    },
  );
}

/**
 * The attempts of a task; undefined if it has no row.
 *
 * @throws {UnavailableError} if the database is unavailable, is not migrated or refuses access.
 */
export async function readAttempts(database: Drizzle, taskId: string): Promise<Attempt[] | undefined> {
  const [found] = await query<{ facts: AttemptsFacts }>(
    database,
    sql`select ${attemptsColumn()} as facts from ${celeryTask} where task_id = ${taskId}`,
  );
  return found === undefined ? undefined : attemptsOf(found.facts);
}

function withoutNulls(row: object): object {
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null));
}
