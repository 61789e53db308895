/** Faults that affect everything: they are outages, whatever the error says, and cost no event. */
import { taskSent, taskStarted } from "@celery-metrics-exporter/celery/testing";
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { PermanentError, TimedOutError, UnavailableError } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { DEAD_LETTER_QUEUE, encodeBatch } from "../../src/index.ts";
import { JOB_NAMES } from "../../src/queue/names.ts";
import { exporterOf, startHost, type RunningHost } from "../support/host.ts";
import { privateRedis } from "../support/redis.ts";

const PREFIX = "{cme}";
const EVENTS_PER_BATCH = 4_000;
const redis = privateRedis();
const hosts: RunningHost[] = [];
let queue: Queue;
let deadLetters: Queue;

beforeEach(async () => {
  [queue, deadLetters] = ["sink", DEAD_LETTER_QUEUE].map((name) => {
    const opened = new Queue(name, { connection: redis.producer, prefix: PREFIX });
    opened.on("error", () => {});
    return opened;
  }) as [Queue, Queue];
  await Promise.all([queue.waitUntilReady(), deadLetters.waitUntilReady()]);
});
afterEach(async () => {
  await Promise.all(hosts.splice(0).map((host) => host.stop()));
  await Promise.all([queue.close(), deadLetters.close()]);
  await redis.producer.flushall();
});

async function start(definition: Parameters<typeof startHost>[0], env: Record<string, string> = {}): Promise<RunningHost> {
  const host = await startHost(definition, { REDIS_URL: redis.url, PROCESSOR_MAX_TRIES: "2", ...env });
  hosts.push(host);
  return host;
}

const ids = (events: readonly CeleryEvent[]): string[] => events.map((event) => ("uuid" in event && event.uuid) || "");
const numbered = (count: number, from = 0): CeleryEvent[] =>
  Array.from({ length: count }, (_, index) => taskStarted({ uuid: `task-${from + index}` }));

async function enqueue(events: readonly CeleryEvent[]): Promise<void> {
  for (let from = 0; from < events.length; from += EVENTS_PER_BATCH) {
    await queue.add("batch", encodeBatch({ broker: "rabbitmq", events: events.slice(from, from + EVENTS_PER_BATCH) }));
  }
}

const HELD = "sink exporter: held batches";
const constraint = (): Error => new PermanentError('violates check constraint "no_rows" (23514)');
const bug = (): Error => new TypeError("cannot read properties of undefined");

describe("a sink that refuses everything", () => {
  it.each([
    ["PermanentError", constraint],
    ["an unknown error", bug],
  ])(
    "loses nothing: %s for 50,000 events",
    async (_, error) => {
      const got = new Set<string>();
      let isRefusing = true;
      let tries = 0;
      const host = await start(
        exporterOf("sink", () => ({
          export: async (events) => {
            tries += 1;
            if (isRefusing) throw error();
            for (const id of ids(events)) got.add(id);
          },
        })),
      );
      await enqueue(numbered(50_000));
      await vi.waitUntil(() => !host.health.report().ready, { timeout: 30_000 });
      expect(host.health.report().components[HELD]).toContain(`nothing gets through (${error().message})`);
      // Long enough for every batch to have been tried, if nothing prevented that.
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      expect(tries).toBeLessThan(2_000);
      expect(await deadLetters.getWaitingCount()).toBe(0);
      isRefusing = false;
      await vi.waitUntil(() => got.size === 50_000, { timeout: 60_000 });
      await vi.waitUntil(() => host.health.report().ready, { timeout: 10_000 });
      expect(await deadLetters.getWaitingCount()).toBe(0);
    },
    120_000,
  );

  it("survives the process: another one delivers what was held", async () => {
    const refusing = await start(exporterOf("sink", () => ({ export: () => Promise.reject(constraint()) })));
    await enqueue(numbered(9_000));
    await vi.waitUntil(() => !refusing.health.report().ready, { timeout: 30_000 });
    await refusing.stop();
    const got = new Set<string>();
    await start(exporterOf("sink", () => ({ export: async (events) => ids(events).forEach((id) => got.add(id)) })));
    await vi.waitUntil(() => got.size === 9_000, { timeout: 30_000 });
    expect(await deadLetters.getWaitingCount()).toBe(0);
  }, 60_000);

  it("is asked less and less often, also while jobs are done that ask it nothing", async () => {
    let tries = 0;
    await start(
      exporterOf("sink", () => ({
        export: async () => {
          tries += 1;
          throw constraint();
        },
      })),
    );
    await enqueue(numbered(1));
    const until = Date.now() + 12_000;
    for (; Date.now() < until; await new Promise((resolve) => setTimeout(resolve, 100))) {
      await queue.add("batch", encodeBatch({ broker: "rabbitmq", events: [] }));
    }
    expect(tries).toBeGreaterThan(2);
    expect(tries).toBeLessThan(8);
  }, 30_000);

  it("refuses a single event: it is held until another gets through, and then buried", async () => {
    const host = await start(
      exporterOf("sink", () => ({
        export: async (events) => {
          if (ids(events).includes("task-bad")) throw constraint();
        },
      })),
    );
    await enqueue([taskStarted({ uuid: "task-bad" })]);
    await vi.waitUntil(() => !host.health.report().ready, { timeout: 10_000 });
    expect(await deadLetters.getWaitingCount()).toBe(0);
    await enqueue(numbered(1));
    await vi.waitUntil(async () => (await deadLetters.getWaitingCount()) === 1, { timeout: 40_000 });
    await vi.waitUntil(() => host.health.report().ready, { timeout: 10_000 });
  }, 60_000);
});

