/** Compares the table and the metrics with what really happened: every column of every row, every count, every sample. */
import type { StatsdSink } from "@celery-metrics-exporter/testkit";
import type { Pool } from "pg";
import { expect } from "vitest";
import type { Truth } from "../load/load.ts";
import type { ExpectedTask } from "../load/synthetic-task.ts";

export interface Within {
  readonly timeoutMs: number;
}

const POLL_MS = 250;
/** Instants are transferred as seconds in floating point. */
const TOLERANCE_MICROS = 1;
const TOLERANCE_SECONDS = 2e-6;
const SHOWN = 20;

const INSTANTS = ["sent_at", "received_at", "started_at", "finished_at"]
  .map((column) => `round(extract(epoch from ${column}) * 1000000)::float8 as ${column}`)
  .join(", ");

type Row = Readonly<Record<string, unknown>>;

/** Waits until every task has its final row, and compares each row with the truth. */
export async function expectRows(database: Pool, { tasks }: Truth, { timeoutMs }: Within): Promise<void> {
  const done = async (): Promise<number> => {
    const { rows } = await database.query<{ done: number }>("select count(*)::int as done from celery_task where finished_at is not null");
    return rows[0]?.done ?? 0;
  };
  await expect.poll(done, { timeout: timeoutMs, interval: POLL_MS, message: "rows that are final" }).toBeGreaterThanOrEqual(tasks.length);
  // A final row may still lack events that are on their way, such as its task-sent.
  await expect.poll(() => differencesOfRows(database, tasks), { timeout: timeoutMs, interval: 4 * POLL_MS }).toEqual([]);
}

async function differencesOfRows(database: Pool, tasks: readonly ExpectedTask[]): Promise<string[]> {
  const columns = "task_id, status, name, queue, worker, retries, args, result, exception, runtime";
  const { rows } = await database.query<Row>(`select ${columns}, ${INSTANTS} from celery_task`);
  const byId = new Map(rows.map((row) => [String(row["task_id"]), row]));
  const differences = tasks.flatMap((task) => differencesOf(task, byId.get(task.id)));
  const unknown = rows.length - tasks.filter(({ id }) => byId.has(id)).length;
  if (unknown > 0) differences.push(`${unknown} rows of tasks that never existed`);
  return differences.slice(0, SHOWN);
}

function differencesOf(task: ExpectedTask, row: Row | undefined): string[] {
  if (row === undefined) return [`${task.id}: no row`];
  const exact = { status: task.status, name: task.name, queue: task.queue, worker: task.worker, retries: task.retries, args: task.args };
  const wanted: Row = { ...exact, result: task.result, exception: task.exception };
  const instants = { sent_at: task.sentAt, received_at: task.receivedAt, started_at: task.startedAt, finished_at: task.finishedAt };
  const differs = [
    ...Object.keys(wanted).filter((column) => row[column] !== wanted[column]),
    ...Object.entries(instants).flatMap(([column, micros]) => (isNear(row[column], micros, TOLERANCE_MICROS) ? [] : [column])),
    ...(isNear(row["runtime"], task.runtime, TOLERANCE_SECONDS) ? [] : ["runtime"]),
  ];
  return differs.map((column) => {
    return `${task.id} (${task.status}) ${column}: ${String(row[column])} instead of ${String({ ...wanted, ...instants, runtime: task.runtime }[column])}`;
  });
}

function isNear(actual: unknown, wanted: number | null, tolerance: number): boolean {
  if (wanted === null) return actual === null;
  return typeof actual === "number" && Math.abs(actual - wanted) <= tolerance;
}

export interface MetricsOptions extends Within {
  /** Maximum number of tasks sent twice because a Datadog processor was killed between sending and marking. Default 0. */
  readonly doubled?: number;
}

/** Number and sum of the values, by metric and tags. */
type Totals = Record<string, readonly [count: number, sum: number]>;

const COUNTERS: Readonly<Record<ExpectedTask["status"], string>> = {
  SUCCESS: "success_count",
  FAILURE: "fail_count",
  REVOKED: "revoked_count",
  REJECTED: "rejected_count",
};

/** Waits until the sink has every count and every sample, and checks that it has no more. */
export async function expectMetrics(sink: StatsdSink, { tasks }: Truth, options: MetricsOptions): Promise<void> {
  const { timeoutMs, doubled = 0 } = options;
  const wanted = wantedTotals(tasks);
  const differences = (): string[] => (doubled === 0 ? differencesOfTotals : missingTotals)(sentTotals(sink), wanted);
  await expect.poll(differences, { timeout: timeoutMs, interval: 2 * POLL_MS }).toEqual([]);
  // Anything sent twice arrives a moment later.
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  expect(sink.errors).toEqual([]);
  expect(differences()).toEqual([]);
  const counted = Object.values(COUNTERS).reduce((sum, counter) => sum + sink.total(`celery.task.${counter}`), 0);
  expect(counted).toBeLessThanOrEqual(tasks.length + doubled);
}

/** The sender adds up counts, so their sum is the number of tasks. */
function samplesOf(totals: Totals, key: string): number {
  const [samples, sum] = totals[key] ?? [0, 0];
  return key.startsWith("count") ? sum : samples;
}

function missingTotals(sent: Totals, wanted: Totals): string[] {
  const keys = Object.keys(wanted).filter((key) => samplesOf(sent, key) < samplesOf(wanted, key));
  return describeTotals(keys, sent, wanted);
}

function differencesOfTotals(sent: Totals, wanted: Totals): string[] {
  const keys = [...new Set([...Object.keys(sent), ...Object.keys(wanted)])];
  const sumOf = (totals: Totals, key: string): number => totals[key]?.[1] ?? 0;
  const differs = (key: string): boolean =>
    samplesOf(sent, key) !== samplesOf(wanted, key) ||
    Math.abs(sumOf(sent, key) - sumOf(wanted, key)) > TOLERANCE_SECONDS * samplesOf(wanted, key);
  return describeTotals(keys.filter(differs), sent, wanted);
}

function describeTotals(keys: readonly string[], sent: Totals, wanted: Totals): string[] {
  return keys.map((key) => `${key}: ${String(sent[key])} instead of ${String(wanted[key])}`).slice(0, SHOWN);
}

function wantedTotals(tasks: readonly ExpectedTask[]): Totals {
  const totals: Totals = {};
  for (const { name, queue, status, retries, waits, runs } of tasks) {
    const task = `${name} ${queue ?? "unknown"}`;
    if (retries > 0) add(totals, `count retry_count ${task}`, retries);
    add(totals, `count ${COUNTERS[status]} ${task}`, 1);
    for (const { seconds, basis } of waits) add(totals, `wait_time ${task} ${basis}`, seconds);
    for (const { seconds, state } of runs) add(totals, `run_time ${task} ${state}`, seconds);
  }
  return totals;
}

function sentTotals(sink: StatsdSink): Totals {
  const totals: Totals = {};
  for (const { name, type, tags, values } of sink.metrics) {
    if (type === "gauge") continue;
    const tag = (key: string): string => tags.find((candidate) => candidate.startsWith(`${key}:`))?.slice(key.length + 1) ?? "";
    const metric = name.replace("celery.task.", "");
    const task = `${tag("task_name")} ${tag("queue")}`;
    const key = metric.endsWith("_count") ? `count ${metric} ${task}` : `${metric} ${task} ${tag("basis") || tag("state")}`;
    for (const value of values) add(totals, key, value);
  }
  return totals;
}

function add(totals: Totals, key: string, value: number): void {
  const [count, sum] = totals[key] ?? [0, 0];
  totals[key] = [count + 1, sum + value];
}
