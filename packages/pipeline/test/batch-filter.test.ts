/** Filters over whole batches: first their parts, then the promise that nothing of an excluded task remains. */
import { taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/events/testing";
import type { CeleryEvent, TaskEvent } from "@celery-metrics-exporter/events";
import { Metrics, createLogger, loadConfig } from "@celery-metrics-exporter/runtime";
import * as fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { BatchFilter, EventFilter, ExcludedTasks, FilterConfig, Fanout, type EventBatch } from "../src/index.ts";
import type { Remembered } from "../src/excluded-tasks.ts";
import { exporterOf, startHost } from "./support/host.ts";
import { privateRedis } from "./support/redis.ts";

const redis = privateRedis();
afterEach(() => redis.producer.flushall());

function filterOf(env: Record<string, string>, owner: string, prefix = "{cme}"): BatchFilter {
  return new BatchFilter(new EventFilter(loadConfig(FilterConfig, env)), new ExcludedTasks({ redis: redis.producer, prefix, owner }));
}

function memory(owner: string, expirySeconds?: number): ExcludedTasks {
  return new ExcludedTasks({ redis: redis.producer, prefix: "{cme}", owner, ...(expirySeconds !== undefined && { expirySeconds }) });
}

function only(...excluded: string[]): Remembered {
  return { excluded: new Set(excluded), kept: new Set() };
}

function ttl(id: string): Promise<number> {
  return redis.producer.ttl(`{cme}:excluded:receiver:${id}`);
}

describe("the memory of excluded tasks", () => {
  it("tells which ids it remembers, each owner its own", async () => {
    await memory("receiver").remember(["a", "b", "strange id:{x}"]);
    expect(await memory("receiver").among(["a", "c", "strange id:{x}"])).toEqual(only("a", "strange id:{x}"));
    expect(await memory("postgres").among(["a"])).toEqual(only());
    expect(await memory("receiver").among([])).toEqual(only());
  });

  it("keeps for good what was kept once, whatever comes first", async () => {
    await memory("receiver").keep(["a"]);
    await memory("receiver").remember(["a", "b"]);
    await memory("receiver").keep(["b"]);
    expect(await memory("receiver").among(["a", "b"])).toEqual({ excluded: new Set(), kept: new Set(["a", "b"]) });
    expect(await ttl("a")).toBeGreaterThan(6.9 * 86_400);
  });

  it("forgets after a week, and an hour after a task's final event", async () => {
    await memory("receiver").remember(["a", "b"], new Set(["b"]));
    expect(await ttl("a")).toBeGreaterThan(6.9 * 86_400);
    expect(await ttl("b")).toBeLessThanOrEqual(3_600);
    await memory("receiver", 60).remember(["c"], new Set(["c"]));
    expect(await ttl("c")).toBeLessThanOrEqual(60);
  });
});

describe("the receiver's part", () => {
  const byQueue = { FILTER_QUEUES_EXCLUDE: "noisy" };
  const [sent, received, started] = [taskSent({ queue: "noisy" }), taskReceived(), taskStarted()];

  it("asks Redis nothing without a filter by name or queue", async () => {
    const admitted = await filterOf({ FILTER_EVENT_TYPES_EXCLUDE: "task-started" }, "receiver").admit([sent, received, started]);
    expect(admitted.events).toEqual([sent, received]);
    expect(admitted).not.toHaveProperty("excluded");
  });

  it("drops an excluded task's events, and tells its id once", async () => {
    const filter = filterOf(byQueue, "receiver");
    const other = taskSent({ uuid: "other" });
    const first = await filter.admit([received, sent, started, other]);
    expect(first).toMatchObject({ events: [other], excluded: [sent.uuid] });
    await filter.settle(first);
    expect(await filter.admit([taskSucceeded(), sent])).toMatchObject({ events: [], excluded: [] });
  });

  it("tells again what was not settled: the batch may not have been enqueued", async () => {
    const filter = filterOf(byQueue, "receiver");
    await filter.admit([sent]);
    expect(await filter.admit([sent])).toMatchObject({ excluded: [sent.uuid] });
  });

  it("learns the name and the queue from types that are not wanted", async () => {
    const filter = filterOf(
      { FILTER_EVENT_TYPES_INCLUDE: "task-succeeded,task-failed", FILTER_TASK_NAMES_EXCLUDE: "noisy.*", FILTER_QUEUES_EXCLUDE: "noisy" },
      "receiver",
    );
    const excluded = ["by-name", "by-queue"];
    const first = await filter.admit([taskReceived({ uuid: "by-name", name: "noisy.a" }), taskSent({ uuid: "by-queue", queue: "noisy" })]);
    expect(first).toMatchObject({ events: [], excluded });
    await filter.settle(first);
    const wanted = [taskReceived({ uuid: "wanted" }), taskSucceeded({ uuid: "wanted" })];
    const rest = excluded.flatMap((uuid) => [taskStarted({ uuid }), taskSucceeded({ uuid })]);
    expect(await filter.admit([...wanted, ...rest])).toMatchObject({ events: [wanted[1]], excluded: [], finished: new Set(excluded) });
  });

  it("knows that an excluded task is finished from a type that is not wanted", async () => {
    const filter = filterOf({ FILTER_EVENT_TYPES_EXCLUDE: "task-succeeded", FILTER_QUEUES_EXCLUDE: "noisy" }, "receiver");
    expect(await filter.admit([sent, taskSucceeded()])).toMatchObject({ events: [], finished: new Set([sent.uuid]) });
  });

  it("passes on events whose task is not known yet", async () => {
    expect(await filterOf(byQueue, "receiver").admit([received, started])).toMatchObject({ events: [received, started], excluded: [] });
  });
});

/** What a sink has in the end, and what it was told to forget. */
async function through(batches: readonly (readonly CeleryEvent[])[], receiverEnv: Record<string, string>, hostEnv = {}) {
  const receiver = filterOf(receiverEnv, "receiver");
  const exporter = filterOf(hostEnv, "sink");
  const stored: CeleryEvent[] = [];
  const forgotten: string[] = [];
  for (const batch of batches) {
    const admitted = await receiver.admit(batch);
    const screened = await exporter.screen({ broker: "redis", ...admitted });
    await receiver.settle(admitted);
    stored.push(...screened.events);
    forgotten.push(...(await exporter.leftovers(screened)));
  }
  return { stored, forgotten };
}

describe("a task of which a filter excludes one attempt only", () => {
  const dispatcher = { name: "app.dispatcher", queue: "q1" };
  const replaced = { name: "app.replaced", queue: "q2", again: true };
  const first = [taskSent(dispatcher), taskReceived({ name: dispatcher.name }), taskStarted()];
  const second = [taskSent(replaced), taskReceived({ name: replaced.name, again: true }), taskStarted({ timestamp: 2e9 }), taskSucceeded()];
  const retry = [
    taskSent({ ...dispatcher, queue: "q2", retries: 1 }),
    taskReceived({ name: dispatcher.name, retries: 1 }),
    taskSucceeded(),
  ];

  const byName = { FILTER_TASK_NAMES_EXCLUDE: "app.dispatcher" };
  const byOtherNames = { FILTER_TASK_NAMES_INCLUDE: "app.replaced" };
  const byQueue = { FILTER_QUEUES_EXCLUDE: "q2" };

  it.each([byName, byOtherNames])("replaced by one that is wanted: that one passes (%o)", async (env) => {
    for (const [receiverEnv, hostEnv] of [
      [env, {}],
      [{}, env],
      [env, env],
    ] as const) {
      await redis.producer.flushall();
      const apart = await through([first, second], receiverEnv, hostEnv);
      expect(apart.stored).toEqual(second);
      await redis.producer.flushall();
      const together = await through([[...first, ...second]], receiverEnv, hostEnv);
      expect(together).toEqual({
        stored: [{ ...first[0], excluded: true }, { ...first[1], excluded: true }, first[2], ...second],
        forgotten: [],
      });
    }
  });

  it("replaced by one that is wanted, though nothing but a second message says so", async () => {
    const { again: _again, ...sent } = second[0] as TaskEvent & { again?: boolean };
    expect((await through([first, [sent, ...second.slice(2)]], byName)).stored).toEqual([sent, ...second.slice(2)]);
  });

  it("retried into a queue that is not wanted: nothing of it is forgotten, and that attempt is marked", async () => {
    for (const [receiverEnv, hostEnv] of [
      [byQueue, {}],
      [{}, byQueue],
    ] as const) {
      await redis.producer.flushall();
      expect(await through([first, retry], receiverEnv, hostEnv)).toEqual({
        stored: [...first, { ...retry[0], excluded: true }, ...retry.slice(1)],
        forgotten: [],
      });
    }
  });

  it("retried out of a queue that is not wanted: what comes afterwards passes", async () => {
    const { stored, forgotten } = await through([first, retry, retry.slice(2)], { FILTER_QUEUES_EXCLUDE: "q1" });
    expect(stored).toEqual([...retry, ...retry.slice(2)]);
    expect(forgotten).toEqual(["3ce907e3-796a-4b51-97cf-7cef1b946f91"]);
  });

  it("is dropped as a whole if that goes for every attempt", async () => {
    const noisy = [taskSent({ ...dispatcher, queue: "q2" }), ...first.slice(1)];
    expect((await through([noisy, retry], byQueue)).stored).toEqual([]);
  });
});

/** What an exporter stores, with the delays of a real one. */
class Sink {
  readonly rows = new Map<string, number>();

  async export(events: readonly CeleryEvent[]): Promise<void> {
    await pauseAtRandom();
    for (const event of events as readonly TaskEvent[]) this.rows.set(event.uuid, (this.rows.get(event.uuid) ?? 0) + 1);
    await pauseAtRandom();
  }

  async forget(ids: readonly string[]): Promise<void> {
    await pauseAtRandom();
    for (const id of ids) this.rows.delete(id);
  }
}

function pauseAtRandom(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.random() < 0.5 ? 0 : Math.random() * 12));
}

