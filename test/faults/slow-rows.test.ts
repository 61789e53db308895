/** Rows that take PostgreSQL longer than its time limits: they wait, and delay nothing else. */
import { migrate } from "@celery-metrics-exporter/db";
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { taskReceived, taskSent, taskStarted } from "@celery-metrics-exporter/celery/testing";
import { DEAD_LETTER_QUEUE, encodeBatch, eventsQueueName, processorRole } from "@celery-metrics-exporter/pipeline";
import { createLogger, startRoles, type RunningRoles } from "@celery-metrics-exporter/runtime";
import { createDatabase, startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { Pool, type PoolClient } from "pg";
import { postgres } from "postgres-processor";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";

const SLOW = "slow-task";
const HELD = "postgres exporter: held batches";
const PATIENCE = { timeout: 60_000, interval: 100 };

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

let database: Awaited<ReturnType<typeof createDatabase>>;
let pool: Pool;
let queue: Queue;
let deadLetters: Queue;
let running: RunningRoles | undefined;
let lines: Record<string, unknown>[];

beforeEach(async () => {
  database = await createDatabase();
  await migrate(database.url);
  pool = new Pool({ connectionString: database.url, max: 2 });
  pool.on("error", () => {});
  await redis.flushall();
  queue = new Queue(eventsQueueName("postgres"), { connection: redis, prefix: "{cme}" });
  deadLetters = new Queue(DEAD_LETTER_QUEUE, { connection: redis, prefix: "{cme}" });
  lines = [];
});
afterEach(async () => {
  await running?.stop();
  running = undefined;
  await Promise.all([queue.close(), deadLetters.close(), pool.end()]);
  await database.drop();
});

async function start(env: Readonly<Record<string, string>> = {}): Promise<RunningRoles> {
  running = await startRoles(
    [processorRole(postgres)],
    { REDIS_URL: server.url, DATABASE_URL: database.url, POSTGRES_STATEMENT_TIMEOUT_MS: "500", HEALTH_PORT: "0", ...env },
    createLogger("test", "info", { write: (line) => lines.push(JSON.parse(line) as Record<string, unknown>) }),
  );
  return running;
}

async function enqueue(...events: readonly CeleryEvent[]): Promise<void> {
  await queue.add("batch", encodeBatch({ broker: "rabbitmq", events }));
}

/** The `task-sent` events of this many tasks, with ids from `first` on. */
const sent = (count: number, first = 0): CeleryEvent[] =>
  Array.from({ length: count }, (_, index) => taskSent({ uuid: `task-${String(first + index).padStart(5, "0")}` }));

async function rows(): Promise<number> {
  return (await pool.query("select 1 from celery_task where task_id like 'task-%'")).rows.length;
}

async function statusOfSlow(): Promise<unknown> {
  return (await pool.query<{ status: string }>("select status from celery_task where task_id = $1", [SLOW])).rows[0]?.status;
}

async function metric(name: string): Promise<number> {
  const found = await running?.metrics.registry.getSingleMetric(`celery_metrics_exporter_${name}`)?.get();
  return (found?.values ?? []).reduce((sum, { value }) => sum + value, 0);
}

/** Number of statements of batches that have ended. */
async function tries(): Promise<number> {
  const found = await running?.metrics.registry.getSingleMetric("celery_metrics_exporter_export_duration_seconds")?.get();
  const counts = (found?.values ?? []) as readonly { metricName?: string; value: number }[];
  return counts.filter(({ metricName }) => metricName?.endsWith("_count")).reduce((sum, { value }) => sum + value, 0);
}

const report = (): string => JSON.stringify(running?.health.report());

async function expectNothingLeft(): Promise<void> {
  const nothing = { wait: 0, active: 0, delayed: 0, failed: 0 };
  await expect.poll(() => queue.getJobCounts("wait", "active", "delayed", "failed"), PATIENCE).toEqual(nothing);
  await expect.poll(() => running?.health.report().ready, PATIENCE).toBe(true);
  expect(await deadLetters.getWaitingCount()).toBe(0);
}

/** A row that does not exist yet, so that others with its id have to wait for the transaction. */
const LOCKED_ROW = `insert into celery_task (task_id, status, state_precedence, state_rank, state_at, state_hostname, last_event_at)
  values ($1, 'PENDING', 0, 0, now(), '', now())`;

/** Ends the cause of the slow rows. */
type Mend = () => Promise<void>;

async function inTransaction(statement: string, values: unknown[] = []): Promise<Mend> {
  const client: PoolClient = await pool.connect();
  await client.query("begin");
  await client.query(statement, values);
  return async () => {
    await client.query("rollback");
    client.release();
  };
}

const CAUSES: readonly {
  readonly what: string;
  readonly begin: () => Promise<Mend>;
  readonly env?: Readonly<Record<string, string>>;
  readonly sqlState: string;
}[] = [
  {
    what: "a trigger that sleeps for one task",
    begin: async () => {
      await pool.query(`create function doze() returns trigger language plpgsql as
        $$ begin if new.task_id = '${SLOW}' then perform pg_sleep(60); end if; return new; end $$`);
      await pool.query("create trigger doze before insert or update on celery_task for each row execute function doze()");
      return async () => void (await pool.query("drop trigger doze on celery_task"));
    },
    sqlState: "57014",
  },
  {
    what: "a row that an open transaction keeps locked",
    begin: () => inTransaction(LOCKED_ROW, [SLOW]),
    sqlState: "57014",
  },
  {
    what: "the same with a lock timeout of the database",
    begin: async () => {
      await pool.query("do $$ begin execute format('alter database %I set lock_timeout = 300', current_database()); end $$");
      return inTransaction(LOCKED_ROW, [SLOW]);
    },
    env: { POSTGRES_STATEMENT_TIMEOUT_MS: "0" },
    sqlState: "55P03",
  },
];

describe.each(CAUSES.map((cause) => [cause.what, cause] as const))("%s", (_, { begin, env = {}, sqlState }) => {
  it.each(["1", "4"])("delays only its own events, with %s concurrent batches", { timeout: 180_000 }, async (concurrency) => {
    const mend = await begin();
    await start({ ...env, PROCESSOR_CONCURRENCY: concurrency });
    const events = sent(1_000);
    await enqueue(...events.slice(0, 400), taskReceived({ uuid: SLOW }), ...events.slice(400));
    await expect.poll(rows, PATIENCE).toBe(1_000);
    const explained = new RegExp(`${SLOW}.*${sqlState}.*POSTGRES_STATEMENT_TIMEOUT_MS`);
    await expect.poll(() => running?.health.report().components[HELD], PATIENCE).toMatch(explained);

    // More of its events, and others next to and after them.
    await enqueue(taskSent({ uuid: SLOW }), ...sent(10, 1_000));
    for (let first = 1_010; first < 1_060; first += 10) await enqueue(...sent(10, first));
    await enqueue(taskStarted({ uuid: SLOW }));
    for (let first = 1_060; first < 1_100; first += 10) await enqueue(...sent(10, first));
    await expect.poll(rows, PATIENCE).toBe(1_100);
    expect(running?.health.report().ready).toBe(false);
    expect(lines.filter(({ reason }) => explained.test(String(reason)))).toHaveLength(1);

    await mend();
    await expect.poll(statusOfSlow, PATIENCE).toBe("STARTED");
    await expectNothingLeft();
  });

  it("is retried less and less often", { timeout: 120_000 }, async () => {
    const mend = await begin();
    await start(env);
    await enqueue(...sent(10), taskReceived({ uuid: SLOW }));
    await expect.poll(() => running?.health.report().components[HELD], PATIENCE).toContain(sqlState);
    const before = await tries();
    await new Promise((resolve) => setTimeout(resolve, 12_000));
    expect((await tries()) - before).toBeLessThan(6);
    await mend();
    await expect.poll(statusOfSlow, PATIENCE).toBe("RECEIVED");
    await expectNothingLeft();
  });
});

describe("a locked row to forget", () => {
  it("delays only itself", { timeout: 120_000 }, async () => {
    await start();
    await enqueue(...sent(20), taskStarted({ uuid: SLOW }));
    await expect.poll(rows, PATIENCE).toBe(20);
    // Excluded tasks have no stored `task-sent`, and rows with one are spared.
    await pool.query("update celery_task set sent_at = null");
    const unlock = await inTransaction("select 1 from celery_task where task_id = $1 for update", [SLOW]);
    const marked = [...sent(10).map((event) => ("uuid" in event ? event.uuid : "")), SLOW].map((id) => ({ id, marks: ["-s0"] }));
    await queue.add("batch", encodeBatch({ broker: "rabbitmq", events: [], marked }));
    await expect.poll(rows, PATIENCE).toBe(10);
    await expect.poll(() => running?.health.report().components[HELD], PATIENCE).toMatch(/id to forget.*57014/);
    await enqueue(...sent(10, 20));
    await expect.poll(rows, { timeout: 5_000 }).toBe(20);
    await unlock();
    await expect.poll(statusOfSlow, PATIENCE).toBeUndefined();
    await expectNothingLeft();
  });
});

describe("a database that is too slow for everything", () => {
  it("is waited for: it gets no more statements than in any outage, nothing is split, and everything is stored in the end", async () => {
    await start({ POSTGRES_STATEMENT_TIMEOUT_MS: "300" });
    const unlock = await inTransaction("lock table celery_task in access exclusive mode");
    for (let batch = 0; batch < 8; batch++) await enqueue(...sent(500, batch * 500));
    await expect.poll(report, PATIENCE).toMatch(/"postgres exporter":"[^"]*57014/);
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    const before = await tries();
    await new Promise((resolve) => setTimeout(resolve, 15_000));
    // Four at a time, of 300 ms each, with an outage's pauses in between.
    expect((await tries()) - before).toBeLessThan(40);
    expect(report()).toMatch(/"postgres exporter":"[^"]*57014/);
    expect(await metric("batches_split_total")).toBe(0);
    expect(lines.filter(({ msg }) => String(msg).startsWith("batches are held"))).toEqual([]);
    await unlock();
    await expect.poll(rows, PATIENCE).toBe(4_000);
    await expectNothingLeft();
  });

  it("gets smaller parts of a batch, if those are within the limit", async () => {
    await pool.query(`create function doze() returns trigger language plpgsql as $$ begin perform pg_sleep(0.002); return new; end $$`);
    await pool.query("create trigger doze before insert on celery_task for each row execute function doze()");
    await start({ POSTGRES_STATEMENT_TIMEOUT_MS: "1000" });
    await enqueue(...sent(1_000));
    await expect.poll(rows, PATIENCE).toBe(1_000);
    await expectNothingLeft();
    expect(await deadLetters.getWaitingCount()).toBe(0);
  });
});
