import { encodeEnvelope } from "@celery-metrics-exporter/celery";
import { taskStarted } from "@celery-metrics-exporter/celery/testing";
import type { RunningRoles } from "@celery-metrics-exporter/runtime";
import { TcpProxy, startRedis } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Stage, metricOf } from "./running-receiver.ts";

const WAIT = { timeout: 30_000, interval: 50 };
const CHANNEL = "/0.celeryev/task.multi";

/** The message that kombu publishes for a list of events. */
function envelope(uuids: readonly string[]): string {
  return encodeEnvelope({ body: JSON.stringify(uuids.map((uuid) => taskStarted({ uuid }))), routingKey: "task.multi" });
}

const state = (running: RunningRoles): string | undefined => running.health.report().components["receiver"];
/** Without the reason for the standby. */
const role = (running: RunningRoles): string | undefined => state(running)?.split(":")[0];
const becomes = (running: RunningRoles, expected: string): Promise<void> => expect.poll(() => role(running), WAIT).toBe(expected);

describe("two receivers on Redis pub/sub", { timeout: 120_000 }, () => {
  let broker: Awaited<ReturnType<typeof startRedis>>;
  let queues: Awaited<ReturnType<typeof startRedis>>;
  let stage: Stage;
  let publisher: Redis;
  let proxies: TcpProxy[];
  let published: number;
  let load: NodeJS.Timeout | undefined;

  beforeEach(async () => {
    [broker, queues] = await Promise.all([startRedis(), startRedis({ args: ["--appendonly", "yes", "--appendfsync", "always"] })]);
    proxies = [await TcpProxy.start(broker.port), await TcpProxy.start(broker.port)];
    stage = new Stage(queues.url);
    publisher = new Redis(broker.url);
    publisher.on("error", () => {});
    published = 0;
  });
  afterEach(async () => {
    clearInterval(load);
    await stage.release();
    await publisher.quit();
    for (const proxy of proxies) await proxy.stop();
    await broker.stop();
    await queues.stop();
  });

  /** Each uses its own relay, and both use the same broker name. */
  async function start(own: 0 | 1, env: Readonly<Record<string, string>> = {}): Promise<RunningRoles> {
    const servers = [proxies[own], proxies[1 - own]].map((proxy) => `redis://127.0.0.1:${proxy?.port}/0`);
    return stage.startReceiver(servers.join(";"), { EVENT_EXCHANGE: "celeryev", EXPORTERS: "postgres", ...env });
  }

  async function publish(events: number): Promise<void> {
    const ids = Array.from({ length: events }, () => String(published++));
    await publisher.publish(stage.keyprefix + CHANNEL, envelope(ids));
  }

  /** Publishes about 2,000 events a second until it is stopped. */
  function startLoad(): void {
    load = setInterval(() => void publish(20), 10);
  }

  async function stopLoad(): Promise<void> {
    clearInterval(load);
    await publisher.ping();
  }

  async function distinct(): Promise<number> {
    return new Set((await stage.events("postgres")).map((event) => (event as { uuid: string }).uuid)).size;
  }

  async function nothingLost(): Promise<void> {
    await stopLoad();
    await expect.poll(distinct, WAIT).toBe(published);
  }

  it("only one enqueues, both are ready, and the other continues without a gap when that one is drained", async () => {
    const first = await start(0);
    await becomes(first, "active");
    const second = await start(1);
    startLoad();
    await sleep(2_000);
    await stopLoad();
    await expect.poll(distinct, WAIT).toBe(published);
    expect(await stage.events("postgres")).toHaveLength(published);
    expect([state(first), state(second)]).toEqual(["active", "standby: another receiver is active"]);
    const lines = stage.logs.filter(({ msg }) => msg.startsWith("on standby: "));
    expect(lines).toEqual([expect.objectContaining({ level: 30, reason: "another receiver is active" })]);
    expect(second.health.report().ready).toBe(true);
    expect([await metricOf(first, "receiver_active"), await metricOf(second, "receiver_active")]).toEqual([1, 0]);
    expect(await metricOf(first, "receiver_takeovers_total")).toBe(0);
    await expect.poll(() => metricOf(second, "broker_buffer_bytes"), WAIT).toBe(0);
    expect(stage.logs.filter(({ msg }) => msg.startsWith("active: "))).toHaveLength(1);

    startLoad();
    await sleep(500);
    await first.stop();
    await becomes(second, "active");
    await nothingLost();
    expect(await metricOf(second, "receiver_takeovers_total", { covered: "yes" })).toBe(1);
    expect(await metricOf(second, "receiver_takeovers_total", { covered: "no" })).toBe(0);
    expect(await metricOf(second, "standby_messages_dropped_total")).toBe(0);
  });

  it("the standby takes over when the active one's link to the broker breaks, even if that one is back sooner", async () => {
    const first = await start(0);
    const second = await start(1);
    startLoad();
    // Until the standby has been listening for longer than any event is unsafe.
    await sleep(4_000);
    proxies[0]?.cut();
    await becomes(second, "active");
    await becomes(first, "standby");
    await nothingLost();
    expect(await metricOf(first, "broker_gaps_total")).toBe(1);
    expect(await metricOf(second, "receiver_takeovers_total", { covered: "yes" })).toBe(1);
  });

  it("a standby without a link to the broker does not take over; one that is alone again reports that it may have missed something", async () => {
    const first = await start(0);
    const second = await start(1);
    await becomes(first, "active");
    await broker.kill();
    await expect.poll(() => [role(first), role(second)], WAIT).toEqual(["standby", "standby"]);
    await broker.restart();
    await expect.poll(() => new Set([role(first), role(second)]), WAIT).toEqual(new Set(["active", "standby"]));
    const uncovered = { covered: "no" };
    expect(
      (await metricOf(first, "receiver_takeovers_total", uncovered)) + (await metricOf(second, "receiver_takeovers_total", uncovered)),
    ).toBe(1);
  });

  it("a single receiver is active at once, even after a restart", async () => {
    const first = await start(0);
    expect(role(first)).toBe("active");
    await first.stop();
    const second = await start(0);
    expect(role(second)).toBe("active");
    startLoad();
    await sleep(500);
    await nothingLost();
  });

  it("events published while both are being stopped, until the last one stops, are not lost", async () => {
    const first = await start(0);
    const second = await start(1);
    startLoad();
    await sleep(1_000);
    await first.stop();
    await stopLoad();
    await second.stop();
    expect(await distinct()).toBe(published);
  });
});
