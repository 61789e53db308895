/** Exchange, binding and queue that disappear while we consume: detected, repaired, and counted as gaps. */
import { createVhost, sharedRabbitmqUrl, type TestVhost } from "@celery-metrics-exporter/testkit";
import { connect, type Channel } from "amqplib";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { probeBinding } from "../../src/rabbitmq/binding.ts";
import { RabbitmqSource, type RabbitmqOptions } from "../../src/rabbitmq/source.ts";
import { Recorder } from "../../src/testing/index.ts";
import { RabbitmqHarness, TOPOLOGY, rabbitmqServers } from "../rabbitmq-harness.ts";
import { testContext } from "../test-context.ts";

const WAIT = { timeout: 10_000, interval: 20 };
const QUIET_MS = 400;
const HEARTBEAT = JSON.stringify({ type: "worker-heartbeat", hostname: "w1@host-a", timestamp: 1 });

/** Publishes until a message arrives. */
async function comesAgain(harness: RabbitmqHarness, recorder: Recorder): Promise<void> {
  const before = recorder.messages.length;
  await vi.waitFor(async () => {
    await harness.publish(HEARTBEAT);
    expect(recorder.messages.length).toBeGreaterThan(before);
  }, WAIT);
}

const gaps = (harness: RabbitmqHarness): Promise<number> => harness.metric("broker_gaps_total");
const events = (harness: RabbitmqHarness): string | undefined => harness.readiness().components["events"];

const unbind = (harness: RabbitmqHarness): Promise<void> =>
  harness.administer((channel) => channel.unbindQueue(harness.options.queue, harness.options.exchange, "#"));

