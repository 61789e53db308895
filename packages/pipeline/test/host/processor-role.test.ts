import { taskFailed, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { PermanentError, UnavailableError, createLogger, startRoles } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  DEAD_LETTER_QUEUE,
  encodeBatch,
  processorRole,
  type Exporter,
  type ExporterContext,
  type ExporterDefinition,
} from "../../src/index.ts";
import { exporterOf, startHost, type RunningHost } from "../support/host.ts";
import { privateRedis } from "../support/redis.ts";

const PREFIX = "{cme}";
const redis = privateRedis(["--appendonly", "yes"]);
const hosts: RunningHost[] = [];
let queue: Queue;
let processing: Queue;
let deadLetters: Queue;

beforeEach(async () => {
  [queue, processing, deadLetters] = ["sink", "sink-processing", DEAD_LETTER_QUEUE].map((name) => {
    const opened = new Queue(name, { connection: redis.producer, prefix: PREFIX });
    opened.on("error", () => {});
    return opened;
  }) as [Queue, Queue, Queue];
  // A queue whose first command failed never works again.
  await Promise.all([queue, processing, deadLetters].map((opened) => opened.waitUntilReady()));
});
afterEach(async () => {
  await Promise.all(hosts.splice(0).map((host) => host.stop()));
  await Promise.all([queue, processing, deadLetters].map((opened) => opened.close()));
  await redis.producer.flushall();
});

type Create = (context: ExporterContext<Record<string, unknown>>) => Exporter;

function exporting(send: Exporter["export"]): ExporterDefinition {
  return exporterOf("sink", () => ({ export: send }));
}

const idle: Create = () => ({ export: () => Promise.resolve() });

async function start(definition: ExporterDefinition, env: Record<string, string> = {}): Promise<RunningHost> {
  const host = await startHost(definition, { REDIS_URL: redis.url, ...env });
  hosts.push(host);
  return host;
}

async function enqueue(events: readonly CeleryEvent[]): Promise<void> {
  await queue.add("batch", encodeBatch({ broker: "rabbitmq", events }));
}

const uuids = (events: readonly CeleryEvent[]): (string | undefined)[] => events.map((event) => ("uuid" in event ? event.uuid : undefined));
const numbered = (count: number): CeleryEvent[] => Array.from({ length: count }, (_, index) => taskStarted({ uuid: `task-${index}` }));

const failed = (count: number): CeleryEvent[] => Array.from({ length: count }, (_, index) => taskFailed({ uuid: `failed-${index}` }));

async function isEmpty(opened: Queue): Promise<boolean> {
  const counts = await opened.getJobCounts("wait", "active", "delayed", "completed", "failed");
  return Object.values(counts).every((count) => count === 0);
}

async function untilEmpty(opened: Queue): Promise<void> {
  await vi.waitUntil(() => isEmpty(opened), { timeout: 20_000, interval: 50 });
}

async function commandsProcessed(): Promise<number> {
  return Number(/total_commands_processed:(\d+)/.exec(await redis.producer.info("stats"))?.[1]);
}

/** The ids of the jobs under way in the second stage, once Redis is back. */
async function backAndActive(): Promise<string[]> {
  await vi.waitUntil(() => redis.producer.status === "ready", { timeout: 10_000 });
  return redis.producer.lrange(`${PREFIX}:sink-processing:active`, 0, -1);
}

async function lettersIn(): Promise<{ name: string; data: Record<string, unknown> }[]> {
  const jobs = await deadLetters.getJobs(["wait"], 0, -1, true);
  return jobs.map(({ name, data }) => ({ name, data }));
}