describe("a sink that takes too long for everything", () => {
  it("is reported until what was given back to the queue is done, by another process too", async () => {
    const slow = await start(
      exporterOf("sink", () => ({ export: () => Promise.reject(new TimedOutError("canceled")) })),
      { PROCESSOR_CONCURRENCY: "1" },
    );
    await enqueue(numbered(1));
    await vi.waitUntil(async () => (await queue.getDelayedCount()) === 1, { timeout: 20_000 });
    expect(slow.health.report().components["sink exporter"]).toContain("canceled");
    expect(slow.health.report().components[HELD]).toBe("up");
    // The state after another process has finished it.
    await (await queue.getDelayed())[0]?.remove();
    await vi.waitUntil(() => slow.health.report().ready, { timeout: 45_000 });
  }, 90_000);
});

describe("a sink that refuses many", () => {
  it("has only so many buried in a minute; the rest waits, without what got through", async () => {
    const got = new Set<string>();
    const host = await start(
      exporterOf("sink", () => ({
        export: async (events) => {
          if (ids(events).some((id) => id.endsWith("7"))) throw constraint();
          for (const id of ids(events)) got.add(id);
        },
      })),
    );
    await enqueue(numbered(4_000));
    await vi.waitUntil(() => got.size === 3_600, { timeout: 60_000 });
    await vi.waitUntil(() => !host.health.report().ready, { timeout: 30_000 });
    expect(host.health.report().components[HELD]).toContain("too many events are refused");
    const buried = await deadLetters.getWaitingCount();
    expect(buried).toBeGreaterThanOrEqual(100);
    expect(buried).toBeLessThan(200);
    await vi.waitUntil(async () => (await queue.getDelayedCount()) + (await queue.getActiveCount()) === 1, { timeout: 30_000 });
  }, 120_000);
});

describe("a sink that refuses some of every batch", () => {
  it("does not hold up the others", async () => {
    const got = new Set<string>();
    const host = await start(
      exporterOf("sink", () => ({
        export: async (events) => {
          if (events.some(({ type }) => type === "task-sent")) throw constraint();
          for (const id of ids(events)) got.add(id);
        },
      })),
      { PROCESSOR_CONCURRENCY: "1" },
    );
    const batches = 40;
    for (let batch = 0; batch < batches; batch += 1) {
      await enqueue([...numbered(5, batch * 5), taskSent({ uuid: `refused-${batch}` })]);
    }
    // With a growing wait of up to 30 s for each of them, it took many minutes.
    await vi.waitUntil(() => got.size === batches * 5, { timeout: 30_000 });
    expect(host.health.report().components[HELD]).toContain("no_rows");
    expect(await deadLetters.getWaitingCount()).toBe(0);
  }, 60_000);
});

describe("many batches that are held while nothing else comes", () => {
  it("do not hold up for long what comes then", async () => {
    const [got, refused] = [new Set<string>(), new Set<string>()];
    const host = await start(
      exporterOf("sink", () => ({
        export: async (events) => {
          const isRefused = events.some(({ type }) => type === "task-sent");
          for (const id of ids(events)) (isRefused ? refused : got).add(id);
          if (isRefused) throw constraint();
        },
      })),
      { PROCESSOR_CONCURRENCY: "2" },
    );
    for (let batch = 0; batch < 40; batch += 1) await enqueue([taskSent({ uuid: `refused-${batch}` })]);
    // With a wait of up to 30 s for each of them it took ten minutes.
    await vi.waitUntil(() => refused.size === 40, { timeout: 90_000 });
    expect(host.health.report().ready).toBe(false);
    await enqueue(numbered(1));
    await vi.waitUntil(() => got.size === 1, { timeout: 60_000 });
  }, 180_000);
});

