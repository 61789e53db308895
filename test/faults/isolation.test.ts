/** An exporter that makes no progress does not affect the other one; beyond the limit, the receiver does what `QUEUE_FULL` says. */
import { createVhost, type TestVhost, SOAK, scaled } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { BreakableDatabase } from "./breakable-database.ts";
import { Load, prepareBurst, publishBurst, together, type Truth } from "../load/load.ts";
import { residentBytes, sumOf } from "../fleet/own-metrics.ts";
import { messagesIn } from "./rabbitmq-backlog.ts";
import { readinessOf } from "./readiness.ts";
import { startScene, type Scene, type SceneOptions } from "./scene.ts";
import { expectMetrics, expectRows } from "./truth.ts";

const EVENTS_PER_SECOND = 2_000;
const LOAD_MS = scaled(2_500, 60_000);
/** A low limit, so that the test reaches it. */
const HIGH_WATER_EVENTS = scaled(2_000, 20_000);
const BATCHES_IN_FLIGHT_EVENTS = 4 * 500;
const MEBIBYTE = 2 ** 20;
const MAX_MEMORY_BYTES = 250 * MEBIBYTE;
const EMPTY = { waiting: 0, active: 0, delayed: 0, failed: 0 };
const PATIENCE = { timeout: 60_000, interval: 200 };
const WITHIN = { timeoutMs: scaled(120_000, 300_000) };

let vhost: TestVhost;
let scene: Scene | undefined;
beforeEach(async () => {
  vhost = await createVhost();
});
afterEach(async () => {
  await scene?.close();
  scene = undefined;
  await vhost.drop();
});

/** The postgres exporter has no processors. */
async function withoutPostgres(options: Partial<SceneOptions> = {}): Promise<Scene> {
  const env = { DATADOG_GRACE_MS: "200", QUEUE_HIGH_WATER_EVENTS: String(HIGH_WATER_EVENTS), ...options.env };
  scene = await startScene({ brokerUrl: vhost.url, processes: { receiver: 1, "datadog-processor": 1 }, ...options, env });
  return scene;
}

async function play({ publisher }: Scene, eventsPerSecond = EVENTS_PER_SECOND): Promise<Truth> {
  const load = Load.start({ publisher, eventsPerSecond });
  await new Promise((resolve) => setTimeout(resolve, LOAD_MS));
  return load.stop();
}

async function publish({ publisher }: Scene, events: number): Promise<Truth> {
  const prepared = prepareBurst(events);
  await publishBurst(publisher, prepared);
  return prepared;
}

async function receiverSays({ fleet }: Scene): Promise<string> {
  const [receiver] = fleet.processes("receiver");
  return receiver === undefined ? "no receiver" : (await readinessOf(receiver)).text;
}

async function usedMemory({ redis }: Scene): Promise<number> {
  const client = new Redis(redis.url);
  try {
    return Number(/^used_memory:(\d+)/m.exec(await client.info("memory"))?.[1]);
  } finally {
    client.disconnect();
  }
}

/** 0 means no limit. */
async function limitMemory({ redis }: Scene, bytes: number): Promise<void> {
  const client = new Redis(redis.url);
  await client.config("SET", "maxmemory", String(bytes));
  client.disconnect();
}