describe("the host of an exporter", () => {
  it("exports every batch and leaves nothing behind in the queue", async () => {
    const exported: CeleryEvent[] = [];
    const host = await start(exporting(async (events) => void exported.push(...events)));
    const batches = [[taskSent()], [taskStarted(), taskSucceeded()]];
    for (const batch of batches) await enqueue(batch);
    await untilEmpty(queue);
    expect(exported).toHaveLength(3);
    expect(exported).toEqual(expect.arrayContaining(batches.flat()));
    expect(await host.metric("events_exported_total", { exporter: "sink" })).toBe(3);
    expect(host.health.report().ready).toBe(true);
  });

  it("tells the exporter when the receiver had the events, also of a batch that was split or held", async () => {
    const received = new Map<string | undefined, number | undefined>();
    let isRefusing = true;
    await start(
      exporting(async (events, _signal, batch) => {
        if (isRefusing && events.some((event) => "uuid" in event && event.uuid === "held")) throw new PermanentError("no");
        for (const uuid of uuids(events)) received.set(uuid, batch?.receivedAt);
      }),
    );
    const events = [taskStarted({ uuid: "split" }), taskSent({ uuid: "held" })];
    await queue.add("batch", encodeBatch({ broker: "redis", receivedAt: 5.25, events }));
    await enqueue([taskStarted({ uuid: "older" })]);
    await vi.waitUntil(() => received.size === 2, { timeout: 10_000 });
    await vi.waitFor(async () => expect(await queue.getJobCounts("delayed")).toEqual({ delayed: 1 }), { timeout: 10_000 });
    isRefusing = false;
    await untilEmpty(queue);
    expect(received).toEqual(
      new Map([
        ["held", 5.25],
        ["older", undefined],
        ["split", 5.25],
      ]),
    );
  });

  it("exports several batches at the same time, as many as set", async () => {
    let running = 0;
    let most = 0;
    await start(
      exporting(async () => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 50));
        running -= 1;
      }),
      { PROCESSOR_CONCURRENCY: "3" },
    );
    for (let batch = 0; batch < 12; batch++) await enqueue([taskSent()]);
    await untilEmpty(queue);
    expect(most).toBe(3);
  });

  it("does not start if the exporter does not", async () => {
    const definition = exporterOf("sink", () => ({ start: () => Promise.reject(new Error("no sink")), export: () => Promise.resolve() }));
    await expect(start(definition)).rejects.toThrow("no sink");
  });

  it("stops the exporter after the last batch", async () => {
    const journal: string[] = [];
    const host = await start(
      exporterOf("sink", () => ({
        export: async () => {
          journal.push("begin");
          await new Promise((resolve) => setTimeout(resolve, 300));
          journal.push("end");
        },
        stop: () => Promise.resolve(void journal.push("stop")),
      })),
    );
    await enqueue([taskSent()]);
    await vi.waitUntil(() => journal.length > 0);
    await host.stop();
    expect(journal).toEqual(["begin", "end", "stop"]);
    expect(await isEmpty(queue)).toBe(true);
  });
});

describe("an outage of the sink", () => {
  it("is waited out: not ready, no attempts used, nothing split, all delivered afterwards", async () => {
    let isDown = true;
    const sizes: number[] = [];
    const host = await start(
      exporting(async (events) => {
        sizes.push(events.length);
        if (isDown) throw new UnavailableError("connection refused");
      }),
      { PROCESSOR_MAX_TRIES: "1" },
    );
    await enqueue(numbered(10));
    await vi.waitUntil(() => sizes.length >= 5, { timeout: 15_000 });
    await queue.add("batch", encodeBatch({ broker: "redis", events: [] }));
    await vi.waitUntil(async () => (await queue.getJobCounts("wait")).wait === 0);
    expect(host.health.report()).toMatchObject({ ready: false, components: { "sink exporter": "connection refused" } });
    const [job] = await queue.getJobs(["active"]);
    expect(job?.attemptsMade).toBe(0);
    isDown = false;
    await untilEmpty(queue);
    expect(new Set(sizes)).toEqual(new Set([10]));
    expect(await lettersIn()).toEqual([]);
    expect(host.health.report().ready).toBe(true);
    expect(await host.metric("export_retries_total", { reason: "unavailable" })).toBe(sizes.length - 1);
  });

  it("is over when the sink refuses something", async () => {
    const answers = [new UnavailableError("connection refused"), new PermanentError("invalid byte sequence")];
    const host = await start(
      exporting(async () => {
        const answer = answers.shift();
        if (answer !== undefined) throw answer;
      }),
    );
    await enqueue(numbered(1));
    await vi.waitUntil(() => host.health.report().components["sink exporter"] !== "up", { timeout: 5_000, interval: 10 });
    await vi.waitUntil(() => host.health.report().components["sink exporter"] === "up", { timeout: 5_000, interval: 10 });
    await untilEmpty(queue);
    expect(await lettersIn()).toEqual([]);
    expect(host.health.report().ready).toBe(true);
  });

  it("returns the job to its queue at once when the process exits", async () => {
    const signals: AbortSignal[] = [];
    const host = await start(
      exporting(async (_, signal) => {
        signals.push(signal);
        throw new UnavailableError("connection refused");
      }),
    );
    await enqueue(numbered(10));
    await vi.waitUntil(() => signals.length >= 3, { timeout: 10_000 });
    const before = Date.now();
    await host.stop();
    expect(Date.now() - before).toBeLessThan(2_000);
    expect(await queue.getJobCounts("wait", "active", "failed")).toEqual({ wait: 1, active: 0, failed: 0 });
    const exported: CeleryEvent[] = [];
    await start(exporting(async (events) => void exported.push(...events)));
    await untilEmpty(queue);
    expect(exported).toEqual(numbered(10));
  });

  it("aborts a try that hangs, and returns its job", async () => {
    let tries = 0;
    const host = await start(
      exporting(async (_, signal) => {
        if (++tries === 1) throw new UnavailableError("connection refused");
        await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error("aborted"))));
      }),
    );
    await enqueue(numbered(10));
    await vi.waitUntil(() => tries === 2, { timeout: 10_000 });
    await host.stop();
    expect(await queue.getJobCounts("wait", "active", "failed")).toEqual({ wait: 1, active: 0, failed: 0 });
    expect(await lettersIn()).toEqual([]);
  });
});

