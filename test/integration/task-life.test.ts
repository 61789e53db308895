/** Unusual lives of tasks, with their events in any order and repetition, on the real Store, sink and table. */
import { readFileSync } from "node:fs";
import { migrate } from "@celery-metrics-exporter/db";
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import { createTestExporter, type TestExporter } from "@celery-metrics-exporter/pipeline/testing";
import {
  createDatabase,
  randomBatches,
  seededRandom,
  shuffled,
  startRedis,
  startStatsdSink,
  type RedisServer,
  type StatsdSink,
  type TestDatabase,
} from "@celery-metrics-exporter/testkit";
import { datadog } from "datadog-processor";
import { Pool } from "pg";
import { postgres } from "postgres-processor";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BEGIN, TASK_LIVES, type ExpectedRow, type Sent, type TaskLife } from "./task-lives.ts";

const SEED = Number(process.env["TEST_SEED"] ?? Date.now() % 2 ** 31);
const INCOMPLETE_WAIT_MS = 300;
const NEVER = new AbortController().signal;
const random = seededRandom(SEED);

/** The events of one batch, and whether its tasks are processed before the next batch arrives. */
interface Arrival {
  readonly batches: readonly (readonly TaskEvent[])[];
  readonly processedBetween?: boolean;
}

const ARRIVALS: Readonly<Record<string, (events: readonly TaskEvent[]) => Arrival>> = {
  "one by one, each processed before the next": (events) => ({ batches: events.map((event) => [event]), processedBetween: true }),
  "in one batch": (events) => ({ batches: [events] }),
  reversed: (events) => ({ batches: events.toReversed().map((event) => [event]) }),
  shuffled: (events) => ({ batches: randomBatches(shuffled(events, random), 3, random) }),
  doubled: (events) => ({ batches: [events, events.toReversed()], processedBetween: true }),
};

let redis: RedisServer;
let sink: StatsdSink;
let database: TestDatabase;
let pool: Pool;
let rows: TestExporter;
let metrics: TestExporter;
/** The ids that the Datadog exporter schedules, and when they are due. */
const scheduled: { readonly ids: readonly string[]; readonly delayMs: number }[] = [];
let jobs = 0;

async function schedule(ids: readonly string[], { delayMs }: { readonly delayMs: number }): Promise<void> {
  if (ids.length > 0) scheduled.push({ ids, delayMs });
}

beforeAll(async () => {
  [redis, sink, database] = await Promise.all([startRedis(), startStatsdSink(), createDatabase()]);
  await migrate(database.url);
  pool = new Pool({ connectionString: database.url });
  pool.on("error", () => {});
  rows = await createTestExporter(postgres, { DATABASE_URL: database.url });
  await rows.exporter.start?.();
  const env = { REDIS_URL: redis.url, DD_DOGSTATSD_PORT: String(sink.port), DATADOG_INCOMPLETE_WAIT_MS: String(INCOMPLETE_WAIT_MS) };
  metrics = await createTestExporter(
    { ...datadog, create: (context) => datadog.create({ ...(context as Parameters<typeof datadog.create>[0]), schedule }) },
    env,
  );
  await metrics.exporter.start?.();
});

afterAll(async () => {
  await Promise.all([rows.close(), metrics.close(), pool.end()]);
  await Promise.all([sink.close(), redis.stop(), database.drop()]);
});

async function deliver({ batches, processedBetween = false }: Arrival): Promise<void> {
  sink.clear();
  for (const batch of batches) {
    await rows.exporter.export(batch, NEVER);
    await metrics.exporter.export(batch, NEVER);
    if (processedBetween) await processAll();
  }
  await processAll();
}

/** The grace is over at once; postponed tasks are waited for. */
async function processAll(): Promise<void> {
  for (let next = scheduled.shift(); next !== undefined; next = scheduled.shift()) {
    if (next.delayMs < INCOMPLETE_WAIT_MS) await new Promise((resolve) => setTimeout(resolve, next?.delayMs));
    await metrics.exporter.process?.(next.ids, NEVER, { id: String((jobs += 1)) });
  }
}