/** What the host does with a batch (`events-stage.ts`), without its queue. */
async function host(batch: EventBatch, filter: BatchFilter, sink: Sink): Promise<void> {
  await pauseAtRandom();
  const screened = await filter.screen(batch);
  if (screened.events.length > 0) await sink.export(screened.events);
  const ids = await filter.leftovers(screened);
  if (ids.length === 0) return;
  await filter.remind(screened);
  await sink.forget(ids);
}

const tasks = fc.array(
  fc.record({ isExcluded: fc.boolean(), tellsBy: fc.constantFrom("name", "queue"), parts: fc.subarray([0, 1, 2, 3], { minLength: 1 }) }),
  { minLength: 1, maxLength: 6 },
);

/** The events of the tasks, of which the excluded tell so by name or by queue, if they have that event at all. */
function eventsOf(drawn: readonly { isExcluded: boolean; tellsBy: string; parts: readonly number[] }[]): TaskEvent[] {
  return drawn.flatMap(({ isExcluded, tellsBy, parts }, index) => {
    const uuid = `task-${index}`;
    const name = isExcluded && tellsBy === "name" ? "noisy.tick" : "shop.cart";
    const queue = isExcluded && tellsBy === "queue" ? "noisy" : "celery";
    const life = [taskSent({ uuid, name, queue }), taskReceived({ uuid, name }), taskStarted({ uuid }), taskSucceeded({ uuid })];
    return parts.map((part) => life[part] as TaskEvent);
  });
}

