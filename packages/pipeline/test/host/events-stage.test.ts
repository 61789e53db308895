import type { CeleryEvent, TaskEvent } from "@celery-metrics-exporter/celery";
import { taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { PermanentError, UnavailableError, loadConfig, pause } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { DeadLetter } from "../../src/dead-letter/dead-letters.ts";
import { decodeBatch, type EventBatch } from "../../src/queue/batch.ts";
import { BurialLimit } from "../../src/deliver/evidence.ts";
import { Drain } from "../../src/deliver/tries.ts";
import { eventsStage } from "../../src/host/events-stage.ts";
import type { Host } from "../../src/host/host.ts";
import { BatchFilter } from "../../src/filter/batch-filter.ts";
import { AttemptMemory, EventFilter, FilterConfig, encodeBatch } from "../../src/index.ts";
import { exporterOf, startHost, type RunningHost } from "../support/host.ts";
import { privateRedis } from "../support/redis.ts";

const STORED = { has: () => Promise.resolve(true) };

const MARKED = [
  { id: "x", marks: ["-s0"] },
  { id: "y", marks: ["-s0", "-s1"] },
  { id: "kept", marks: ["-s0", "+s1"] },
];
const BATCH: EventBatch = { broker: "rabbitmq", events: ["a", "b", "c"].map((uuid) => taskSent({ uuid })), marked: MARKED };

describe("a batch that is suspected of having killed its process", () => {
  const buried: DeadLetter[] = [];
  const deadLetters = { add: (letters: readonly DeadLetter[]) => Promise.resolve(void buried.push(...letters)) };
  const stage = eventsStage({ name: "postgres", deadLetters } as unknown as Host, STORED);

  it("is split into halves that both have the marked tasks", () => {
    const halves = stage.split(BATCH).map(decodeBatch);
    expect(halves.map(({ events }) => events.length)).toEqual([2, 1]);
    expect(halves.map(({ marked }) => marked)).toEqual([MARKED, MARKED]);
  });

  it("is buried with its events and the ids to forget", async () => {
    await stage.bury(BATCH, "crash", "three times");
    expect(buried.map((letter) => letter.event ?? letter.raw)).toEqual([...BATCH.events, "x", "y"]);
    expect(buried.at(-1)).toMatchObject({ source: "postgres", reason: "crash", readAs: "id to forget" });
  });
});

describe("an action that can kill a process", () => {
  const entries: string[] = [];
  const note = (entry: string): void => void entries.push(entry);
  const within =
    (kind: string) =>
    async (task: () => Promise<void>): Promise<void> => {
      note(`+${kind}`);
      await task().finally(() => note(`-${kind}`));
    };
  const job = { id: "1", payload: {}, begun: 1, attempt: within("attempt"), step: within("step") };
  const screened = { events: BATCH.events, marked: [], doubtful: true };
  const rules = {
    drain: new Drain(),
    maxTries: 1,
    burials: new BurialLimit(),
    onUnavailable: () => {},
    onServed: () => {},
    onRetry: () => {},
    onError: () => {},
    onSplit: () => {},
  };

  function stageOf(send: () => Promise<void>): ReturnType<typeof eventsStage> {
    entries.length = 0;
    const host = {
      name: "postgres",
      rules,
      metrics: { time: (_: string, task: () => Promise<void>) => task(), exported: () => {}, forgot: () => {} },
      filter: {
        screen: async () => {
          note("screen");
          return screened;
        },
        leftovers: async () => {
          note("leftovers");
          return ["x"];
        },
        forget: async (
          ids: readonly string[],
          signal: AbortSignal,
          forget: (ids: readonly string[], signal: AbortSignal) => Promise<void>,
        ) => forget(ids, signal),
      },
      exporter: { export: send, forget: async () => note("forget") },
    };
    return eventsStage(host as unknown as Host, STORED);
  }

  it("runs as a step of its job: filtering, exporting, forgetting", async () => {
    await stageOf(async () => note("export")).run(BATCH, job);
    expect(entries.join(" ")).toBe("+step screen -step +attempt export -attempt +step leftovers -step +attempt forget -attempt");
  });

  it("also runs as a step if it writes held items", async () => {
    const batch = { broker: "rabbitmq", events: [taskSent({ uuid: "a" })] };
    const held = await stageOf(() => Promise.reject(new PermanentError("no"))).run(batch, job);
    expect(held?.rest).toBeTypeOf("function");
    expect(decodeBatch(held?.rest()).events).toHaveLength(BATCH.events.length);
  });
});

describe("a task that a filter excludes while exporters are working", () => {
  const redis = privateRedis();
  const byQueue = { FILTER_QUEUES_EXCLUDE: "noisy" };
  const X = { uuid: "x" };
  const rows = new Map<string, Set<string>>();
  /** Called by the sink before it takes or removes anything. */
  let answers: ((what: "export" | "forget", events: readonly TaskEvent[]) => Promise<void>) | undefined;
  let queue: Queue;
  let host: RunningHost;
  let filter: BatchFilter;

  const definition = exporterOf("sink", () => ({
    export: async (events) => {
      await answers?.("export", events as TaskEvent[]);
      for (const { uuid, type } of events as TaskEvent[]) rows.set(uuid, (rows.get(uuid) ?? new Set()).add(type));
    },
    forget: async (ids) => {
      await answers?.("forget", []);
      for (const id of ids) rows.delete(id);
    },
  }));

  beforeEach(async () => {
    rows.clear();
    answers = undefined;
    await redis.producer.flushall();
    queue = new Queue("sink", { connection: redis.producer, prefix: "{cme}" });
    await queue.waitUntilReady();
    host = await startHost(definition, { REDIS_URL: redis.url, PROCESSOR_CONCURRENCY: "4" });
    filter = new BatchFilter(
      new EventFilter(loadConfig(FilterConfig, byQueue)),
      new AttemptMemory({ redis: redis.producer, prefix: "{cme}", owner: "receiver" }),
    );
  });
  afterEach(async () => {
    await host.stop();
    await queue.close();
  });

  const receive = async (...events: readonly CeleryEvent[]): Promise<void> => {
    const admitted = await filter.admit(events);
    await queue.add("batch", encodeBatch({ broker: "redis", ...admitted }));
  };
  const untilRow = (uuid: string, types: readonly string[]) =>
    vi.waitFor(() => expect([...(rows.get(uuid) ?? [])].toSorted()).toEqual(types.toSorted()), { timeout: 20_000, interval: 20 });
  const untilDone = () =>
    vi.waitFor(async () => expect(await queue.getJobCounts("wait", "active", "delayed")).toEqual({ wait: 0, active: 0, delayed: 0 }), {
      timeout: 20_000,
    });

  it("is removed, and its other events are not exported", async () => {
    await receive(taskStarted(X), taskStarted({ uuid: "wanted" }));
    await untilRow("x", ["task-started"]);
    await receive(taskSent({ ...X, queue: "noisy" }));
    await vi.waitFor(() => expect(rows.has("x")).toBe(false), { timeout: 10_000 });
    await receive(taskSucceeded(X), taskSucceeded({ uuid: "wanted" }));
    await untilRow("wanted", ["task-started", "task-succeeded"]);
    expect(rows.has("x")).toBe(false);
    expect(await host.metric("tasks_forgotten_total")).toBe(1);
  });

  it("is not removed once it is kept, however long the removal had to wait for the sink", async () => {
    let isAway = true;
    let tries = 0;
    answers = async (what) => {
      if (what === "forget") tries += 1;
      if (what === "forget" && isAway) throw new UnavailableError("away");
    };
    await receive(taskStarted(X));
    await untilRow("x", ["task-started"]);
    await receive(taskSent({ ...X, queue: "noisy" }));
    await vi.waitUntil(() => tries > 0, { timeout: 5_000 });
    await receive(taskSent({ ...X, queue: "q1", retries: 1 }), taskReceived({ ...X, retries: 1 }), taskSucceeded(X));
    const whole = ["task-sent", "task-received", "task-started", "task-succeeded"];
    await untilRow("x", whole);
    isAway = false;
    await untilDone();
    expect([...(rows.get("x") ?? [])].toSorted()).toEqual(whole.toSorted());
  });

  it("is exported whole if it is kept while it is being removed", async () => {
    const gate = new AbortController();
    const order: string[] = [];
    answers = async (what) => {
      order.push(`${what} begins`);
      if (what === "forget") await pause(20_000, gate.signal);
    };
    await receive(taskStarted(X));
    await untilRow("x", ["task-started"]);
    await receive(taskSent({ ...X, queue: "noisy" }));
    await vi.waitUntil(() => order.includes("forget begins"), { timeout: 5_000 });
    await receive(taskSent({ ...X, queue: "q1", retries: 1 }), taskSucceeded(X));
    await receive(taskReceived({ ...X, retries: 1 }));
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(order).toEqual(["export begins", "forget begins"]);
    gate.abort();
    await untilRow("x", ["task-sent", "task-received", "task-started", "task-succeeded"]);
  });

  it("is removed although the batch with its events is held", async () => {
    let isOver = false;
    let gotThrough = 0;
    answers = async (what, events) => {
      if (what === "forget") return;
      await new Promise((resolve) => setTimeout(resolve, 300));
      if (isOver) return;
      if (gotThrough > 0 || events.some(({ uuid }) => uuid !== "x")) throw new PermanentError("violates a constraint");
      gotThrough += 1;
    };
    await receive(taskStarted(X), taskStarted({ uuid: "a" }), taskStarted({ uuid: "b" }));
    await new Promise((resolve) => setTimeout(resolve, 100));
    await receive(taskSent({ ...X, queue: "noisy" }));
    await vi.waitUntil(() => gotThrough > 0, { timeout: 10_000 });
    await vi.waitFor(() => expect(rows.has("x")).toBe(false), { timeout: 10_000 });
    isOver = true;
    await untilRow("a", ["task-started"]);
    await untilDone();
    expect(rows.has("x")).toBe(false);
  });

  it("is removed in the end if the removal is held", async () => {
    let refuses = true;
    answers = async (what) => {
      if (what === "forget" && refuses) throw new PermanentError("may not delete");
    };
    await receive(taskStarted(X));
    await untilRow("x", ["task-started"]);
    await receive(taskSent({ ...X, queue: "noisy" }));
    await vi.waitFor(() => expect(host.health.report().ready).toBe(false), { timeout: 10_000 });
    refuses = false;
    await vi.waitFor(() => expect(rows.has("x")).toBe(false), { timeout: 20_000 });
  });
});
