import { TcpProxy, sharedRabbitmqUrl } from "@celery-metrics-exporter/testkit";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it, vi } from "vitest";
import { RabbitmqSource, type RabbitmqOptions } from "../../src/rabbitmq/source.ts";
import { RabbitmqSession } from "../../src/rabbitmq/session.ts";
import { Recorder, describeEventSource } from "../../src/testing/index.ts";
import { RabbitmqHarness, TOPOLOGY, rabbitmqServers } from "../rabbitmq-harness.ts";
import { testContext } from "../test-context.ts";

describeEventSource("RabbitMQ", () => RabbitmqHarness.create());

const body = (id: number): string => JSON.stringify({ type: `task-custom${id}`, uuid: "1", hostname: "w1@host-a", timestamp: 1 });

const port = (): string => new URL(sharedRabbitmqUrl()).port;

async function publish(harness: RabbitmqHarness, from: number, to: number): Promise<void> {
  for (let id = from; id <= to; id++) await harness.publish(body(id));
}

describe("RabbitmqSource", () => {
  const releases: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const release of releases.splice(0).reverse()) await release();
  });

  async function harnessOf(options: Partial<RabbitmqOptions> = {}): Promise<{ harness: RabbitmqHarness; recorder: Recorder }> {
    const harness = await RabbitmqHarness.create(options);
    releases.push(() => harness.release());
    return { harness, recorder: new Recorder() };
  }

  async function start(url: string, startupTimeoutMs = 1_000): Promise<void> {
    const options = {
      ...TOPOLOGY,
      exchange: "celeryev-start",
      queue: "celery-metrics-exporter-start",
      queueExpiresMs: 60_000,
      prefetch: 10,
    };
    const source = new RabbitmqSource(rabbitmqServers(url), options, testContext(startupTimeoutMs));
    releases.push(() => source.stop());
    await source.start(() => {});
  }

  it("declares a bounded quorum queue that outlives its consumers", async () => {
    const { harness, recorder } = await harnessOf();
    await harness.source.start(recorder.onMessage);
    const asserted = harness.administer((channel) =>
      channel.assertQueue(harness.options.queue, {
        durable: true,
        arguments: {
          "x-queue-type": "quorum",
          "x-max-length-bytes": 2 ** 30,
          "x-overflow": "drop-head",
          "x-expires": 7 * 86_400_000,
          "x-delivery-limit": 1_000_000,
        },
      }),
    );
    await expect(asserted).resolves.toBeUndefined();
    const exchange = harness.administer((channel) => channel.assertExchange(harness.options.exchange, "topic", { durable: true }));
    await expect(exchange).resolves.toBeUndefined();
  });

  it("declares a classic queue if configured", async () => {
    const { harness, recorder } = await harnessOf({ queueType: "classic" });
    await harness.source.start(recorder.onMessage);
    await harness.publish(body(1));
    await recorder.waitFor(1);
    expect(harness.context.logs.filter(({ level }) => level >= 40)).toEqual([]);
  });

  it("uses an existing exchange of another type as it is", async () => {
    const { harness, recorder } = await harnessOf();
    await harness.administer((channel) => channel.deleteExchange(harness.options.exchange));
    await harness.administer((channel) => channel.assertExchange(harness.options.exchange, "fanout", { durable: false }));
    await harness.source.start(recorder.onMessage);
    await harness.publish(body(1));
    await recorder.waitFor(1);
    expect(recorder.types).toEqual(["task-custom1"]);
  });

  it("uses an existing queue with other arguments as it is, and warns", async () => {
    const { harness, recorder } = await harnessOf();
    await harness.administer((channel) => channel.assertQueue(harness.options.queue, { durable: true }));
    await harness.source.start(recorder.onMessage);
    await harness.publish(body(1));
    await recorder.waitFor(1);
    expect(harness.context.logs).toContainEqual(
      expect.objectContaining({ level: 40, queue: harness.options.queue, reason: expect.stringContaining("x-") as string }),
    );
  });

  it("names the queue that the broker refuses to declare", async () => {
    const { harness, recorder } = await harnessOf({ queueType: "nonsense" as "quorum" });
    await expect(harness.source.start(recorder.onMessage)).rejects.toThrow(/cannot declare queue celery-metrics-exporter-.*x-queue-type/);
  });

  it("recreates its queue when it is deleted", async () => {
    const { harness, recorder } = await harnessOf();
    await harness.source.start(recorder.onMessage);
    await harness.administer((channel) => channel.deleteQueue(harness.options.queue));
    await vi.waitFor(async () => expect(await harness.metric("broker_reconnects_total")).toBe(1), { timeout: 5_000 });
    await vi.waitFor(() => expect(harness.readiness().ready).toBe(true), { timeout: 10_000 });
    await harness.publish(body(1));
    await recorder.waitFor(1);
    expect(harness.context.logs).toContainEqual(expect.objectContaining({ reason: expect.stringContaining("cancelled") as string }));
  });

  it("never holds more messages than the prefetch, and continues as they are acknowledged", async () => {
    const { harness, recorder } = await harnessOf({ prefetch: 10 });
    await harness.source.start(recorder.onMessage);
    await publish(harness, 1, 25);
    await recorder.waitFor(10);
    await sleep(200);
    expect(recorder.messages).toHaveLength(10);
    expect(await harness.metric("broker_unacked_messages")).toBe(10);
    for (const message of recorder.messages.slice(0, 10).reverse()) message.ack();
    await recorder.waitFor(20);
    for (const message of recorder.messages) message.ack();
    await recorder.waitFor(25);
    for (const message of recorder.messages) message.ack();
    await vi.waitFor(async () => expect(await harness.metric("broker_unacked_messages")).toBe(0), { timeout: 10_000 });
    await harness.source.stop();
    await vi.waitFor(async () => expect(await harness.waiting()).toBe(0), { timeout: 10_000 });
  });

  it("keeps no more bytes than fit, leaves the rest to the broker, and then gets fewer large messages at a time", async () => {
    const large = `["${"x".repeat(100_000)}"]`;
    const { harness, recorder } = await harnessOf({ prefetch: 5_000, prefetchBytes: 1_000_000, longPauseMs: 60_000 });
    let acks = false;
    await harness.source.start((message) => {
      recorder.onMessage(message);
      if (acks) message.ack();
    });
    const publishTimes = async (messages: number, text: string): Promise<void> => {
      await Promise.all(Array.from({ length: messages }, () => harness.publish(text)));
    };
    harness.source.pause();
    await publishTimes(60, large);
    await vi.waitFor(async () => expect(await harness.waiting()).toBe(51), { timeout: 5_000 });
    expect(await harness.metric("broker_buffer_bytes")).toBeLessThan(1_000_000);
    harness.source.resume();
    // The buffered messages, and as many more as fit.
    await recorder.waitFor(9 + 5);
    await sleep(300);
    expect(recorder.messages.length).toBeLessThan(9 + 15);
    acks = true;
    for (const message of recorder.messages) message.ack();
    await recorder.waitFor(60);
    // Small messages again: soon as many at a time as before.
    await publishTimes(400, "[]");
    await recorder.waitFor(460);
    acks = false;
    await publishTimes(200, "[]");
    await recorder.waitFor(660);
    expect(recorder.messages).toHaveLength(660);
  }, 30_000);

  it("consumes nothing if a pause becomes a long one during a reconnection", async () => {
    const { harness, recorder } = await harnessOf({ prefetch: 10, longPauseMs: 1_500 });
    await harness.source.start(recorder.onMessage);
    const setConsuming = Object.getOwnPropertyDescriptor(RabbitmqSession.prototype, "setConsuming")?.value as (
      this: RabbitmqSession,
      wanted: boolean,
    ) => Promise<void>;
    let isLong: Promise<void> = Promise.resolve();
    // The new session consumes as it should, but counts as open only after the pause has become a long one.
    const spy = vi.spyOn(RabbitmqSession.prototype, "setConsuming").mockImplementationOnce(async function (this: RabbitmqSession, wanted) {
      await setConsuming.call(this, wanted);
      await isLong;
    });
    releases.push(async () => spy.mockRestore());
    harness.source.pause();
    isLong = sleep(1_700);
    harness.cut();
    await isLong;
    await vi.waitFor(() => expect(harness.readiness().components["broker"]).toBe("up"), { timeout: 5_000 });
    expect(spy).toHaveBeenCalled();
    await harness.publish(body(1));
    await vi.waitFor(async () => expect(await harness.waiting()).toBe(1), { timeout: 10_000 });
    await vi.waitFor(
      () => harness.administer(async (channel) => expect((await channel.checkQueue(harness.options.queue)).consumerCount).toBe(0)),
      { timeout: 10_000 },
    );
    harness.source.resume();
    await recorder.waitFor(1);
  });

  it("returns buffered messages during a long pause, and continues after it", async () => {
    const { harness, recorder } = await harnessOf({ prefetch: 10, longPauseMs: 100 });
    await harness.source.start((message) => {
      recorder.onMessage(message);
      if (recorder.messages.length === 2) harness.source.pause();
    });
    await publish(harness, 1, 8);
    await vi.waitFor(async () => expect(await harness.waiting()).toBe(6), { timeout: 10_000 });
    await publish(harness, 9, 9);
    await sleep(100);
    await vi.waitFor(async () => expect(await harness.waiting()).toBe(7), { timeout: 10_000 });
    // The two messages handed over are acknowledged although later ones were returned.
    for (const message of recorder.messages) message.ack();
    harness.source.resume();
    await recorder.waitFor(9);
    for (const message of recorder.messages) message.ack();
    await harness.source.stop();
    await vi.waitFor(async () => expect(await harness.waiting()).toBe(0), { timeout: 10_000 });
    expect(new Set(recorder.types)).toEqual(new Set([1, 2, 3, 4, 5, 6, 7, 8, 9].map((id) => `task-custom${id}`)));
    expect(harness.context.logs.filter(({ level }) => level >= 40)).toEqual([]);
  });

  describe("during a pause longer than the queue's expiry", () => {
    const EXPIRES_MS = 3_000;
    const pausing = { queueExpiresMs: EXPIRES_MS, longPauseMs: 1 };
    const expires = { "x-expires": EXPIRES_MS };

    it("keeps the queue and its messages, for either type, with our or other arguments", async () => {
      const queues = [
        { what: "our quorum queue", options: { queueType: "quorum" }, foreign: undefined },
        { what: "our classic queue", options: { queueType: "classic" }, foreign: undefined },
        { what: "a quorum queue with other arguments", options: {}, foreign: { ...expires, "x-queue-type": "quorum" } },
        { what: "a classic queue with other arguments", options: {}, foreign: expires },
      ] as const;
      const keeps = async ({ what, options, foreign }: (typeof queues)[number]): Promise<void> => {
        const { harness, recorder } = await harnessOf({ ...pausing, ...options });
        if (foreign !== undefined) {
          await harness.administer((channel) => channel.assertQueue(harness.options.queue, { durable: true, arguments: foreign }));
        }
        await harness.source.start(recorder.onMessage);
        harness.source.pause();
        await sleep(EXPIRES_MS * 1.5);
        await publish(harness, 1, 3);
        await sleep(EXPIRES_MS * 1.5);
        expect(await harness.metric("broker_reconnects_total"), what).toBe(0);
        harness.source.resume();
        await recorder.waitFor(3);
        expect([...recorder.types].sort(), what).toEqual(["task-custom1", "task-custom2", "task-custom3"]);
      };
      await Promise.all(queues.map(keeps));
    });

    it("also keeps it after a reconnection", async () => {
      const { harness, recorder } = await harnessOf(pausing);
      await harness.source.start(recorder.onMessage);
      harness.source.pause();
      await sleep(100);
      harness.cut();
      await vi.waitFor(async () => expect(await harness.metric("broker_reconnects_total")).toBe(1), { timeout: 5_000 });
      await vi.waitFor(() => expect(harness.readiness().ready).toBe(true), { timeout: 10_000 });
      await publish(harness, 1, 3);
      await sleep(EXPIRES_MS * 2);
      harness.source.resume();
      await recorder.waitFor(3);
      expect(await harness.metric("broker_reconnects_total")).toBe(1);
    });

    it.each([
      ["our queue", undefined],
      ["a queue with other arguments", { "x-expires": 60_000 }],
    ])("detects that %s was deleted, reports it, and recreates it with its binding", async (_, foreign) => {
      const { harness, recorder } = await harnessOf(pausing);
      if (foreign !== undefined) {
        await harness.administer((channel) => channel.assertQueue(harness.options.queue, { durable: true, arguments: foreign }));
      }
      await harness.source.start(recorder.onMessage);
      harness.source.pause();
      await sleep(100);
      await harness.administer((channel) => channel.deleteQueue(harness.options.queue));
      await vi.waitFor(async () => expect(await harness.metric("broker_reconnects_total")).toBe(1), { timeout: 5_000 });
      await vi.waitFor(() => expect(harness.readiness().ready).toBe(true), { timeout: 10_000 });
      expect(harness.context.logs).toContainEqual(expect.objectContaining({ level: 40, reason: "our queue is missing (was it deleted?)" }));
      await harness.publish(body(1));
      harness.source.resume();
      await recorder.waitFor(1);
    });
  });

  it("handles pauses and resumes in any rhythm", async () => {
    const { harness, recorder } = await harnessOf({ prefetch: 50, longPauseMs: 1 });
    await harness.source.start((message) => {
      recorder.onMessage(message);
      message.ack();
    });
    const publishing = publish(harness, 1, 200);
    for (let round = 0; round < 40; round++) {
      harness.source.pause();
      await sleep(round % 5);
      harness.source.resume();
      await sleep(round % 3);
    }
    await publishing;
    await vi.waitFor(() => expect(new Set(recorder.types).size).toBe(200), { timeout: 10_000 });
    await harness.source.stop();
    await vi.waitFor(async () => expect(await harness.waiting()).toBe(0), { timeout: 10_000 });
    expect(await harness.metric("broker_reconnects_total")).toBe(0);
  });

  it("gets unacknowledged messages again after the connection was cut, and ignores acknowledgements of the old one", async () => {
    const { harness, recorder } = await harnessOf();
    await harness.source.start(recorder.onMessage);
    await publish(harness, 1, 3);
    await recorder.waitFor(3);
    recorder.messages[0]?.ack();
    await sleep(50);
    harness.cut();
    await recorder.waitFor(5);
    for (const message of recorder.messages.slice(0, 3)) message.ack();
    await sleep(100);
    expect(await harness.metric("broker_unacked_messages")).toBe(2);
    expect(recorder.types.slice(3)).toEqual(["task-custom2", "task-custom3"]);
    expect(await harness.metric("broker_reconnects_total")).toBe(1);
  });

  it("detects a half-open connection, and gets its messages again", async () => {
    const { harness, recorder } = await harnessOf({ heartbeatSeconds: 1 });
    await harness.source.start(recorder.onMessage);
    await publish(harness, 1, 2);
    await recorder.waitFor(2);
    harness.proxy.freeze();
    harness.proxy.thaw();
    for (const message of recorder.messages) message.ack();
    const lost = expect.objectContaining({ msg: "broker connection lost, reconnecting", reason: "Heartbeat timeout" }) as unknown;
    await vi.waitFor(() => expect(harness.context.logs).toContainEqual(lost), { timeout: 20_000 });
    await vi.waitFor(() => expect(harness.readiness().ready).toBe(true), { timeout: 20_000 });
    await recorder.waitFor(4, 20_000);
    expect(await harness.metric("broker_reconnects_total")).toBe(1);
    expect(await harness.metric("broker_unacked_messages")).toBe(2);
  });

  it("survives an event loop that blocks for longer than a heartbeat's interval", async () => {
    const { harness, recorder } = await harnessOf({ heartbeatSeconds: 2 });
    await harness.source.start(recorder.onMessage);
    const until = performance.now() + 2_500;
    while (performance.now() < until);
    await sleep(4_000);
    await publish(harness, 1, 1);
    await recorder.waitFor(1);
    expect(await harness.metric("broker_reconnects_total")).toBe(0);
  });

  it("lets two receivers share the queue, with each message for one of them", async () => {
    const { harness, recorder } = await harnessOf({ prefetch: 5 });
    const other = harness.another();
    releases.push(() => other.stop());
    const second = new Recorder();
    await harness.source.start(recorder.onMessage);
    await other.start(second.onMessage);
    await publish(harness, 1, 10);
    await recorder.waitFor(5);
    await second.waitFor(5);
    expect(new Set([...recorder.types, ...second.types]).size).toBe(10);
  });

  describe("at start", () => {
    it.each([
      ["a wrong password", () => `amqp://guest:secret@127.0.0.1:${port()}//`, /refused access: wrong user or password/],
      ["an unknown vhost", () => `amqp://guest:guest@127.0.0.1:${port()}/nowhere`, /refused access: virtual host "nowhere" does not exist/],
      ["TLS on a plain port", () => `amqps://guest:secret@127.0.0.1:${port()}//`, /refused access: it does not support TLS on this port/],
    ])("fails at once for %s, without the password", async (_, url, message) => {
      const startedAt = Date.now();
      const error = await start(url(), 20_000).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "ERR_UNAVAILABLE", message: expect.stringMatching(message) as string });
      expect(String(error)).not.toContain("secret");
      expect(Date.now() - startedAt).toBeLessThan(5_000);
    });

    it("gives up on an unreachable broker within the startup timeout", async () => {
      const startedAt = Date.now();
      const error = await start("amqp://u:secret@127.0.0.1:1//").catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({
        code: "ERR_UNAVAILABLE",
        message: expect.stringMatching(
          /^Cannot reach RabbitMQ at amqp:\/\/127\.0\.0\.1:1\/\/ \(.*ECONNREFUSED.*\)\. Start it, or set CELERY_BROKER_URL/,
        ) as string,
      });
      expect(String(error)).not.toContain("secret");
      expect(Date.now() - startedAt).toBeLessThan(3_000);
    });

    it("gives up on a broker that accepts connections and stays silent", async () => {
      const proxy = await TcpProxy.start(Number(port()));
      proxy.freeze();
      releases.push(() => proxy.stop());
      await expect(start(`amqp://guest:guest@127.0.0.1:${proxy.port}//`)).rejects.toThrow(/Cannot reach RabbitMQ/);
    });

    it("tries the servers of a failover list in turn", async () => {
      const url = `amqp://guest:guest@127.0.0.1:1//;amqp://guest:bad@127.0.0.1:${port()}//;amqp://guest:guest@127.0.0.1:${port()}//`;
      await expect(start(url, 10_000)).resolves.toBeUndefined();
    });
  });
});
