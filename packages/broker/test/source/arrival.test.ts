/** Nothing arrives: on either broker, a warning says what to check. */
import { Health } from "@celery-metrics-exporter/runtime";
import { sharedRedisUrl, startRedis } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { createServer, type AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Arrival } from "../../src/source/arrival.ts";
import { rabbitmqAdvice } from "../../src/rabbitmq/advice.ts";
import { listenAround, redisAdvice } from "../../src/redis/advice.ts";
import { RedisSource } from "../../src/redis/source.ts";
import type { RedisSubscription } from "../../src/redis/session.ts";
import { RabbitmqHarness, TOPOLOGY } from "../rabbitmq-harness.ts";
import { envelope, redisServers } from "../redis-harness.ts";
import { testContext } from "../test-context.ts";

const MINUTE = 60_000;
const WARNING = "no message has arrived from Celery, not even a worker's heartbeat";

function make() {
  const context = testContext();
  const health = new Health();
  const arrival = new Arrival({
    advise: () => Promise.resolve("check the worker"),
    health: health.component("events"),
    logger: context.logger,
  });
  const warnings = (): unknown[] => context.logs.filter(({ msg }) => msg === WARNING).map(({ seconds }) => seconds);
  return { arrival, context, health, warnings, state: () => health.report().components["events"] };
}

const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

describe("Arrival", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance", "Date"] }));
  afterEach(() => void vi.useRealTimers());

  it("warns after a minute, then at growing intervals up to an hour, and stays ready", async () => {
    const { arrival, health, warnings, state } = make();
    arrival.expect();
    await pass(MINUTE - 2_000);
    expect(state()).toBe("up");
    await pass(300 * MINUTE);
    expect(warnings().map((seconds) => Math.round(Number(seconds) / 60))).toEqual([1, 2, 4, 8, 16, 32, 64, 124, 184, 244]);
    expect(health.report().ready).toBe(true);
    expect(state()).toMatch(/^up, but no message has arrived since \d{4}-.*Z: check the worker$/);
  });

  it("restarts with each message, and after a warning logs once that messages arrive", async () => {
    const { arrival, context, warnings, state } = make();
    arrival.expect();
    for (let minute = 0; minute < 5; minute += 1) {
      await pass(MINUTE - 2_000);
      arrival.heard();
    }
    expect(warnings()).toEqual([]);
    await pass(2 * MINUTE);
    expect(warnings()).toHaveLength(1);
    arrival.heard();
    await pass(2_000);
    arrival.heard();
    await pass(2_000);
    expect(state()).toBe("up");
    expect(context.logs.filter(({ msg }) => msg === "messages are arriving")).toHaveLength(1);
    await pass(MINUTE);
    expect(warnings()).toHaveLength(2);
  });

  it("expects nothing while disconnected or not consuming", async () => {
    const { arrival, warnings } = make();
    arrival.expect();
    await pass(MINUTE / 2);
    arrival.expectNothing();
    await pass(10 * MINUTE);
    arrival.expect();
    await pass(MINUTE / 2);
    expect(warnings()).toEqual([]);
  });

  it("is not ready while nothing can arrive", async () => {
    const { arrival, health, warnings } = make();
    arrival.expect();
    arrival.block("the exchange is missing");
    arrival.expect();
    await pass(10 * MINUTE);
    expect(warnings()).toEqual([]);
    expect(health.report()).toEqual({ ready: false, components: { events: "the exchange is missing" } });
    arrival.unblock();
    expect(health.report().ready).toBe(true);
    await pass(MINUTE + 2_000);
    expect(warnings()).toHaveLength(1);
  });
});

describe("Arrival while the receiver is paused", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance", "Date"] }));
  afterEach(() => void vi.useRealTimers());

  it.each<[string, (arrival: Arrival) => void]>([
    [
      "paused before the exchange disappeared",
      (arrival) => {
        arrival.expect();
        arrival.expectNothing();
        arrival.block("the exchange is missing");
      },
    ],
    [
      "paused while the exchange is missing",
      (arrival) => {
        arrival.expect();
        arrival.block("the exchange is missing");
        arrival.expectNothing();
      },
    ],
    ["not connected yet", (arrival) => arrival.block("the exchange is missing")],
  ])("expects nothing when the queue is bound again: %s", async (_, happens) => {
    const { arrival, warnings, state } = make();
    arrival.expect();
    arrival.expectNothing();
    happens(arrival);
    arrival.unblock();
    await pass(10 * MINUTE);
    expect(warnings()).toEqual([]);
    expect(state()).toBe("up");
    arrival.expect();
    await pass(MINUTE + 2_000);
    expect(warnings()).toHaveLength(1);
  });
});

