/** All PostgreSQL faults, under a steady load: the flow resumes by itself, and every row is right in the end. */
import { createVhost, type TestVhost, SOAK, scaled } from "@celery-metrics-exporter/testkit";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BreakableDatabase, type Mend } from "./breakable-database.ts";
import { Load } from "../load/load.ts";
import { residentBytes, sumOf } from "../fleet/own-metrics.ts";
import { readinessOf } from "./readiness.ts";
import { startScene, type Scene } from "./scene.ts";
import { expectMetrics, expectRows } from "./truth.ts";

const EVENTS_PER_SECOND = 2_000;
const OUTAGE_MS = scaled(500, 60_000);
const MEBIBYTE = 2 ** 20;
const MAX_MEMORY_BYTES = 250 * MEBIBYTE;
const PATIENCE = { timeout: scaled(30_000, 60_000), interval: 100 };

interface Fault {
  readonly what: string;
  /** Expected in `/readyz` meanwhile. */
  readonly reason: RegExp;
  readonly begin: (broken: BreakableDatabase) => Promise<Mend>;
  /** The statement hits a time limit, perhaps the limit of a single row. */
  readonly isTimeLimit?: true;
  /** Whether it is also in the short version. packages/db/test/connect/sql-state.test.ts also covers the meaning of its error. */
  readonly everyRun?: true;
}

const FAULTS: readonly Fault[] = [
  { what: "a server that was stopped", reason: /ECONNREFUSED|terminated|57P0/, begin: (broken) => broken.stop() },
  { what: "a server that crashed and recovers", reason: /ECONNREFUSED|terminated|57P0/, begin: (broken) => broken.crash() },
  { what: "a server that is shutting down", reason: /57P0/, begin: (broken) => broken.beginShutdown(), everyRun: true },
  { what: "a server that hangs", reason: /has not answered|timeout/, begin: (broken) => broken.freeze(), everyRun: true },
  { what: "a database that accepts no connections", reason: /55000|57P01/, begin: (broken) => broken.closeDoors(), everyRun: true },
  { what: "a database that has no connection left", reason: /53300|57P01/, begin: (broken) => broken.exhaustConnections() },
  { what: "a failover to a server that only reads", reason: /25006/, begin: (broken) => broken.failOver(), everyRun: true },
  { what: "a full disk", reason: /53100/, begin: (broken) => broken.fillDisk() },
  { what: "a locked table", reason: /57014/, begin: (broken) => broken.lockTable(), isTimeLimit: true },
  { what: "a lock timeout", reason: /55P03/, begin: (broken) => broken.lockTableBriefly(), isTimeLimit: true, everyRun: true },
];

const CHOSEN = FAULTS.filter(({ everyRun }) => everyRun === true || SOAK);

let vhost: TestVhost;
let database: BreakableDatabase;
let scene: Scene;
let load: Load;

beforeAll(async () => {
  [vhost, database] = await Promise.all([createVhost(), BreakableDatabase.start()]);
  scene = await startScene({
    brokerUrl: vhost.url,
    databaseUrl: database.url,
    processes: { receiver: 1, "datadog-processor": 1, "postgres-processor": 2 },
    env: { POSTGRES_STATEMENT_TIMEOUT_MS: "2000", DATADOG_GRACE_MS: "200" },
  });
  load = Load.start({ publisher: scene.publisher, eventsPerSecond: EVENTS_PER_SECOND });
});

afterAll(async () => {
  await load.stop();
  await scene.close();
  await database.close();
  await vhost.drop();
});

async function storedRows(): Promise<number> {
  const { rows } = await scene.database.query<{ count: number }>("select count(*)::int from celery_task");
  return rows[0]?.count ?? 0;
}

async function batchesSplit(): Promise<number> {
  return sumOf(scene.fleet.processes("postgres-processor"), "batches_split_total");
}

/** The reports of this exporter's processors, as one text. */
async function readiness(role: "postgres-processor" | "datadog-processor" | "receiver"): Promise<{ readonly ready: number; text: string }> {
  const reports = await Promise.all(scene.fleet.processes(role).map(readinessOf));
  return { ready: reports.filter(({ ready }) => ready).length, text: reports.map(({ text }) => text).join("\n") };
}

async function expectFlow(): Promise<void> {
  await expect.poll(async () => (await readiness("postgres-processor")).ready, PATIENCE).toBe(2);
  const before = await storedRows();
  await expect.poll(storedRows, PATIENCE).toBeGreaterThan(before);
}

describe("the postgres exporter survives", () => {
  it.each(CHOSEN.map((fault) => [fault.what, fault] as const))("%s", async (_what, { reason, begin, isTimeLimit = false }) => {
    const splitBefore = await batchesSplit();
    const mend = await begin(database);
    try {
      const tells = async (): Promise<string> => {
        const { ready, text } = await readiness("postgres-processor");
        return ready === 0 ? text : `${ready} say they are ready`;
      };
      await expect.poll(tells, PATIENCE).toMatch(reason);
      await new Promise((resolve) => setTimeout(resolve, OUTAGE_MS));
      expect(await tells()).toMatch(reason);
      expect((await readiness("datadog-processor")).text).not.toContain("SQLSTATE");
      expect((await readiness("datadog-processor")).ready).toBe(1);
      expect((await readiness("receiver")).ready).toBe(1);
    } finally {
      await mend();
    }
    await expectFlow();
    expect(isTimeLimit ? splitBefore : await batchesSplit()).toBe(splitBefore);
  });

  it("a deadlock with a session that updates the same rows in reverse order", async () => {
    const processors = scene.fleet.processes("postgres-processor");
    const retries = (): Promise<number> => sumOf(processors, "export_retries_total", { reason: "unavailable" });
    const before = await retries();
    await database.deadlock();
    expect(await retries()).toBeGreaterThan(before);
    await expectFlow();
  });
});

describe("after all that", () => {
  it("nothing is lost, nothing is a dead letter or stays in memory, and no retries were used up", async () => {
    const truth = await load.stop();
    const within = { timeoutMs: scaled(60_000, 300_000) };
    await expectRows(scene.database, truth, within);
    await expectMetrics(scene.sink, truth, within);

    const processors = scene.fleet.processes("postgres-processor");
    expect(await sumOf(processors, "export_retries_total", { reason: "unavailable" })).toBeGreaterThan(0);
    expect(await sumOf(processors, "export_retries_total", { reason: "error" })).toBe(0);
    expect(await sumOf(processors, "jobs_stalled_total")).toBe(0);
    const nothing = { waiting: 0, active: 0, delayed: 0, failed: 0 };
    expect(await scene.queues.contents("dead-letter")).toEqual(nothing);
    await expect.poll(() => scene.queues.contents("postgres"), PATIENCE).toEqual(nothing);
    const memory = await Promise.all(scene.fleet.processes().map(residentBytes));
    console.info({ tasks: truth.tasks.length, events: truth.events, memoryMebibytes: memory.map((bytes) => Math.round(bytes / MEBIBYTE)) });
    for (const bytes of memory) expect(bytes).toBeLessThan(MAX_MEMORY_BYTES);
  });
});