describe("bad data", () => {
  const bad = taskFailed({ uuid: "task-bad" });

  it("is isolated: exactly the event at fault goes to the dead letters, with the reason", async () => {
    const exported: CeleryEvent[] = [];
    const host = await start(
      exporting(async (events) => {
        if (uuids(events).includes("task-bad")) throw new PermanentError("invalid byte sequence");
        exported.push(...events);
      }),
    );
    await enqueue([...numbered(100), bad, ...failed(100)]);
    await untilEmpty(queue);
    expect(exported).toHaveLength(200);
    expect(new Set(uuids(exported))).toEqual(new Set(uuids([...numbered(100), ...failed(100)])));
    expect(await host.metric("events_exported_total", { exporter: "sink" })).toBe(200);
    expect(await lettersIn()).toEqual([
      { name: "refused", data: { source: "sink", reason: "refused", detail: "invalid byte sequence", event: bad } },
    ]);
    expect(await host.metric("dead_letters_total", { source: "sink", reason: "refused" })).toBe(1);
    expect(await host.metric("batches_split_total")).toBeGreaterThan(5);
  });

  it("an unknown error is retried, and then split likewise", async () => {
    const sizes: number[] = [];
    const host = await start(
      exporting(async (events) => {
        sizes.push(events.length);
        if (uuids(events).includes("task-bad")) throw new TypeError("cannot read properties of undefined");
      }),
      { PROCESSOR_MAX_TRIES: "3" },
    );
    await enqueue([...failed(7), bad]);
    await untilEmpty(queue);
    expect(sizes.filter((size) => size === 8)).toHaveLength(3);
    expect(await lettersIn()).toMatchObject([{ name: "failed", data: { detail: "cannot read properties of undefined", event: bad } }]);
    expect(await host.metric("export_retries_total", { reason: "error" })).toBeGreaterThanOrEqual(2);
  });

  it("is held while nothing like it gets through, and says so: the only event of its kind", async () => {
    const host = await start(
      exporting(async (events) => {
        if (uuids(events).includes("task-bad")) throw new PermanentError("invalid byte sequence");
      }),
    );
    await enqueue([...numbered(20), bad, ...numbered(20)]);
    const held = (): string => host.health.report().components["sink exporter: held batches"] ?? "";
    await vi.waitUntil(() => held() !== "up", { timeout: 10_000 });
    expect(held()).toBe("too few others of this type are accepted to prove these at fault: task-failed (invalid byte sequence)");
    await enqueue(numbered(20));
    await vi.waitUntil(async () => (await queue.getDelayedCount()) === 1, { timeout: 10_000 });
    expect(await lettersIn()).toEqual([]);
    await enqueue([taskFailed({ uuid: "task-good" })]);
    await untilEmpty(queue);
    expect(await lettersIn()).toMatchObject([{ name: "refused", data: { event: bad } }]);
  });

  it("is let go of by a filter", async () => {
    const refusing = exporting(() => Promise.reject(new PermanentError("invalid byte sequence")));
    const host = await start(refusing);
    await enqueue([bad]);
    await vi.waitUntil(() => !host.health.report().ready, { timeout: 10_000 });
    await host.stop();
    await start(refusing, { FILTER_EVENT_TYPES_EXCLUDE: "task-failed" });
    await untilEmpty(queue);
    expect(await lettersIn()).toEqual([]);
  });

  it("an unreadable payload goes to the dead letters whole", async () => {
    await start(exporting(() => Promise.resolve()));
    await queue.add("batch", ["x"]);
    await untilEmpty(queue);
    expect(await lettersIn()).toMatchObject([{ name: "payload", data: { source: "sink", payload: ["x"] } }]);
  });
});

