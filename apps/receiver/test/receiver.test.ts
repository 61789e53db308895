import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { corpusNames, readCorpus, taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { EXPORTERS } from "@celery-metrics-exporter/pipeline";
import { sharedRabbitmqUrl, sharedRedisUrl, startRedis } from "@celery-metrics-exporter/testkit";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Stage, asSet, metricOf, takenBy } from "./running-receiver.ts";

const WAIT = { timeout: 20_000, interval: 50 };

const frame = (events: readonly CeleryEvent[]): string => JSON.stringify(events);
const started = (uuid: string): CeleryEvent => taskStarted({ uuid });
const numbers = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, index) => String(from + index));

/** A quorum queue still counts messages that were acknowledged a moment before. */
async function waitingBecomes(stage: Stage, count: number): Promise<void> {
  await vi.waitFor(async () => expect(await stage.waiting()).toBe(count), WAIT);
}

describe("the receiver", { timeout: 60_000 }, () => {
  let stage: Stage;
  beforeEach(() => {
    stage = new Stage();
  });
  afterEach(async () => {
    await stage.release();
  });

  const ids = async (exporter: string): Promise<string[]> =>
    (await stage.events(exporter)).map((event) => ("uuid" in event ? (event.uuid ?? "") : ""));

  it.each(corpusNames)("puts each event of %s once into the queue of each exporter that takes it", async (name) => {
    const corpus = readCorpus(name);
    const overRedis = corpus.frames[0]?.transport === "redis";
    if (!overRedis) await stage.channel();
    const running = await stage.startReceiver(overRedis ? sharedRedisUrl() : sharedRabbitmqUrl(), {
      EVENT_EXCHANGE: overRedis ? "celeryev" : stage.exchange,
    });
    for (const each of corpus.frames) {
      if (each.transport === "redis") await stage.redis.publish(stage.keyprefix + each.channel, each.payload);
      else (await stage.channel()).publish(stage.exchange, each.routingKey, each.body, each.properties);
    }
    for (const { name: exporter } of EXPORTERS) {
      const expected = takenBy(exporter, corpus.events);
      await vi.waitFor(async () => expect(await stage.events(exporter)).toHaveLength(expected.length), WAIT);
      expect(asSet(await stage.events(exporter))).toEqual(asSet(expected));
      for (const { receivedAt = 0 } of await stage.batches(exporter)) expect(Math.abs(receivedAt - Date.now() / 1_000)).toBeLessThan(60);
      expect(new Set((await stage.batches(exporter)).map(({ broker }) => broker))).toEqual(new Set([overRedis ? "redis" : "rabbitmq"]));
    }
    // The last events may be for no exporter: they are counted when their batch closes.
    await vi.waitFor(async () => expect(await metricOf(running, "events_received_total")).toBe(corpus.events.length), WAIT);
    expect(await metricOf(running, "messages_received_total")).toBe(corpus.frames.length);
    expect(await metricOf(running, "events_rejected_total")).toBe(0);
    expect(await metricOf(running, "receiver_lag_seconds")).toBeGreaterThan(0);
    expect(await stage.deadLetters()).toEqual([]);
    if (!overRedis) await waitingBecomes(stage, 0);
  });

  it("collects events into batches", async () => {
    await stage.channel();
    await stage.startReceiver(sharedRabbitmqUrl(), { BATCH_MAX_EVENTS: "100", BATCH_MAX_MS: "2000" });
    await stage.publish(numbers(0, 250).map((id) => frame([started(id)])));
    await vi.waitFor(
      async () => expect((await stage.batches("postgres")).map(({ events }) => events.length)).toEqual([100, 100, 50]),
      WAIT,
    );
  });

  it.each([
    ["RabbitMQ", sharedRabbitmqUrl, /^amqp:\/\/.*, queue celery-metrics-exporter-.*, exchange celeryev-/],
    ["Redis", sharedRedisUrl, /^redis:\/\/.*, exchange celeryev-/],
  ])("logs its broker and its exporters at startup, without passwords: %s", async (_, url, broker) => {
    if (_ === "RabbitMQ") await stage.channel();
    await stage.startReceiver(url(), { EXPORTERS: "postgres", REDIS_URL: sharedRedisUrl().replace("//", "//:hunter2@") });
    expect(stage.logs[0]).toMatchObject({
      level: 30,
      broker: expect.stringMatching(broker) as string,
      redis: sharedRedisUrl().replace("//", "//***@"),
      queuePrefix: stage.prefix,
      exporters: ["postgres"],
    });
    expect(JSON.stringify(stage.logs)).not.toMatch(/hunter2|guest/);
  });

  it("does not sign in before it is connected to its broker", async () => {
    const sources = (): Promise<string | null> => stage.redis.get(`${stage.prefix}:receiver:source`);
    await expect(stage.startReceiver("redis://127.0.0.1:1", { STARTUP_TIMEOUT_SECONDS: "1" })).rejects.toThrow(/Cannot reach Redis/);
    expect(await sources()).toBeNull();
    await stage.startReceiver(sharedRedisUrl());
    expect(await sources()).toMatch(/^redis:/);
  });

  it("feeds only the named exporters", async () => {
    await stage.channel();
    await stage.startReceiver(sharedRabbitmqUrl(), { EXPORTERS: "postgres" });
    await stage.publish([frame([started("1")])]);
    await vi.waitFor(async () => expect(await ids("postgres")).toEqual(["1"]), WAIT);
    expect(await ids("datadog")).toEqual([]);
  });

  it("enqueues nothing for events that no exporter takes, and acknowledges them", async () => {
    await stage.channel();
    const running = await stage.startReceiver(sharedRabbitmqUrl(), { EXPORTERS: "postgres" });
    await stage.publish([
      frame([
        { type: "worker-greeting", hostname: "w1", timestamp: 1 },
        { type: "task-progress", hostname: "w1", timestamp: 1 },
      ]),
    ]);
    await vi.waitFor(async () => expect(await metricOf(running, "events_filtered_total", { reason: "not_taken" })).toBe(2), WAIT);
    expect(await metricOf(running, "events_received_total", { type: "other" })).toBe(2);
    await vi.waitFor(async () => expect(await metricOf(running, "broker_unacked_messages")).toBe(0), WAIT);
    expect(await stage.batches("postgres")).toEqual([]);
  });

  it("keeps messages that it cannot read as dead letters with their reason, acknowledges them, and continues", async () => {
    await stage.channel();
    const running = await stage.startReceiver(sharedRabbitmqUrl());
    const bad = [
      "{broken",
      "42",
      '{"type":"task-started","hostname":"w1","timestamp":1}',
      '{"type":"task-started","hostname":"w1","uuid":"1"}',
    ];
    await stage.publish(bad);
    await stage.publish(["cos\nsystem\n(S'echo'\ntR."], { contentType: "application/x-python-serialize" });
    await stage.publish([JSON.stringify([started("good"), { type: "task-started" }])]);
    await vi.waitFor(async () => expect(await ids("postgres")).toEqual(["good"]), WAIT);
    await vi.waitFor(async () => expect(await stage.deadLetters()).toHaveLength(6), WAIT);
    const letters = await stage.deadLetters();
    expect(letters.map(({ reason }) => reason).sort()).toEqual(["body", "not_an_event", "pickle", "timestamp", "timestamp", "uuid"]);
    expect(new Set(letters.map(({ source }) => source))).toEqual(new Set(["receiver"]));
    expect(letters.find(({ reason }) => reason === "body")?.raw).toBe("{broken");
    expect(await metricOf(running, "events_rejected_total")).toBe(6);
    expect(await metricOf(running, "events_rejected_total", { reason: "pickle" })).toBe(1);
    await running.stop();
    await waitingBecomes(stage, 0);
  });

  it("survives a message of a million bad events: counts them, keeps few dead letters, and stays small and fast", async () => {
    await stage.channel();
    const running = await stage.startReceiver(sharedRabbitmqUrl());
    const body = `[${"0,".repeat(999_999)}0]`;
    const loop = monitorEventLoopDelay({ resolution: 10 });
    const rssBefore = process.memoryUsage.rss();
    loop.enable();
    await stage.publish([body, frame([started("after")])]);
    await vi.waitFor(async () => expect(await ids("postgres")).toEqual(["after"]), WAIT);
    await vi.waitFor(async () => expect(await stage.deadLetters()).toHaveLength(101), WAIT);
    loop.disable();
    expect(loop.max / 1e9).toBeLessThan(3);
    expect(process.memoryUsage.rss() - rssBefore).toBeLessThan(300 * 2 ** 20);
    expect(await metricOf(running, "events_rejected_total", { reason: "not_an_event" })).toBe(1_000_000);
    expect((await stage.deadLetters()).filter(({ detail }) => detail.endsWith(" (999900 alike)"))).toHaveLength(1);
    await running.stop();
    await waitingBecomes(stage, 0);
  });

  it("loses nothing while Redis is away, is not ready meanwhile, and uses little memory", async () => {
    const server = await startRedis({ args: ["--appendonly", "yes", "--appendfsync", "always"] });
    const place = new Stage(server.url);
    try {
      await place.channel();
      const running = await place.startReceiver(sharedRabbitmqUrl(), { BATCH_MAX_EVENTS: "50" });
      const publish = (from: number, to: number): Promise<void> => place.publish(numbers(from, to).map((id) => frame([started(id)])));
      await publish(0, 500);
      await server.kill();
      await publish(500, 4_000);
      await vi.waitFor(() => expect(running.health.report().ready).toBe(false), WAIT);
      await sleep(3_000);
      expect(running.health.report().components["storing"]).not.toBe("up");
      await server.restart();
      await publish(4_000, 4_500);
      const all = new Set(numbers(0, 4_500));
      for (const { name } of EXPORTERS) {
        await vi.waitFor(async () => {
          const got = (await place.events(name)).map((event) => (event as { uuid: string }).uuid);
          expect(new Set(got)).toEqual(all);
        }, WAIT);
      }
      await vi.waitFor(() => expect(running.health.report().ready).toBe(true), WAIT);
      await running.stop();
      await waitingBecomes(place, 0);
      const reasons = place.logs.filter(({ msg }) => msg.startsWith("batches cannot be stored")).map(({ reason }) => reason);
      expect(reasons.length).toBeGreaterThan(0);
      expect(reasons).toEqual([...new Set(reasons)]);
    } finally {
      await place.release();
      await server.stop();
    }
  });

  it("leaves messages that it could not store to RabbitMQ if it is stopped while Redis is away", async () => {
    const server = await startRedis();
    const place = new Stage(server.url);
    try {
      await place.channel();
      const running = await place.startReceiver(sharedRabbitmqUrl());
      await server.kill();
      await place.publish(numbers(0, 300).map((id) => frame([started(id)])));
      await vi.waitFor(async () => expect(await metricOf(running, "messages_received_total")).toBeGreaterThan(0), WAIT);
      const stoppedAt = Date.now();
      await running.stop();
      expect(Date.now() - stoppedAt).toBeLessThan(5_000);
      await waitingBecomes(place, 300);
      await server.restart();
    } finally {
      await place.release();
      await server.stop();
    }
  });

  it("stores the messages it holds when it is stopped, and the next receiver gets the rest", async () => {
    await stage.channel();
    const first = await stage.startReceiver(sharedRabbitmqUrl(), { BATCH_MAX_MS: "60000", BATCH_MAX_EVENTS: "64" });
    const publishing = stage.publish(numbers(0, 3_000).map((id) => frame([started(id)])));
    await vi.waitFor(async () => expect(await metricOf(first, "batches_enqueued_total")).toBeGreaterThan(3), {
      timeout: 20_000,
      interval: 1,
    });
    await first.stop();
    await publishing;
    // Not equal, because a busy quorum queue may lose the last acknowledgements of a closing channel, and redeliver those messages.
    const stored = (await ids("postgres")).length;
    // A quorum queue takes a moment to count what was given back.
    await expect.poll(() => stage.waiting()).toBeGreaterThanOrEqual(3_000 - stored);
    await stage.startReceiver(sharedRabbitmqUrl());
    await vi.waitFor(async () => expect(new Set(await ids("postgres")).size).toBe(3_000), WAIT);
    await vi.waitFor(async () => expect(new Set(await ids("datadog")).size).toBe(3_000), WAIT);
  });

  it("stores everything that Redis pub/sub had sent when it is stopped", async () => {
    const running = await stage.startReceiver(sharedRedisUrl(), { BATCH_MAX_MS: "60000", EVENT_EXCHANGE: "celeryev" });
    const { frames } = readCorpus("celery-5.6-redis");
    const corpus = readCorpus("celery-5.6-redis");
    for (const each of frames) if (each.transport === "redis") void stage.redis.publish(stage.keyprefix + each.channel, each.payload);
    await stage.redis.ping();
    await running.stop();
    expect(asSet(await stage.events("postgres"))).toEqual(asSet(takenBy("postgres", corpus.events)));
  });

  it("stops reading when a queue is full, leaves the backlog to RabbitMQ, and continues when there is room", async () => {
    await stage.channel();
    const running = await stage.startReceiver(sharedRabbitmqUrl(), {
      QUEUE_HIGH_WATER_EVENTS: "1000",
      EXPORTERS: "postgres",
      RABBITMQ_PREFETCH: "100",
      // If a batch waited for more messages than the prefetch, each batch would take this long.
      BATCH_MAX_MS: "2000",
    });
    for (let from = 0; from < 12_000; from += 1_000) {
      await stage.publish(numbers(from, from + 1_000).map((id) => frame([started(id)])));
      await sleep(100);
    }
    await vi.waitFor(() => expect(running.health.report().components["taking"]).toContain("full"), WAIT);
    // A long pause returns everything that the receiver holds.
    await vi.waitFor(async () => expect(await metricOf(running, "broker_unacked_messages")).toBe(0), WAIT);
    const stored = await ids("postgres");
    expect(stored.length).toBeGreaterThanOrEqual(1_000);
    await waitingBecomes(stage, 12_000 - stored.length);
    expect(await stage.waiting()).toBeGreaterThan(0);
    const seen = new Set<string>();
    await vi.waitFor(
      async () => {
        for (const event of await stage.take("postgres")) seen.add((event as { uuid: string }).uuid);
        expect(seen.size).toBe(12_000);
      },
      { timeout: 40_000, interval: 200 },
    );
  }, 90_000);

  it("drops event types and tasks that a filter excludes, including later events without a name", async () => {
    await stage.channel();
    const running = await stage.startReceiver(sharedRabbitmqUrl(), {
      FILTER_TASK_NAMES_EXCLUDE: "noise.*",
      FILTER_QUEUES_EXCLUDE: "slow",
      FILTER_EVENT_TYPES_EXCLUDE: "task-succeeded",
    });
    await stage.publish([
      frame([
        taskReceived({ uuid: "noisy", name: "noise.tick" }),
        taskSent({ uuid: "slow", name: "shop.pay", queue: "slow" }),
        taskReceived({ uuid: "kept", name: "shop.pay" }),
      ]),
    ]);
    await vi.waitFor(async () => expect(await ids("postgres")).toEqual(["kept"]), WAIT);
    await sleep(200);
    await stage.publish([frame([started("noisy"), started("slow"), started("kept"), taskSucceeded({ uuid: "kept" })])]);
    await vi.waitFor(async () => expect(await ids("postgres")).toEqual(["kept", "kept"]), WAIT);
    const marked = (await stage.batches("postgres")).flatMap((batch) => batch.marked ?? []);
    expect(marked.map(({ id }) => id).sort()).toEqual(["noisy", "slow"]);
    expect(await metricOf(running, "events_filtered_total", { reason: "filter" })).toBe(5);
    await running.stop();
    await waitingBecomes(stage, 0);
  });

  it("drops no event of a task that is retried out of an excluded queue, although two receivers share its events", async () => {
    await stage.channel();
    for (let receivers = 0; receivers < 2; receivers++) await stage.startReceiver(sharedRabbitmqUrl(), { FILTER_QUEUES_EXCLUDE: "noisy" });
    const tasks = Array.from({ length: 100 }, (_, index) => `task-${index}`);
    const timestamp = Date.now() / 1_000;
    await stage.publish(tasks.map((uuid) => frame([taskSent({ uuid, timestamp, queue: "noisy" })])));
    await sleep(700);
    for (const uuid of tasks) {
      const retry = { uuid, timestamp: timestamp + 2, retries: 1 };
      await stage.publish([
        frame([taskSent({ ...retry, queue: "q1" })]),
        frame([taskReceived(retry), started(uuid), taskSucceeded({ uuid, timestamp: timestamp + 3 })]),
      ]);
      await sleep(10);
    }
    const seen = async (type: string): Promise<number> =>
      new Set((await stage.events("postgres")).filter((event) => event.type === type).map((event) => (event as { uuid: string }).uuid))
        .size;
    for (const type of ["task-sent", "task-received", "task-started", "task-succeeded"]) {
      await vi.waitFor(async () => expect(`${type} ${await seen(type)}`).toBe(`${type} 100`), WAIT);
    }
  });
});