describe("a stopped exporter", () => {
  it("below the limit: all metrics of the other arrive meanwhile, and its backlog drains completely when it is back", async () => {
    const played = await withoutPostgres({ env: { QUEUE_HIGH_WATER_EVENTS: "2000000" } });
    const truth = await play(played);
    await expectMetrics(played.sink, truth, WITHIN);
    expect((await played.queues.contents("postgres")).waiting).toBeGreaterThan(0);
    expect(await receiverSays(played)).not.toContain("holding");
    await played.fleet.add("postgres-processor");
    await expectRows(played.database, truth, WITHIN);
  });

  it("beyond the limit with `hold`: RabbitMQ keeps the backlog for both, the receiver reports it and stays small, and everything gets through in the end", async () => {
    // What is returned during a hold may be redelivered late: if a task's events are divided, one part waits for the other.
    const played = await withoutPostgres({ env: { DATADOG_GRACE_MS: "15000" } });
    const before = await play(played);
    const receivers = played.fleet.processes("receiver");
    // The other exporter has no backlog any more, so it is this queue that holds.
    await expect.poll(() => played.queues.contents("datadog"), PATIENCE).toEqual(EMPTY);
    await expect.poll(() => sumOf(receivers, "queue_events", { exporter: "postgres" }), PATIENCE).toBeGreaterThanOrEqual(HIGH_WATER_EVENTS);
    await expect.poll(() => receiverSays(played), PATIENCE).toContain("holding: an exporter queue is full");
    const stored = await sumOf(receivers, "events_enqueued_total");
    const truth = together(before, await play(played, 3 * EVENTS_PER_SECOND));
    await expect.poll(() => messagesIn(vhost.url), PATIENCE).toBeGreaterThan(0);
    // Wait for what was on its way.
    expect(await sumOf(receivers, "events_enqueued_total")).toBeLessThan(stored + 3 * BATCHES_IN_FLIGHT_EVENTS);
    for (const receiver of receivers) expect(await residentBytes(receiver)).toBeLessThan(MAX_MEMORY_BYTES);
    await played.fleet.add("postgres-processor");
    await expectRows(played.database, truth, WITHIN);
    await expectMetrics(played.sink, truth, WITHIN);
    await expect.poll(() => receiverSays(played), PATIENCE).toContain('"ready":true');
  });

  it("beyond the limit with `shed`: only its own events are dropped, each is counted, and later ones are stored again", async () => {
    const played = await withoutPostgres({ env: { QUEUE_FULL: "shed" } });
    const receivers = played.fleet.processes("receiver");
    const shedOf = (exporter: string): Promise<number> => sumOf(receivers, "events_shed_total", { exporter });
    // In waves below the limit, so that the other exporter's queue never reaches it, however slow the machine is.
    const truths: Truth[] = [];
    while ((await shedOf("postgres")) < HIGH_WATER_EVENTS) {
      truths.push(await publish(played, HIGH_WATER_EVENTS / 4));
      await expect
        .poll(() => sumOf(receivers, "events_enqueued_total", { exporter: "datadog" }), PATIENCE)
        .toBe(together(...truths).events);
      await expect.poll(() => played.queues.contents("datadog"), PATIENCE).toEqual(EMPTY);
    }
    const truth = together(...truths);
    await expectMetrics(played.sink, truth, WITHIN);
    const shed = await shedOf("postgres");
    const stored = await sumOf(receivers, "events_enqueued_total", { exporter: "postgres" });
    console.info({ events: truth.events, stored, shed });
    expect(shed + stored).toBe(truth.events);
    expect(await shedOf("datadog")).toBe(0);
    expect(await receiverSays(played)).toContain('"ready":true');

    await played.fleet.add("postgres-processor");
    const exported = (): Promise<number> => sumOf(played.fleet.processes("postgres-processor"), "events_exported_total");
    await expect.poll(exported, PATIENCE).toBe(stored);
    await expect.poll(() => sumOf(receivers, "queue_events", { exporter: "postgres" }), PATIENCE).toBe(0);
    await played.database.query("truncate celery_task");
    const later = await publish(played, HIGH_WATER_EVENTS / 4);
    await expectRows(played.database, later, WITHIN);
    expect(await shedOf("postgres")).toBe(shed);
  });
});