describe("a payload of a newer release", () => {
  it("is kept for a process that can read it, which this one reports; others go through", async () => {
    const exported: CeleryEvent[] = [];
    const create: Create = ({ schedule }) => ({
      export: async (events) => {
        exported.push(...events);
        await schedule(["x"], { delayMs: 0 });
      },
      process: () => Promise.resolve(),
    });
    const host = await start(exporterOf("sink", create));
    const newer = { v: 4, broker: "redis", news: "x".repeat(20_000) };
    const newerIds = { v: 2, groups: [["x"]] };
    await queue.add("batch", newer);
    await processing.add("ids", newerIds);
    await enqueue(numbered(3));
    const held = ["sink exporter: held batches", "sink processing: held batches"];
    await vi.waitUntil(() => held.every((name) => /newer release/.test(host.health.report().components[name] ?? "")), { timeout: 10_000 });
    await vi.waitUntil(() => exported.length === 3, { timeout: 10_000 });
    expect(host.health.report().ready).toBe(false);
    await vi.waitUntil(async () => (await queue.getDelayed()).length === 1 && (await processing.getDelayed()).length === 1);
    await host.stop();
    const kept = [...(await queue.getDelayed()), ...(await processing.getDelayed())];
    expect(kept.map(({ data }) => data as unknown)).toEqual([newer, newerIds]);
    expect(await lettersIn()).toEqual([]);
  });

  it("is checked only now and then, however many there are", async () => {
    await start(exporting(() => Promise.resolve()));
    await queue.addBulk(Array.from({ length: 3_000 }, () => ({ name: "batch", data: { v: 99 } })));
    await vi.waitUntil(async () => (await queue.getDelayedCount()) > 2_900, { timeout: 40_000 });
    const before = await commandsProcessed();
    await new Promise((resolve) => setTimeout(resolve, 6_000));
    expect((await commandsProcessed()) - before).toBeLessThan(25_000);
  }, 60_000);
});