describe("RabbitmqSource whose exchange, binding or queue disappears", () => {
  const releases: (() => unknown)[] = [];
  afterEach(async () => {
    for (const release of releases.splice(0).reverse()) await release();
  });

  async function start(options: Partial<RabbitmqOptions> = {}): Promise<{ harness: RabbitmqHarness; recorder: Recorder }> {
    const harness = await RabbitmqHarness.create({ quietMs: QUIET_MS, ...options });
    releases.push(() => harness.release());
    const recorder = new Recorder();
    await harness.source.start((message) => {
      recorder.onMessage(message);
      message.ack();
    });
    return { harness, recorder };
  }

  /** Sends heartbeats like a worker. The returned function stops them, and so does the end of the test. */
  const beats = (harness: RabbitmqHarness): (() => void) => {
    const timer = setInterval(() => {
      void harness.administer(
        async (channel) => void channel.publish(harness.options.exchange, "worker.heartbeat", Buffer.from(HEARTBEAT)),
      );
    }, 50);
    const stop = (): void => clearInterval(timer);
    releases.push(stop);
    return stop;
  };

  it.each([
    ["as it was", (channel: Channel, name: string) => channel.assertExchange(name, "topic", { durable: true })],
    ["with another type", (channel: Channel, name: string) => channel.assertExchange(name, "fanout", { durable: true })],
    ["with another durability", (channel: Channel, name: string) => channel.assertExchange(name, "topic", { durable: false })],
  ])("binds again when the exchange is deleted and declared again %s", async (_, declare) => {
    const { harness, recorder } = await start();
    await comesAgain(harness, recorder);
    await harness.administer(async (channel) => {
      await channel.deleteExchange(harness.options.exchange);
      await declare(channel, harness.options.exchange);
    });
    await comesAgain(harness, recorder);
    expect(await harness.metric("broker_reconnects_total")).toBe(0);
  });

  it("binds again while paused, so that the queue collects events", async () => {
    const { harness } = await start({ longPauseMs: 50 });
    harness.source.pause();
    await harness.administer((channel) => channel.unbindQueue(harness.options.queue, harness.options.exchange, "#"));
    await vi.waitFor(async () => {
      await harness.publish(HEARTBEAT);
      expect(await harness.waiting()).toBeGreaterThan(0);
    }, WAIT);
  });

  it("counts a gap when published events do not reach our queue", async () => {
    const { harness, recorder } = await start();
    beats(harness);
    await recorder.waitFor(10);
    await unbind(harness);
    await vi.waitFor(async () => expect(await gaps(harness)).toBe(1), WAIT);
    const before = recorder.messages.length;
    await recorder.waitFor(before + 10);
    expect(harness.context.logs).toContainEqual(
      expect.objectContaining({
        level: 40,
        since: expect.any(String) as string,
        msg: expect.stringContaining("lost its binding") as string,
      }),
    );
    expect(events(harness)).toBe("up");
    expect(await gaps(harness)).toBe(1);
  });

  it("still detects a lost binding after the exchange was missing for a while", async () => {
    const { harness, recorder } = await start();
    const stop = beats(harness);
    await recorder.waitFor(10);
    stop();
    await harness.administer((channel) => channel.deleteExchange(harness.options.exchange));
    await vi.waitFor(() => expect(events(harness)).toMatch(/waiting for the exchange/), WAIT);
    await harness.administer((channel) => channel.assertExchange(harness.options.exchange, "topic", { durable: true }));
    await vi.waitFor(() => expect(events(harness)).toBe("up"), WAIT);
    expect(await gaps(harness)).toBe(1);
    beats(harness);
    await recorder.waitFor(recorder.messages.length + 10);
    await unbind(harness);
    await vi.waitFor(async () => expect(await gaps(harness)).toBe(2), WAIT);
    expect(JSON.stringify(harness.context.logs)).not.toContain("cannot detect a lost binding");
  });

  it("does not treat a connection that ends during a probe as a refusal", async () => {
    const { harness } = await start();
    const connection = await connect(sharedRabbitmqUrl());
    const looking = probeBinding({ connection, topology: harness.options, heard: () => false, listenMs: 1_000 });
    setTimeout(() => void connection.close(), 300);
    expect(await looking).toBe("unknown");
  });

  /** Stops heartbeats for this multiple of the silence that triggers a probe, then returns the number of gaps. */
  async function gapsAfter(times: number): Promise<number> {
    const { harness, recorder } = await start();
    const stop = beats(harness);
    await recorder.waitFor(20);
    stop();
    await sleep(times * QUIET_MS);
    beats(harness);
    const before = recorder.messages.length;
    await recorder.waitFor(before + 20);
    // As long as a probe takes.
    await sleep(2_500);
    return gaps(harness);
  }

  it("counts no gap when heartbeats stop for a little longer, as with a worker busy with a task", async () => {
    expect(await Promise.all([1.1, 1.4, 1.7].map(gapsAfter))).toEqual([0, 0, 0]);
  });

  it("counts no gap while paused and another receiver consumes", async () => {
    const { harness } = await start({ longPauseMs: 50 });
    const other = harness.another();
    releases.push(() => other.stop());
    const recorder = new Recorder();
    await other.start((message) => {
      recorder.onMessage(message);
      message.ack();
    });
    const stop = beats(harness);
    await recorder.waitFor(10);
    harness.source.pause();
    stop();
    await sleep(QUIET_MS);
    beats(harness);
    await recorder.waitFor(100);
    expect(await gaps(harness)).toBe(0);
  });

  it("binds again and counts nothing if it may not listen through another queue", async () => {
    const created = await createVhost();
    releases.push(() => created.drop());
    const [url = ""] = await created.createUsers([{ configure: "^$", write: "^mine$", read: ".*" }]);
    const connection = await connect(created.url);
    releases.push(() => connection.close());
    const channel = await connection.createChannel();
    await channel.assertQueue("mine", { durable: true });
    await channel.assertExchange("celeryev", "topic", { durable: true });
    const context = testContext();
    const recorder = new Recorder();
    const source = new RabbitmqSource(rabbitmqServers(url), { ...TOPOLOGY, queue: "mine", prefetch: 10, quietMs: QUIET_MS }, context);
    releases.push(() => source.stop());
    await source.start((message) => {
      recorder.onMessage(message);
      message.ack();
    });
    const timer = setInterval(() => channel.publish("celeryev", "worker.heartbeat", Buffer.from(HEARTBEAT)), 50);
    releases.push(() => clearInterval(timer));
    await recorder.waitFor(10);
    await channel.unbindQueue("mine", "celeryev", "#");
    const before = recorder.messages.length;
    await recorder.waitFor(before + 10);
    expect(await context.metric("broker_gaps_total")).toBe(0);
    expect(await context.metric("broker_reconnects_total")).toBe(0);
    expect(context.logs).toContainEqual(
      expect.objectContaining({ msg: expect.stringContaining("cannot detect a lost binding") as string }),
    );
  });

  it("is not ready while the exchange is missing, does not create it, and counts the gap when it exists again", async () => {
    const { harness, recorder } = await start();
    const { exchange } = harness.options;
    await harness.administer((channel) => channel.deleteExchange(exchange));
    await vi.waitFor(() => expect(events(harness)).toMatch(`waiting for the exchange ${exchange}, which does not exist`), WAIT);
    expect(harness.readiness().ready).toBe(false);
    expect(await gaps(harness)).toBe(0);
    await expect(harness.administer((channel) => channel.checkExchange(exchange))).rejects.toThrow("NOT_FOUND");
    await harness.administer((channel) => channel.assertExchange(exchange, "topic", { durable: true }));
    await vi.waitFor(() => expect(harness.readiness().ready).toBe(true), WAIT);
    await comesAgain(harness, recorder);
    expect(await gaps(harness)).toBe(1);
    expect(harness.context.logs.filter(({ msg }) => msg.startsWith("our queue cannot be bound"))).toHaveLength(1);
  });

  it("counts one gap when our queue is deleted", async () => {
    const { harness, recorder } = await start();
    await harness.administer((channel) => channel.deleteQueue(harness.options.queue));
    await vi.waitFor(async () => expect(await gaps(harness)).toBe(1), WAIT);
    await vi.waitFor(() => expect(harness.readiness().ready).toBe(true), WAIT);
    await comesAgain(harness, recorder);
    expect(await gaps(harness)).toBe(1);
    expect(harness.context.logs).toContainEqual(
      expect.objectContaining({ level: 40, queue: harness.options.queue, msg: expect.stringContaining("our queue was deleted") as string }),
    );
  });

  it("counts one gap when our queue is deleted and another client declares it, unbound", async () => {
    const { harness, recorder } = await start();
    await harness.administer(async (channel) => {
      await channel.deleteQueue(harness.options.queue);
      await channel.assertQueue(harness.options.queue, { durable: true });
    });
    await vi.waitFor(async () => expect(await gaps(harness)).toBe(1), WAIT);
    await comesAgain(harness, recorder);
    expect(await gaps(harness)).toBe(1);
  });

  it("counts one gap when our queue is deleted while paused", async () => {
    const { harness } = await start({ longPauseMs: 50 });
    harness.source.pause();
    await vi.waitFor(
      () => harness.administer(async (channel) => expect((await channel.checkQueue(harness.options.queue)).consumerCount).toBe(0)),
      WAIT,
    );
    await harness.administer((channel) => channel.deleteQueue(harness.options.queue));
    await vi.waitFor(async () => expect(await gaps(harness)).toBe(1), WAIT);
    await vi.waitFor(() => expect(harness.readiness().components["broker"]).toBe("up"), WAIT);
  });

  it("counts no gap for the first queue or for a lost connection", async () => {
    const { harness, recorder } = await start();
    harness.cut();
    await vi.waitFor(async () => expect(await harness.metric("broker_reconnects_total")).toBe(1), WAIT);
    await comesAgain(harness, recorder);
    expect(await gaps(harness)).toBe(0);
  });
});