const filters = { FILTER_TASK_NAMES_EXCLUDE: "noisy.*", FILTER_QUEUES_EXCLUDE: "noisy" };
const decides = new EventFilter(loadConfig(FilterConfig, filters));

function excludedIn(events: readonly TaskEvent[]): Set<string> {
  return new Set(events.filter((event) => decides.verdictOn(event) === "excluded").map(({ uuid }) => uuid));
}

describe("nothing of an excluded task remains", () => {
  const scenario = tasks.chain((drawn) => {
    const events = eventsOf(drawn);
    return fc.record({
      events: fc.shuffledSubarray(events, { minLength: events.length }),
      size: fc.integer({ min: 1, max: 4 }),
      order: fc.infiniteStream(fc.nat()),
    });
  });

  it.each([
    ["the receiver and the host", filters, filters],
    ["the receiver alone", filters, {}],
    ["the host alone", {}, filters],
  ])("in any order, with batches at the same time and repeated, when the filter is set for %s", async (_, receiverEnv, hostEnv) => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(scenario, async ({ events, size, order }) => {
        const prefix = `{run-${hostEnv === filters}-${receiverEnv === filters}-${run++}}`;
        const receiver = filterOf(receiverEnv, "receiver", prefix);
        const exporter = filterOf(hostEnv, "sink", prefix);
        const sink = new Sink();
        const queue: EventBatch[] = [];
        for (let from = 0; from < events.length; from += size) {
          const admitted = await receiver.admit(events.slice(from, from + size));
          queue.push({ broker: "redis", ...admitted });
          await receiver.settle(admitted);
        }
        const indexed = queue.map((batch) => ({ batch, key: order.next().value as number }));
        const jobs = indexed.toSorted((a, b) => a.key - b.key).map(({ batch }) => batch);
        await Promise.all([...jobs, ...jobs.slice(0, 2)].map((batch) => host(batch, exporter, sink)));
        const excluded = excludedIn(events);
        expect([...sink.rows.keys()].filter((id) => excluded.has(id))).toEqual([]);
        const kept = new Set(events.map(({ uuid }) => uuid).filter((id) => !excluded.has(id)));
        expect(new Set(sink.rows.keys())).toEqual(kept);
      }),
      { numRuns: 60 },
    );
  });

  it("through real queues: a name that is told last makes the exporter forget what it has", async () => {
    const exported: string[] = [];
    const forgotten: string[] = [];
    const definition = exporterOf("sink", () => ({
      export: async (events) => void exported.push(...(events as TaskEvent[]).map(({ uuid }) => uuid)),
      forget: async (ids) => void forgotten.push(...ids),
    }));
    const running = await startHost(definition, { REDIS_URL: redis.url });
    const fanout = new Fanout({
      redis: redis.producer,
      prefix: "{cme}",
      exporters: [{ name: "sink", takes: ["task-started", "task-succeeded"] }],
      whenFull: "hold",
      highWaterEvents: 1_000,
      logger: createLogger("test", "silent"),
      metrics: new Metrics(),
    });
    const receiver = filterOf(filters, "receiver");
    const receive = async (events: readonly CeleryEvent[]): Promise<void> => {
      const admitted = await receiver.admit(events);
      await fanout.enqueue({ broker: "redis", ...admitted });
      await receiver.settle(admitted);
    };
    await receive([taskStarted({ uuid: "noisy" }), taskStarted({ uuid: "wanted" })]);
    await vi.waitUntil(() => exported.length === 2, { timeout: 5_000 });
    await receive([taskSent({ uuid: "noisy", queue: "noisy" })]);
    await vi.waitUntil(() => forgotten.length > 0, { timeout: 5_000 });
    await receive([taskSucceeded({ uuid: "noisy" }), taskSucceeded({ uuid: "wanted" })]);
    await vi.waitUntil(() => exported.length === 3, { timeout: 5_000 });
    expect(exported).toEqual(["noisy", "wanted", "wanted"]);
    expect(new Set(forgotten)).toEqual(new Set(["noisy"]));
    await fanout.close();
    await running.stop();
  });
});