describe("the second stage", () => {
  it("gets what was scheduled as one job, after the delay, and again with the same id after an outage", async () => {
    const calls: { ids: readonly string[]; job: string; at: number }[] = [];
    let scheduledAt = 0;
    const create: Create = ({ schedule }) => ({
      export: async (events) => {
        scheduledAt = Date.now();
        await schedule(uuids(events) as string[], { delayMs: 400 });
        await schedule([], { delayMs: 0 });
      },
      process: async (ids, _signal, { id }) => {
        calls.push({ ids, job: id, at: Date.now() });
        if (calls.length === 1) throw new UnavailableError("agent down");
      },
    });
    await start(exporterOf("sink", create));
    await enqueue(numbered(3));
    await vi.waitUntil(() => calls.length === 2, { timeout: 10_000 });
    await untilEmpty(processing);
    expect(calls.map(({ ids }) => ids)).toEqual([
      ["task-0", "task-1", "task-2"],
      ["task-0", "task-1", "task-2"],
    ]);
    expect(calls[0]?.job).toBe(calls[1]?.job);
    expect((calls[0]?.at ?? 0) - scheduledAt).toBeGreaterThanOrEqual(399);
  });

  it("waits for the batches that were begun before it was scheduled, such as those of a process that died", async () => {
    const processed: string[] = [];
    const release = new AbortController();
    const create: Create = ({ schedule }) => ({
      export: async (events) => {
        const ids = uuids(events) as string[];
        if (ids.includes("task-0")) await new Promise((resolve) => release.signal.addEventListener("abort", resolve));
        else await schedule(ids, { delayMs: 0 });
      },
      process: async (ids) => void processed.push(...ids),
    });
    const host = await start(exporterOf("sink", create));
    await enqueue(numbered(1));
    await vi.waitUntil(async () => (await queue.getActiveCount()) === 1, { timeout: 5_000 });
    await enqueue(numbered(3).slice(1));
    await vi.waitUntil(async () => (await processing.getDelayed()).some(({ attemptsStarted }) => attemptsStarted >= 2), {
      timeout: 10_000,
    });
    expect(processed).toEqual([]);
    release.abort();
    await vi.waitUntil(() => processed.length === 2, { timeout: 10_000 });
    expect(await host.metric("jobs_stalled_total")).toBe(0);
    expect(await deadLetters.getWaitingCount()).toBe(0);
  });

  it("lets a process that lives note what it had done while Redis was away, before the job runs again", async () => {
    const calls: number[] = [];
    const first = new AbortController();
    const create: Create = ({ schedule }) => ({
      export: (events) => schedule(uuids(events) as string[], { delayMs: 0 }),
      process: async () => {
        calls.push(Date.now());
        if (calls.length === 1) await new Promise((resolve) => first.signal.addEventListener("abort", resolve));
      },
    });
    await start(exporterOf("sink", create));
    await enqueue(numbered(1));
    await vi.waitUntil(() => calls.length === 1, { timeout: 5_000 });
    await redis.server.kill();
    await vi.waitUntil(() => redis.producer.status !== "ready", { timeout: 5_000 });
    await redis.server.restart();
    const [job] = await backAndActive();
    const returnedAt = Date.now();
    // The effect of an outage that is longer than the lock.
    await redis.producer.del(`${PREFIX}:sink-processing:${job}:lock`, `${PREFIX}:sink-processing:stalled-check`);
    await redis.producer.sadd(`${PREFIX}:sink-processing:stalled`, job ?? "");
    await vi.waitUntil(() => calls.length === 2, { timeout: 20_000 });
    expect((calls[1] ?? 0) - returnedAt).toBeGreaterThan(3_000);
    first.abort();
    await untilEmpty(processing);
  });

  it.each([
    ["", 0],
    [" of a job that had to wait before its first try", 500],
  ])("isolates the id at fault%s", async (_name, batchTakesMs) => {
    const processed: string[] = [];
    const create: Create = ({ schedule }) => ({
      export: async (events) => {
        await schedule(uuids(events) as string[], { delayMs: 0 });
        await new Promise((resolve) => setTimeout(resolve, batchTakesMs));
      },
      process: async (ids) => {
        if (ids.includes("task-5")) throw new PermanentError("no such state");
        processed.push(...ids);
      },
    });
    await start(exporterOf("sink", create));
    await enqueue(numbered(10));
    await vi.waitUntil(async () => (await deadLetters.getWaitingCount()) === 1, { timeout: 10_000 });
    await untilEmpty(processing);
    expect(new Set(processed).size).toBe(9);
    expect(await lettersIn()).toMatchObject([{ name: "refused", data: { raw: "task-5", detail: "no such state" } }]);
  });
});

describe("the end of the process", () => {
  it.each([
    ["a batch is held", async () => void (await queue.add("batch", { v: 99 }))],
    ["the sink of the other stage is away", () => enqueue(numbered(1))],
  ])(
    "leaves what is under way its time while %s: nothing is sent twice",
    async (_, disturb) => {
      const begun: string[] = [];
      const sent: string[] = [];
      const create: Create = () => ({
        export: () => Promise.reject(new UnavailableError("connection refused")),
        process: async (ids) => {
          begun.push(...ids);
          await new Promise((resolve) => setTimeout(resolve, 4_000));
          sent.push(...ids);
        },
      });
      const host = await start(exporterOf("sink", create));
      await processing.add("ids", { v: 1, ids: ["task"] });
      await disturb();
      await vi.waitUntil(() => begun.length === 1 && !host.health.report().ready, { timeout: 5_000 });
      await host.stop();
      expect(sent).toEqual(["task"]);
      expect(await isEmpty(processing)).toBe(true);
      expect(await queue.getJobCountByTypes("wait", "delayed")).toBe(1);
    },
    30_000,
  );
});

describe("an unavailable Redis", () => {
  it("is survived: the host goes on when Redis is back", async () => {
    const exported: CeleryEvent[] = [];
    const host = await start(exporting(async (events) => void exported.push(...events)));
    await redis.server.kill();
    await vi.waitUntil(() => !host.health.report().ready, { timeout: 10_000 });
    const scrape = await fetch(`${host.healthUrl}/metrics`);
    expect(scrape.status).toBe(200);
    await redis.server.restart();
    await vi.waitUntil(() => redis.producer.status === "ready", { timeout: 10_000 });
    await enqueue(numbered(3));
    await vi.waitUntil(() => exported.length === 3, { timeout: 15_000 });
    await vi.waitUntil(() => host.health.report().ready, { timeout: 10_000 });
  });
});