describe("RabbitmqSource without an exchange", { timeout: 30_000 }, () => {
  /** A user that may create everything, and one that may create only its queue. */
  const CONFIGURE = [".*", "^celery-metrics-exporter$"];
  let vhost: TestVhost;
  let urls: readonly string[];
  beforeAll(async () => {
    vhost = await createVhost();
    urls = await vhost.createUsers(CONFIGURE.map((configure) => ({ configure, write: "^celery-metrics-exporter$", read: ".*" })));
  });
  afterAll(() => vhost.drop());

  const releases: (() => unknown)[] = [];
  afterEach(async () => {
    for (const release of releases.splice(0).reverse()) await release();
  });

  async function start(url: string, exchange: string, more: { readonly silenceMs?: number } = {}) {
    const context = testContext();
    const recorder = new Recorder();
    const source = new RabbitmqSource(rabbitmqServers(url), { ...TOPOLOGY, exchange, prefetch: 10, quietMs: QUIET_MS, ...more }, context);
    releases.push(() => source.stop());
    await source.start(recorder.onMessage);
    return { context, recorder };
  }

  /** On an empty virtual host, with or without the right to create the exchange. */
  async function emptyVhost(configure: string): Promise<{ url: string; channel: Channel }> {
    const connection = await connect(vhost.url);
    const channel = await connection.createChannel();
    releases.push(async () => {
      const cleaning = await connection.createChannel();
      await cleaning.deleteQueue(TOPOLOGY.queue);
      for (const exchange of ["celeryev", "celeryevents"]) await cleaning.deleteExchange(exchange);
      await connection.close();
    });
    return { url: urls[CONFIGURE.indexOf(configure)] ?? "", channel };
  }

  it("creates the exchange with Celery's default name, and logs that", async () => {
    const { url, channel } = await emptyVhost(".*");
    const { context, recorder } = await start(url, "celeryev");
    expect(context.health.report().ready).toBe(true);
    expect(context.logs).toContainEqual(
      expect.objectContaining({ level: 30, exchange: "celeryev", msg: expect.stringContaining("created it") as string }),
    );
    await channel.assertExchange("celeryev", "topic", { durable: true });
    channel.publish("celeryev", "task.multi", Buffer.from(HEARTBEAT), { contentType: "application/json" });
    await recorder.waitFor(1);
  });

  it.each([
    [
      "with another name, and mentions Celery's",
      ".*",
      "celeryevents",
      /waiting for the exchange celeryevents.*EVENT_EXCHANGE \(the exchange celeryev exists\)/,
    ],
    [
      "that it may not create",
      "^celery-metrics-exporter$",
      "celeryev",
      /waiting for the exchange celeryev, which does not exist: start a worker with -E/,
    ],
  ])("waits for an exchange %s", async (_, configure, exchange, words) => {
    const { url, channel } = await emptyVhost(configure);
    if (exchange !== "celeryev") await channel.assertExchange("celeryev", "topic", { durable: true });
    const { context, recorder } = await start(url, exchange);
    expect(context.health.report()).toMatchObject({
      ready: false,
      components: { broker: "up", events: expect.stringMatching(words) as string },
    });
    await channel.assertExchange(exchange, "topic", { durable: true });
    await vi.waitFor(() => expect(context.health.report().ready).toBe(true), WAIT);
    channel.publish(exchange, "task.multi", Buffer.from(HEARTBEAT), { contentType: "application/json" });
    await recorder.waitFor(1);
    expect(await context.metric("broker_gaps_total")).toBe(0);
  });

  it.each([
    [".*", /The exchange celeryev has the type direct: delete it/],
    ["^celery-metrics-exporter$", /^(?!.*type direct)/],
  ])("reports a wrong type of the exchange after a silence, if permitted (configure %s)", async (configure, words) => {
    const { url, channel } = await emptyVhost(configure);
    await channel.assertExchange("celeryev", "direct", { durable: true });
    const { context } = await start(url, "celeryev", { silenceMs: 100 });
    const advice = expect.stringMatching(words) as string;
    await vi.waitFor(() => expect(context.logs).toContainEqual(expect.objectContaining({ advice })), WAIT);
  });

  it("does not create an exchange with another name", async () => {
    const exchange = `celeryev-${randomUUID()}`;
    const { url, channel } = await emptyVhost(".*");
    await start(url, exchange);
    channel.on("error", () => {});
    await expect(channel.checkExchange(exchange)).rejects.toThrow("NOT_FOUND");
  });
});
