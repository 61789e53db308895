/** The whole product as separate processes with a real Celery application, and the expected results. */
import { join } from "node:path";
import { migrate } from "@celery-metrics-exporter/db";
import {
  createDatabase,
  startCeleryWorker,
  startRedis,
  startStatsdSink,
  temporaryFolder,
  type ShopReport,
  type StatsdSink,
} from "@celery-metrics-exporter/testkit";
import { Pool } from "pg";
import { expect } from "vitest";
import { Fleet } from "../fleet/fleet.ts";

/** Longer than a terminated task waits for the end of its run (`packages/task-store/src/feed/triage.ts`). */
const WAIT_MS = 25_000;

export interface Deployment {
  readonly brokerUrl: string;
  readonly sink: StatsdSink;
  readonly database: Pool;
  readonly shopLog: string;
  /** Drains every process, which must exit with 0. */
  close(): Promise<void>;
}

export interface DeploymentOptions {
  readonly brokerUrl: string;
  readonly receivers: number;
  /** Number of processors of each kind. */
  readonly processors: number;
}

export async function startDeployment({ brokerUrl, receivers, processors }: DeploymentOptions): Promise<Deployment> {
  const [redis, database, sink] = await Promise.all([startRedis(), createDatabase(), startStatsdSink()]);
  await migrate(database.url);
  const fleet = await Fleet.start({
    env: {
      CELERY_BROKER_URL: brokerUrl,
      REDIS_URL: redis.url,
      DATABASE_URL: database.url,
      DD_AGENT_HOST: "127.0.0.1",
      DD_DOGSTATSD_PORT: String(sink.port),
      // On a busy machine a worker is late to report that it has sent a task.
      DATADOG_GRACE_MS: "5000",
      LOG_LEVEL: "info",
    },
    processes: { receiver: receivers, "datadog-processor": processors, "postgres-processor": processors },
  });
  const shopLog = join(temporaryFolder("shop"), "log");
  const workers = await Promise.all(
    ["shop1", "shop2"].map((name) => startCeleryWorker({ brokerUrl, hostname: `${name}@%h`, concurrency: 2, env: { SHOP_LOG: shopLog } })),
  );
  const pool = new Pool({ connectionString: database.url });
  // The database is dropped while connections of the pool are still being closed.
  pool.on("error", () => {});
  return {
    brokerUrl,
    sink,
    database: pool,
    shopLog,
    close: async () => {
      await Promise.all(workers.map((worker) => worker.stop()));
      const codes = await fleet.stop();
      await pool.end();
      await Promise.all([sink.close(), redis.stop(), database.drop()]);
      expect(
        codes.every((code) => code === 0),
        `exit codes ${codes.join()}`,
      ).toBe(true);
    },
  };
}

/** The checked columns of a task's row. */
interface Told {
  readonly status: string;
  readonly name: string;
  readonly queue: string;
  readonly retries: number;
}

/** The state that Celery's events show for what really happened: an ignored task gets no event after its start. */
const STATE_BY_EVENTS: Readonly<Record<string, readonly string[]>> = {
  IGNORED: ["STARTED"],
  // Celery 5.6 sends task-failed as well, which beats task-rejected.
  REJECTED: ["REJECTED", "FAILURE"],
};

function inWordsOf(truth: string | undefined, told: string): string {
  return truth !== undefined && (STATE_BY_EVENTS[truth] ?? []).includes(told) ? truth : told;
}

const COUNTERS: Readonly<Record<string, string>> = {
  SUCCESS: "success_count",
  FAILURE: "fail_count",
  REVOKED: "revoked_count",
  REJECTED: "rejected_count",
};

/** Waits until every row and every count is there, and compares them with the truth. */
export async function expectTruth(deployment: Deployment, { ended, tasks }: ShopReport): Promise<void> {
  const unfinished = Object.values(tasks).filter(({ status }) => ["PENDING", "STARTED", "RETRY"].includes(status));
  expect(unfinished).toEqual([]);
  expect(ended).toBe(true);
  const states = async (): Promise<Record<string, Told>> => {
    const { rows } = await deployment.database.query<Told & { task_id: string }>(
      "select task_id, status, name, queue, retries from celery_task",
    );
    return Object.fromEntries(
      rows.map(({ task_id, ...told }) => [task_id, { ...told, status: inWordsOf(tasks[task_id]?.status, told.status) }]),
    );
  };
  const wanted = Object.fromEntries(
    Object.entries(tasks).map(([id, { name, queue, status, retries }]) => [id, { status, name, queue, retries }]),
  );
  await expect.poll(states, { timeout: WAIT_MS, interval: 250 }).toEqual(wanted);

  const { rows: finished } = await deployment.database.query<Told>(
    "select status, name, queue from celery_task where finished_at is not null",
  );
  const total = (): number => Object.values(COUNTERS).reduce((sum, counter) => sum + deployment.sink.total(`celery.task.${counter}`), 0);
  await expect.poll(total, { timeout: WAIT_MS, interval: 250 }).toBeGreaterThanOrEqual(finished.length);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  expectCounts(deployment.sink, finished);
  expect(deployment.sink.errors).toEqual([]);
}

function expectCounts(sink: StatsdSink, finished: readonly Told[]): void {
  const wanted: Record<string, number> = {};
  for (const { status, name, queue } of finished) {
    const key = `${COUNTERS[status]} ${name} ${queue}`;
    wanted[key] = (wanted[key] ?? 0) + 1;
  }
  const sent = Object.fromEntries(
    Object.keys(wanted).map((key) => {
      const [counter, name, queue] = key.split(" ");
      return [key, sink.total(`celery.task.${counter}`, [`task_name:${name}`, `queue:${queue}`])];
    }),
  );
  expect(sent).toEqual(wanted);
  const all = Object.values(COUNTERS).reduce((sum, counter) => sum + sink.total(`celery.task.${counter}`), 0);
  expect(all).toBe(finished.length);
}