describe("a task that was forgotten", () => {
  it("is not sent again when a later event is refused", async () => {
    const rows = new Set<string>();
    const log: string[] = [];
    await start(
      exporterOf("sink", () => ({
        export: async (events) => {
          if (ids(events).includes("bad")) {
            log.push("bad refused");
            throw constraint();
          }
          for (const id of ids(events)) rows.add(id);
        },
        forget: async (all) => {
          for (const id of all) rows.delete(id);
          log.push(...all);
        },
      })),
      { FILTER_QUEUES_EXCLUDE: "q1" },
    );
    await enqueue([taskStarted({ uuid: "x" })]);
    await vi.waitUntil(() => rows.has("x"), { timeout: 10_000 });
    await enqueue([taskSent({ uuid: "x", queue: "q1" })]);
    await vi.waitUntil(() => log.includes("x"), { timeout: 10_000 });
    await enqueue([taskStarted({ uuid: "bad" })]);
    await vi.waitUntil(() => log.includes("bad refused"), { timeout: 10_000 });
    await enqueue([taskStarted({ uuid: "good" })]);
    await vi.waitUntil(async () => (await deadLetters.getWaitingCount()) === 1, { timeout: 20_000 });
    expect([...rows]).toEqual(["good"]);
  }, 60_000);
});

describe("a bug in the second stage", () => {
  it("costs no id when it begins after others were processed, which come again and need nothing", async () => {
    const done = new Set<string>();
    let isBroken = false;
    const create = ({ schedule }: { schedule: (ids: readonly string[], options: { delayMs: number }) => Promise<void> }) => ({
      export: (events: readonly CeleryEvent[]) => schedule(ids(events), { delayMs: 0 }),
      process: async (all: readonly string[]) => {
        const left = all.filter((id) => !done.has(id));
        if (isBroken && left.length > 0) throw bug();
        for (const id of left) done.add(id);
        return left.length;
      },
    });
    const host = await start(exporterOf("sink", create));
    await enqueue(numbered(20));
    await vi.waitUntil(() => done.size === 20, { timeout: 10_000 });
    isBroken = true;
    const held = "sink processing: held batches";
    for (let round = 0; round < 10; round++) await enqueue([...numbered(1, 100 + round), ...numbered(20)]);
    await vi.waitUntil(() => host.health.report().components[held]?.includes("id to process"), { timeout: 20_000 });
    // Long enough for each to have been tried again.
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    expect(host.health.report().ready).toBe(false);
    expect(await deadLetters.getWaitingCount()).toBe(0);
    isBroken = false;
    await vi.waitUntil(() => done.size === 30, { timeout: 60_000 });
    await vi.waitUntil(() => host.health.report().ready, { timeout: 10_000 });
    expect(await deadLetters.getWaitingCount()).toBe(0);
  }, 120_000);
});

describe("a batch that is suspected of having killed its process", () => {
  it("stops nothing else while its own sink is away", async () => {
    const exported: string[] = [];
    let tries = 0;
    const create = ({ schedule }: { schedule: (ids: readonly string[], options: { delayMs: number }) => Promise<void> }) => ({
      export: async (events: readonly CeleryEvent[]) => {
        exported.push(...ids(events));
        await schedule([], { delayMs: 0 });
      },
      process: () => {
        tries += 1;
        return Promise.reject(new UnavailableError("no agent"));
      },
    });
    await start(exporterOf("sink", create));
    const processing = new Queue("sink-processing", { connection: redis.producer, prefix: PREFIX });
    await processing.add(JOB_NAMES.suspect, { v: 1, ids: ["x"] });
    await processing.add(JOB_NAMES.ids, { v: 1, ids: ["y"] });
    await vi.waitUntil(() => tries >= 4, { timeout: 20_000 });
    // Noted only while it is tried: if the process dies between two tries, the batch is not to blame.
    await vi.waitFor(
      async () => {
        const [suspect] = (await processing.getActive()).filter(({ name }) => name === JOB_NAMES.suspect);
        expect(suspect?.progress).toEqual({ deaths: 0 });
      },
      { timeout: 20_000, interval: 20 },
    );
    await enqueue(numbered(3));
    await vi.waitUntil(() => exported.length === 3, { timeout: 5_000 });
    await processing.close();
  }, 60_000);
});