describe("advice for RabbitMQ", () => {
  it("names its findings", () => {
    const sight = { vhost: "shop", consumers: 2, waiting: 5, defaultExchange: true };
    const advice = rabbitmqAdvice({ ...TOPOLOGY, exchange: "events" }, sight);
    expect(advice).toMatch(/-E, on virtual host shop.*event_exchange is events \(EVENT_EXCHANGE\)/);
    expect(advice).toMatch(/There is an exchange celeryev: .* change EVENT_EXCHANGE/);
    const direct = rabbitmqAdvice(TOPOLOGY, { ...sight, otherType: "direct" });
    expect(direct).toMatch(/The exchange celeryev has the type direct: delete it/);
    expect(advice).toMatch(/has 2 consumers and 5 waiting messages: .* RABBITMQ_QUEUE/);
  });

  it.each([
    ["3.10.8", false],
    ["4.2.6", false],
    ["4.3.0", true],
    ["4.10.1", true],
  ])("names Celery's settings for RabbitMQ %s: %s", (version, isNamed) => {
    const advice = rabbitmqAdvice(TOPOLOGY, { vhost: "/", version, defaultExchange: true });
    expect(advice.includes("control_queue_exclusive")).toBe(isNamed);
  });

  it("comes after a silence, from a receiver that stays ready", async () => {
    const harness = await RabbitmqHarness.create({ silenceMs: 100 });
    const other = harness.another();
    try {
      await other.start(() => {});
      await harness.source.start(() => {});
      const advice = expect.stringMatching(/^check that a worker runs, with -E, on virtual host \/ .*has 2 consumers/) as string;
      await vi.waitFor(() => expect(harness.context.logs).toContainEqual(expect.objectContaining({ msg: WARNING, advice })), 10_000);
      expect(harness.readiness()).toMatchObject({
        ready: true,
        components: { events: expect.stringMatching("^up, but no message") as string },
      });
      await harness.publish("{}");
      await harness.publish("{}");
      await vi.waitFor(() => expect(harness.readiness().components["events"]).toBe("up"), { timeout: 10_000 });
    } finally {
      await other.stop();
      await harness.release();
    }
  });
});

describe("RabbitmqSource while paused", () => {
  it("does not warn of a silence when the exchange is deleted and declared again", async () => {
    const harness = await RabbitmqHarness.create({ silenceMs: 100, quietMs: 200 });
    const { exchange } = harness.options;
    const events = (): string | undefined => harness.readiness().components["events"];
    try {
      await harness.source.start(() => {});
      harness.source.pause();
      await harness.administer((channel) => channel.deleteExchange(exchange));
      await vi.waitFor(() => expect(events()).toMatch("waiting for the exchange"), 10_000);
      await harness.administer((channel) => channel.assertExchange(exchange, "topic", { durable: true }));
      await vi.waitFor(() => expect(events()).toMatch("up"), 10_000);
      await sleep(1_000);
      expect(events()).toBe("up");
      expect(harness.context.logs.filter(({ msg }) => msg === WARNING)).toEqual([]);
    } finally {
      await harness.release();
    }
  });
});