describe("a Redis that has no more memory", () => {
  /** On top of what it uses when it is empty. */
  const ROOM_BYTES = 48 * MEBIBYTE;
  const FILLING_EVENTS_PER_SECOND = 6_000;

  it.runIf(SOAK)("counts as full before it is: RabbitMQ keeps the rest, processors continue, and nothing is lost", async () => {
    // If a long hold divides a task's events, one part waits for the other.
    const env = { QUEUE_HIGH_WATER_EVENTS: "2000000", DATADOG_INCOMPLETE_WAIT_MS: "600000" };
    const played = await withoutPostgres({ env });
    const limit = (await usedMemory(played)) + ROOM_BYTES;
    await limitMemory(played, limit);
    const load = Load.start({ publisher: played.publisher, eventsPerSecond: FILLING_EVENTS_PER_SECOND });
    await expect.poll(() => receiverSays(played), { ...PATIENCE, timeout: 600_000 }).toContain("holding: an exporter queue is full");
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    const truth = await load.stop();
    await expect.poll(() => played.queues.contents("datadog"), PATIENCE).toEqual(EMPTY);
    console.info({ limit, used: await usedMemory(played), events: truth.events, held: await messagesIn(vhost.url) });
    expect(await messagesIn(vhost.url)).toBeGreaterThan(0);
    expect(await usedMemory(played)).toBeLessThan(limit);
    await played.fleet.add("postgres-processor");
    await expectRows(played.database, truth, WITHIN);
    await expectMetrics(played.sink, truth, WITHIN);
    expect((await played.queues.contents("dead-letter")).waiting).toBe(0);
  });

  it("refuses everything while another program has filled it: all processes report it, and continue when it has room again", async () => {
    const played = await withoutPostgres({
      processes: { receiver: 1, "datadog-processor": 1, "postgres-processor": 1 },
      // While writes are refused, a batch may overtake another by the time that the receiver waits between its retries.
      env: { DATADOG_GRACE_MS: "5000" },
    });
    const load = Load.start({ publisher: played.publisher, eventsPerSecond: EVENTS_PER_SECOND });
    await expect.poll(() => sumOf(played.fleet.processes("receiver"), "events_enqueued_total"), PATIENCE).toBeGreaterThan(0);
    await limitMemory(played, 1);
    const ready = async (): Promise<number> =>
      (await Promise.all(played.fleet.processes().map(readinessOf))).filter((report) => report.ready).length;
    await expect.poll(ready, PATIENCE).toBe(0);
    await limitMemory(played, 0);
    await expect.poll(ready, PATIENCE).toBe(3);
    const truth = await load.stop();
    await expectRows(played.database, truth, WITHIN);
    await expectMetrics(played.sink, truth, WITHIN);
    expect((await played.queues.contents("dead-letter")).waiting).toBe(0);
  });
});

describe.runIf(SOAK)("the other exporter's speed", () => {
  const ROUNDS = 4;
  const EVENTS = 60_000;
  const TOLERANCE = 1.1;

  it("is the same when its neighbour's database is away", async () => {
    const database = await BreakableDatabase.start();
    const processes = { receiver: 1, "datadog-processor": 1, "postgres-processor": 1 };
    const played = await withoutPostgres({ databaseUrl: database.url, processes, env: { QUEUE_HIGH_WATER_EVENTS: "2000000" } });
    const seconds: Record<"healthy" | "away", number[]> = { healthy: [], away: [] };
    const truths: Truth[] = [];
    const round = async (): Promise<number> => {
      played.sink.clear();
      const began = performance.now();
      const truth = await publish(played, EVENTS);
      truths.push(truth);
      await expectMetrics(played.sink, truth, WITHIN);
      return (performance.now() - began) / 1_000;
    };
    const drained = async (): Promise<number> => (await played.queues.contents("postgres")).waiting;
    await round();
    for (let count = 0; count < ROUNDS; count++) {
      await expect.poll(drained, { ...PATIENCE, timeout: 120_000 }).toBe(0);
      seconds.healthy.push(await round());
      await expect.poll(drained, { ...PATIENCE, timeout: 120_000 }).toBe(0);
      const mend = await database.closeDoors();
      seconds.away.push(await round());
      await mend();
    }
    await expectRows(played.database, together(...truths), WITHIN);
    const ratio = median(seconds.away) / median(seconds.healthy);
    console.info({ seconds, ratio });
    expect(ratio).toBeLessThan(TOLERANCE);
    await scene?.close();
    scene = undefined;
    await database.close();
  });
});

function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? Number.NaN;
}