describe("Redis unavailable when the process exits", () => {
  it("does not keep it from exiting, and the job is taken over afterwards", async () => {
    let begun = 0;
    const host = await start(
      exporting(async (_, signal) => {
        begun += 1;
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
      }),
    );
    await enqueue(numbered(3));
    await vi.waitUntil(() => begun === 1, { timeout: 5_000 });
    await redis.server.kill();
    await vi.waitUntil(() => !host.health.report().ready, { timeout: 5_000 });
    const before = Date.now();
    await host.stop();
    expect(Date.now() - before).toBeLessThan(6_000);
    await redis.server.restart();
    await vi.waitUntil(() => redis.producer.status === "ready", { timeout: 10_000 });
    const exported: CeleryEvent[] = [];
    await start(exporting(async (events) => void exported.push(...events)));
    await vi.waitUntil(() => exported.length === 3, { timeout: 20_000 });
  }, 60_000);
});

describe("Redis just back when the process exits", () => {
  it("lets it exit soon after its restart, while connections may still be reconnecting", async () => {
    const hostsByDelay = await Promise.all(
      [300, 900, 1_800].map(async (afterMs) => [afterMs, await start(exporterOf(`sink-${afterMs}`, idle))] as const),
    );
    await redis.server.kill();
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    await redis.server.restart();
    await Promise.all(
      hostsByDelay.map(async ([afterMs, host]) => {
        await new Promise((resolve) => setTimeout(resolve, afterMs));
        const before = Date.now();
        await host.stop();
        expect(Date.now() - before).toBeLessThan(4_000);
      }),
    );
    await vi.waitUntil(() => redis.producer.status === "ready", { timeout: 10_000 });
  }, 60_000);
});

describe("an exporter that does not stop when told", () => {
  it("does not keep the process from exiting, and its job is taken over", async () => {
    let begun = 0;
    const ends: (() => void)[] = [];
    const host = await start(
      exporting(() => {
        begun += 1;
        return new Promise<void>((resolve) => void ends.push(resolve));
      }),
      { SHUTDOWN_TIMEOUT_SECONDS: "2" },
    );
    await enqueue(numbered(3));
    await vi.waitUntil(() => begun === 1, { timeout: 5_000 });
    const before = Date.now();
    await host.stop();
    expect(Date.now() - before).toBeLessThan(5_000);
    const exported: CeleryEvent[] = [];
    await start(exporting(async (events) => void exported.push(...events)));
    await vi.waitUntil(() => exported.length === 3, { timeout: 20_000 });
    // A try that never ended would keep others in this process from ever running alone.
    for (const end of ends) end();
  }, 60_000);
});

describe("Redis out of memory", () => {
  it("is waited out without hammering Redis", async () => {
    const exported: CeleryEvent[] = [];
    await enqueue(numbered(3));
    await redis.producer.config("SET", "maxmemory", "1");
    await start(exporting(async (events) => void exported.push(...events)));
    const before = await commandsProcessed();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect((await commandsProcessed()) - before).toBeLessThan(150);
    expect(exported).toEqual([]);
    await redis.producer.config("SET", "maxmemory", "0");
    await vi.waitUntil(() => exported.length === 3, { timeout: 10_000 });
  }, 60_000);

  it("makes the process not ready until it is over, with jobs in the queue and with an empty one", async () => {
    const host = await start(exporting(() => Promise.resolve()));
    const empty = await start(exporterOf("empty", idle));
    const reports = (): { ready: boolean }[] => [host, empty].map(({ health }) => health.report());
    expect(reports()).toMatchObject([
      { ready: true, components: { "sink worker": "up" } },
      { ready: true, components: { "empty worker": "up" } },
    ]);
    await queue.pause();
    await enqueue(numbered(3));
    await redis.producer.config("SET", "maxmemory", "1");
    await vi.waitUntil(() => reports().every(({ ready }) => !ready), { timeout: 10_000 });
    const refusal = expect.stringMatching(/^OOM /) as string;
    expect(reports()).toMatchObject([{ components: { "sink worker": refusal } }, { components: { "empty worker": refusal } }]);
    const areReady: boolean[] = [];
    for (let second = 0; second < 12; second++) {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      areReady.push(...reports().map(({ ready }) => ready));
    }
    expect(areReady).not.toContain(true);
    await redis.producer.config("SET", "maxmemory", "0");
    await queue.resume();
    await Promise.all([
      vi.waitUntil(() => host.health.report().ready, { timeout: 8_000 }),
      vi.waitUntil(() => empty.health.report().ready, { timeout: 15_000 }),
    ]);
    await untilEmpty(queue);
  }, 60_000);
});