describe("advice for Redis", () => {
  const [server = { host: "", port: 0, db: 0 }] = redisServers("redis://h/0");
  const advice = (channel: string, subscription: RedisSubscription = {}): string =>
    redisAdvice(server, subscription, { channels: [channel], allowed: true });

  it.each<[string, RedisSubscription, string]>([
    ["/1.celeryev", {}, "/1.celeryev (database 1 in CELERY_BROKER_URL)"],
    ["app:/0.celeryev", {}, "(CELERY_GLOBAL_KEYPREFIX=app:)"],
    ["/0.celeryev", { globalKeyprefix: "app:" }, "(CELERY_GLOBAL_KEYPREFIX=)"],
    ["celeryev", {}, "(CELERY_FANOUT_PREFIX=false)"],
    ["/0.celeryev", { fanoutPrefix: false }, "(CELERY_FANOUT_PREFIX=true)"],
    ["app.celeryev", {}, "(CELERY_FANOUT_PREFIX or CELERY_GLOBAL_KEYPREFIX=app.)"],
    ["/0.shopevents", {}, "(EVENT_EXCHANGE=shopevents)"],
    ["/0.celeryev", { fanoutPatterns: true }, "(CELERY_FANOUT_PATTERNS=both)"],
    ["app:/2.shopevents", {}, "(database 2 in CELERY_BROKER_URL and CELERY_GLOBAL_KEYPREFIX=app: and EVENT_EXCHANGE=shopevents)"],
  ])("says how to receive %s", (channel, subscription, words) => {
    expect(advice(channel, subscription)).toContain(words);
  });

  it("reports that nothing was found, or that we may not listen", () => {
    expect(redisAdvice(server, {}, { channels: [], allowed: true })).toMatch(
      /-E, on redis:\/\/h:6379\/0.*listen to \/0\.celeryev.*No channel of this Redis/,
    );
    expect(redisAdvice(server, {}, { channels: [], allowed: false })).toMatch(/not permitted/);
  });

  it("comes after a silence, and names the channels that carry events", async () => {
    const own = await startRedis();
    const publisher = new Redis(own.url);
    const channels = ["/7.celeryev/worker.heartbeat", "/0.shopevents/worker.heartbeat"];
    const beats = setInterval(() => {
      for (const channel of channels) void publisher.publish(channel, envelope("{}"));
    }, 50);
    const context = testContext();
    const source = new RedisSource(redisServers(own.url), { bufferMaxBytes: 2 ** 20, silenceMs: 100 }, context);
    try {
      await source.start(() => {});
      const found = expect.stringMatching(/7\.celeryev \(database 7 in CELERY_BROKER_URL\)/) as string;
      await vi.waitFor(() => expect(context.logs).toContainEqual(expect.objectContaining({ msg: WARNING, advice: found })), 15_000);
      const named = expect.stringContaining("/0.shopevents (EVENT_EXCHANGE=shopevents)") as string;
      expect(context.health.report()).toMatchObject({ ready: true, components: { events: named } });
    } finally {
      clearInterval(beats);
      await source.stop();
      await publisher.quit();
      await own.stop();
    }
  });

  it("subscribes only to what it is permitted", async () => {
    const own = await startRedis();
    const admin = new Redis(own.url);
    const publish = setInterval(() => void admin.publish("/3.celeryev/worker.heartbeat", "x"), 20);
    try {
      await admin.call("ACL", "SETUSER", "events", "on", ">pw", "resetchannels", "&/0.celeryev/*", "+psubscribe");
      const [restricted = server] = redisServers(own.url.replace("redis://", "redis://events:pw@"));
      expect(await listenAround(restricted, {}, 200)).toEqual({ channels: [], allowed: false });
      await admin.call("ACL", "SETUSER", "events", "&*/worker.heartbeat");
      expect(await listenAround(restricted, {}, 200)).toEqual({ channels: ["/3.celeryev"], allowed: true });
    } finally {
      clearInterval(publish);
      await admin.quit();
      await own.stop();
    }
  });

  it.each<[string, RedisSubscription, string, string[]]>([
    ["key events of Redis", {}, "__keyspace@0__:_kombu.binding.celeryev", []],
    ["the same by event", {}, "__keyevent@0__:sadd", []],
    ["a type of one word", {}, "/0.celeryev/custom", ["/0.celeryev"]],
    ["a type of one word without a prefix", {}, "celeryev/custom", ["celeryev"]],
    ["a type of one word behind a prefix", {}, "app:celeryev/custom", ["app:celeryev"]],
    ["a type of one word of our exchange", { exchange: "shop" }, "app-shop/custom", ["app-shop"]],
    ["a type of one word of another exchange", {}, "/3.celeryev2/custom", ["/3.celeryev2"]],
    ["no routing key", {}, "/0.celeryev", ["/0.celeryev"]],
    ["a prefix that ends in a slash", {}, "/app/celeryev", ["/app/celeryev"]],
    ["heartbeats of another exchange", {}, "events/worker.heartbeat", ["events"]],
  ])("finds the channel of an event: %s", async (_, subscription, channel, found) => {
    const own = await startRedis();
    const publisher = new Redis(own.url);
    const [there = server] = redisServers(own.url);
    const publish = setInterval(() => void publisher.publish(channel, "x"), 10);
    try {
      expect((await listenAround(there, subscription, 300)).channels).toEqual(found);
    } finally {
      clearInterval(publish);
      await publisher.quit();
      await own.stop();
    }
  });

  it("does not wait for a Redis that has stopped answering", { timeout: 20_000 }, async () => {
    const silent = createServer((socket) => void socket.on("error", () => {}).resume());
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const { port } = silent.address() as AddressInfo;
    try {
      await expect(listenAround({ host: "127.0.0.1", port, db: 0 }, {}, 100)).rejects.toThrow(/timed out|closed/);
    } finally {
      silent.close();
    }
  });

  it("stops listening once it has heard enough", async () => {
    const [shared = server] = redisServers(sharedRedisUrl());
    const publisher = new Redis(sharedRedisUrl());
    let count = 0;
    const publish = setInterval(() => void publisher.publish(`/${count++}.celeryev/worker.heartbeat`, "x"), 5);
    try {
      const { channels } = await listenAround(shared, {}, 60_000);
      expect(channels.length).toBeLessThanOrEqual(5);
    } finally {
      clearInterval(publish);
      await publisher.quit();
    }
  });
});