async function rowOf(id: string): Promise<ExpectedRow | undefined> {
  const times = ["sent_at", "received_at", "started_at", "finished_at"];
  const columns = times.map((column) => `(extract(epoch from ${column}) - ${BEGIN})::float8 as ${column}`);
  const others = "status, name, queue, first_name, first_queue, revoked_by, worker, retries, runtime, duration, wait_time";
  const statement = `select ${others}, ${columns.join(", ")} from celery_task where task_id = $1`;
  return (await pool.query<ExpectedRow>(statement, [id])).rows[0];
}

const NOTHING: Required<Sent> = { successes: 0, failures: 0, revocations: 0, retries: 0, runs: [], waits: [] };

/** The metrics that were sent with these tags, or with any tags if there are none. */
function sentWith(tags: readonly string[]): Required<Sent> {
  const ascending = (name: string): number[] => sink.values(name, tags).toSorted((one, other) => one - other);
  return {
    successes: sink.total("celery.task.success_count", tags),
    failures: sink.total("celery.task.fail_count", tags),
    revocations: sink.total("celery.task.revoked_count", tags),
    retries: sink.total("celery.task.retry_count", tags),
    runs: ascending("celery.task.run_time"),
    waits: ascending("celery.task.wait_time"),
  };
}

/** By `task_name|queue`; metrics with other tags are only in `all`. */
function sentLike(wanted: Readonly<Record<string, Sent>>): Record<string, Required<Sent>> {
  const keys = Object.keys(wanted).map((key) => {
    const [name, queue] = key.split("|");
    return [key, sentWith([`task_name:${name}`, `queue:${queue}`])] as const;
  });
  return { ...Object.fromEntries(keys), all: sentWith([]) };
}

function expectedSent(wanted: Readonly<Record<string, Sent>>): Record<string, Required<Sent>> {
  const each = Object.entries(wanted).map(([key, sent]) => [key, { ...NOTHING, ...sent }] as const);
  const ascending = (kind: "runs" | "waits"): number[] => each.flatMap(([, sent]) => sent[kind]).toSorted((one, other) => one - other);
  const sum = (kind: "successes" | "failures" | "revocations" | "retries"): number =>
    each.reduce((total, [, sent]) => total + sent[kind], 0);
  const all = {
    successes: sum("successes"),
    failures: sum("failures"),
    revocations: sum("revocations"),
    retries: sum("retries"),
    runs: ascending("runs"),
    waits: ascending("waits"),
  };
  return { ...Object.fromEntries(each), all };
}

function asTask(events: readonly TaskEvent[], uuid: string): TaskEvent[] {
  return events.map((event) => ({ ...event, uuid }));
}

describe.each(TASK_LIVES.map((life): [string, TaskLife] => [life.name, life]))("%s", (name, life) => {
  it.each(Object.entries(ARRIVALS))(`results in its row and metrics, with events %s (seed ${SEED})`, async (how, arrive) => {
    const id = `${name}, ${how}`;
    await deliver(arrive(asTask(life.events, id)));
    expect(await rowOf(id)).toEqual(life.row);
    await expect.poll(() => sentLike(life.sent)).toEqual(expectedSent(life.sent));
    expect(sink.errors).toEqual([]);
  });

  it("is described in docs/task-life.md", () => {
    const document = readFileSync(new URL("../../docs/task-life.md", import.meta.url), "utf8");
    expect(document).toContain(`\n## ${name}\n`);
  });
});

describe("Reported in reverse order, minutes apart", () => {
  it("is counted once, with what was known at the end of the wait; the row has everything", async () => {
    const [life] = TASK_LIVES;
    if (life === undefined) throw new Error("no life");
    const id = "reversed, minutes apart";
    await deliver({
      batches: asTask(life.events, id)
        .toReversed()
        .map((event) => [event]),
      processedBetween: true,
    });
    expect(await rowOf(id)).toEqual(life.row);
    const unknown = { "unknown|unknown": { successes: 1, runs: [2], waits: [] } };
    await expect.poll(() => sentLike(unknown)).toEqual(expectedSent(unknown));
  });
});
