/** What the exporters made of the demo's tasks: the metrics sent to Datadog, the rows in Postgres, and what Prometheus can scrape. */
import { celeryTask, type Database } from "@celery-metrics-exporter/db";
import { listenForStatsd, type DogstatsdMetric } from "@celery-metrics-exporter/testkit";
import { and, count, gte, inArray, sql, type SQL } from "drizzle-orm";
import { EventCounts, FINAL_STATES, TaskCounts, type FinalState } from "./comparison.ts";
import type { DemoSettings } from "./environment.ts";

/** The sum of a counter's values with these tags; a missing tag counts as empty. */
interface CounterSum {
  readonly taskName: string;
  readonly queue: string;
  readonly sum: number;
}

/** What has arrived so far at a UDP port that acts as a Datadog agent. */
export interface CountedMetrics {
  readonly port: number;
  readonly datagrams: number;
  /** Number of values; a line may contain several. */
  readonly samples: number;
  /** The last few lines, newest last. */
  readonly recentLines: readonly string[];
  /** A counter's values, by the values of its tags `task_name` and `queue`. */
  sums(counter: string): readonly CounterSum[];
  close(): Promise<void>;
}

const RECENT_LINES = 4;
const MAX_DATAGRAM_BYTES = 65_535;

/** Listens on a free port of 127.0.0.1, in its own thread because PGlite keeps this one busy. */
export async function countMetrics(): Promise<CountedMetrics> {
  const sums = new Map<string, Map<string, CounterSum>>();
  const recentLines: string[] = [];
  const totals = { datagrams: 0, samples: 0 };
  const add = ({ name, type, values, sampleRate, tags, line }: DogstatsdMetric): void => {
    if (type === "gauge") return;
    totals.samples += values.length;
    recentLines.push(line);
    if (recentLines.length > RECENT_LINES) recentLines.shift();
    if (type !== "count") return;
    const byTags = sums.get(name) ?? new Map<string, CounterSum>();
    const [taskName, queue] = [tagIn(tags, "task_name"), tagIn(tags, "queue")];
    const key = `${taskName}\n${queue}`;
    const sum = values.reduce((total, value) => total + value / sampleRate, byTags.get(key)?.sum ?? 0);
    byTags.set(key, { taskName, queue, sum });
    sums.set(name, byTags);
  };
  const listener = await listenForStatsd(
    ({ messages }) => {
      totals.datagrams += 1;
      for (const message of messages) if (message.kind === "metric") add(message);
    },
    { maxPacketBytes: MAX_DATAGRAM_BYTES, thread: true },
  );
  return {
    port: listener.port,
    get datagrams() {
      return totals.datagrams;
    },
    get samples() {
      return totals.samples;
    },
    recentLines,
    sums: (counter) => [...(sums.get(counter)?.values() ?? [])],
    close: () => listener.close(),
  };
}

function tagIn(tags: readonly string[], key: string): string {
  return tags.find((tag) => tag.startsWith(`${key}:`))?.slice(key.length + 1) ?? "";
}

const COUNTERS: Readonly<Record<FinalState, string>> = {
  SUCCESS: "task.success_count",
  FAILURE: "task.fail_count",
  REVOKED: "task.revoked_count",
  REJECTED: "task.rejected_count",
};

type Prefixes = Pick<DemoSettings, "metricPrefix" | "queuePrefix">;

/** The demo's own tasks, which are those in its queues. */
export function tasksInDatadog(sink: Pick<CountedMetrics, "sums">, { metricPrefix, queuePrefix }: Prefixes): TaskCounts {
  const counts = new TaskCounts();
  for (const [state, counter] of Object.entries(COUNTERS) as [FinalState, string][]) {
    for (const { taskName, queue, sum } of sink.sums(metricPrefix + counter))
      if (queue.startsWith(queuePrefix)) counts.add(taskName, state, sum);
  }
  return counts;
}

/** Rows of the demo's queues created since it began, by the database's clock: the table may contain others. */
export class TasksInPostgres {
  readonly #drizzle: Database["drizzle"];
  readonly #isOurs: SQL | undefined;

  private constructor(drizzle: Database["drizzle"], since: string, queuePrefix: string) {
    this.#drizzle = drizzle;
    this.#isOurs = and(gte(celeryTask.createdAt, since), sql`starts_with(${celeryTask.queue}, ${queuePrefix})`);
  }

  static async from(database: Database, queuePrefix: string): Promise<TasksInPostgres> {
    const result: unknown = await database.drizzle.execute(sql`select now()::text as now`);
    const [row] = (result as { rows: { now: string }[] }).rows;
    return new TasksInPostgres(database.drizzle, row?.now ?? "-infinity", queuePrefix);
  }

  /** Number of tasks in each state. */
  async byState(): Promise<Map<string, number>> {
    const rows = await this.#drizzle
      .select({ state: celeryTask.status, tasks: count() })
      .from(celeryTask)
      .where(this.#isOurs)
      .groupBy(celeryTask.status)
      .orderBy(celeryTask.status);
    return new Map(rows.map(({ state, tasks }) => [state, tasks]));
  }

  /** Number of tasks by name and final state. */
  async finished(): Promise<TaskCounts> {
    const rows = await this.#drizzle
      .select({ name: celeryTask.name, state: celeryTask.status, tasks: count() })
      .from(celeryTask)
      .where(and(this.#isOurs, inArray(celeryTask.status, [...FINAL_STATES])))
      .groupBy(celeryTask.name, celeryTask.status);
    const counts = new TaskCounts();
    for (const { name, state, tasks } of rows) counts.add(name ?? "unknown", state as FinalState, tasks);
    return counts;
  }
}

const SCRAPED: ReadonlyMap<string, FinalState> = new Map([
  ["celery_task_succeeded_total", "SUCCESS"],
  ["celery_task_failed_total", "FAILURE"],
  ["celery_task_revoked_total", "REVOKED"],
  ["celery_task_rejected_total", "REJECTED"],
]);

/** The exception of a terminated task, in Celery 5.6. */
const EXIT = "SystemExit";

/** The demo's own tasks in an answer for Prometheus, in the text format. Each event counts. */
export function tasksInScrape(text: string, queuePrefix: string): EventCounts {
  const counts = new EventCounts();
  for (const [, metric = "", labels = "", value] of text.matchAll(/^(\w+)\{(.*)\} (\S+)$/gm)) {
    const state = SCRAPED.get(metric);
    const valueOf = (label: string): string => new RegExp(`\\b${label}="((?:[^"\\\\]|\\\\.)*)"`).exec(labels)?.[1] ?? "";
    if (state === undefined || !(Number(value) > 0) || !valueOf("queue_name").startsWith(queuePrefix)) continue;
    const name = valueOf("name");
    counts.add(name, state, Number(value));
    if (valueOf("exception") === EXIT) counts.exits.set(name, (counts.exits.get(name) ?? 0) + Number(value));
  }
  return counts;
}

/** Scrapes like Prometheus. Rejects if there is no answer. */
export async function scrape(url: string): Promise<string> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}: ${await answer.text()}`);
  return answer.text();
}