describe("several exporters in one process", () => {
  it("share nothing but the process", async () => {
    const exported: Record<string, CeleryEvent[]> = { sink: [], other: [] };
    const definitions = ["sink", "other"].map((name) =>
      exporterOf(name, () => ({ export: async (events) => void exported[name]?.push(...events) })),
    );
    const running = await startRoles(definitions.map(processorRole), { REDIS_URL: redis.url }, createLogger("test", "silent"));
    await enqueue(numbered(2));
    await untilEmpty(queue);
    await running.stop();
    expect(exported).toEqual({ sink: numbered(2), other: [] });
    expect(Object.keys(running.health.report().components)).toEqual(expect.arrayContaining(["sink exporter", "other exporter"]));
  });
});

describe("counters", () => {
  it("are there from the start, at 0", async () => {
    const host = await start(exporterOf("sink", () => ({ export: () => Promise.resolve(), process: () => Promise.resolve(0) })));
    const text = await host.metrics.registry.metrics();
    for (const reason of ["refused", "failed", "crash", "payload"]) {
      expect(text).toContain(`dead_letters_total{source="sink",reason="${reason}"} 0\n`);
    }
    for (const name of ["sink", "sink-processing"]) expect(text).toContain(`jobs_stalled_total{queue="${name}"} 0\n`);
    for (const reason of ["unavailable", "error"]) expect(text).toContain(`export_retries_total{exporter="sink",reason="${reason}"} 0\n`);
    for (const name of ["events_exported", "batches_split", "tasks_forgotten"]) {
      expect(text).toContain(`${name}_total{exporter="sink"} 0\n`);
    }
  });
});

describe("gauges", () => {
  it("show the length and the lag of the queue", async () => {
    await queue.pause();
    await queue.add("batch", encodeBatch({ broker: "redis", events: [taskSent()] }), { timestamp: Date.now() - 60_000 });
    const host = await start(exporting(() => Promise.resolve()));
    expect(await host.metric("queue_jobs", { queue: "sink", state: "wait" })).toBe(1);
    expect(await host.metric("queue_lag_seconds", { queue: "sink" })).toBeGreaterThanOrEqual(60);
    await queue.resume();
    await untilEmpty(queue);
  });

  it("tell the age of a batch that is held, wherever in its queue it is", async () => {
    let exportMs = 200;
    const host = await start(
      exporting(async (events) => {
        if (uuids(events).includes("task-bad")) throw new PermanentError("no");
        await new Promise((resolve) => setTimeout(resolve, exportMs));
      }),
      { PROCESSOR_CONCURRENCY: "1" },
    );
    const bad = encodeBatch({ broker: "redis", events: [taskStarted({ uuid: "task-bad" })] });
    const { id } = await queue.add("batch", bad, { timestamp: Date.now() - 7_200_000 });
    await vi.waitUntil(() => !host.health.report().ready, { timeout: 10_000 });
    for (let batch = 0; batch < 100; batch++) await enqueue(numbered(1));
    await vi.waitUntil(async () => (await redis.producer.lindex(queue.toKey("wait"), 0)) === id, { timeout: 20_000 });
    await vi.waitUntil(async () => (await host.metric("queue_lag_seconds", { queue: "sink" })) > 0, { timeout: 8_000 });
    for (let look = 0; look < 12; look++) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      expect(await host.metric("queue_lag_seconds", { queue: "sink" })).toBeGreaterThanOrEqual(7_200);
    }
    exportMs = 0;
    await untilEmpty(queue);
    await vi.waitUntil(async () => (await host.metric("queue_lag_seconds", { queue: "sink" })) === 0, { timeout: 10_000 });
    expect(await redis.producer.exists(queue.toKey("held"))).toBe(0);
  }, 60_000);
});
