import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { RedisSource, type RedisOptions } from "../../src/redis/source.ts";
import { Recorder } from "../../src/testing/index.ts";
import { RedisHarness, envelope, redisServers } from "../redis-harness.ts";
import { testContext } from "../test-context.ts";

const WAIT = { timeout: 20_000, interval: 5 };
const FOREVER = Number.POSITIVE_INFINITY;
const body = (type: string): string => JSON.stringify({ type, uuid: "1", hostname: "w1@host-a", timestamp: 1_795_328_908.5 });

function stream(url: string, options: Partial<RedisOptions> = {}): string {
  return new RedisSource(redisServers(url), { bufferMaxBytes: 1, ...options }, testContext()).broadcast.stream;
}

describe("Redis pub/sub with several receivers", () => {
  let harness: RedisHarness;
  let recorder: Recorder;
  afterEach(async () => {
    await harness.release();
  });

  async function start(options: Partial<RedisOptions> = {}): Promise<void> {
    harness = await RedisHarness.create({ pingMs: 100, ...options });
    recorder = new Recorder();
    await harness.source.start(recorder.onMessage);
  }

  const publish = async (...types: string[]): Promise<void> => {
    for (const type of types) await harness.publish(body(type));
  };
  const kept = (): Promise<number> => harness.metric("broker_buffer_bytes");
  const keptBecomes = (messages: number, type: string): Promise<void> =>
    expect.poll(kept, WAIT).toBe(messages * envelope(body(type)).length);

  it("keeps messages, and hands them over before later ones", async () => {
    await start();
    const { broadcast } = harness.source;
    broadcast.keep();
    await publish("task-a1", "task-a2");
    await keptBecomes(2, "task-a1");
    expect(recorder.types).toEqual([]);
    broadcast.handOverUntil(FOREVER);
    await publish("task-a3");
    await recorder.waitFor(3);
    expect(recorder.types).toEqual(["task-a1", "task-a2", "task-a3"]);
  });

  it("drops messages reported as safe, and no newer ones", async () => {
    await start();
    const { broadcast } = harness.source;
    broadcast.keep();
    await publish("task-a1");
    await keptBecomes(1, "task-a1");
    const between = performance.now();
    await publish("task-a2");
    await keptBecomes(2, "task-a1");
    broadcast.forget(between);
    broadcast.forget(between);
    broadcast.handOverUntil(FOREVER);
    await recorder.waitFor(1);
    expect(recorder.types).toEqual(["task-a2"]);
    expect(broadcast.completeSince).toBeLessThan(between);
  });

  it("keeps messages that arrive after its hand-over time: another receiver may be active", async () => {
    await start();
    const { broadcast } = harness.source;
    const moment = performance.now() + 100;
    broadcast.handOverUntil(moment);
    await expect.poll(() => performance.now() > moment, WAIT).toBe(true);
    await publish("task-a1");
    await keptBecomes(1, "task-a1");
    expect(recorder.types).toEqual([]);
    broadcast.handOverUntil(FOREVER);
    await recorder.waitFor(1);
  });

  it("drops the oldest kept messages if not all fit, counts them, and reports since when it is complete", async () => {
    const bytes = envelope(body("task-a1")).length;
    await start({ bufferMaxBytes: 10 * bytes });
    const { broadcast } = harness.source;
    const before = broadcast.completeSince ?? Number.NaN;
    broadcast.keep();
    for (let count = 10; count < 35; count++) await publish(`task-${count}`);
    await expect.poll(() => harness.metric("standby_messages_dropped_total"), WAIT).toBe(15);
    expect(await harness.metric("messages_dropped_total")).toBe(0);
    expect(broadcast.completeSince).toBeGreaterThan(before);
    broadcast.handOverUntil(FOREVER);
    await recorder.waitFor(10);
    expect(recorder.types).toEqual(Array.from({ length: 10 }, (_, index) => `task-${25 + index}`));
  });

  it("advances its safe time only when messages are acknowledged", async () => {
    await start();
    const { broadcast } = harness.source;
    await publish("task-a1", "task-a2");
    await recorder.waitFor(2);
    const arrived = performance.now();
    recorder.messages[1]?.ack();
    // Meanwhile, many PINGs are answered.
    await sleep(500);
    expect(broadcast.safeUntil).toBeLessThan(arrived);
    recorder.messages[0]?.ack();
    recorder.messages[0]?.ack();
    await expect.poll(() => broadcast.safeUntil > arrived, WAIT).toBe(true);
  });

  it("does not count as safe what was published but has not arrived, although it holds no unsafe message", async () => {
    await start();
    const { broadcast } = harness.source;
    const begun = performance.now();
    await expect.poll(() => broadcast.safeUntil > begun, WAIT).toBe(true);
    harness.proxy.freeze();
    const frozen = performance.now();
    await publish("task-a1");
    // Some PINGs stay unanswered, but not enough to end the session.
    await sleep(500);
    expect(broadcast.safeUntil).toBeLessThanOrEqual(frozen);
  });

  it("is complete since it subscribed, not while disconnected, and less far back after an interruption", async () => {
    await start();
    const { broadcast } = harness.source;
    const first = broadcast.completeSince ?? Number.NaN;
    expect(first).toBeLessThan(performance.now());
    await harness.proxy.stop();
    await expect.poll(() => broadcast.completeSince, WAIT).toBeUndefined();
    await harness.proxy.restart();
    await expect.poll(() => broadcast.completeSince !== undefined, WAIT).toBe(true);
    expect(broadcast.completeSince).toBeGreaterThan(first);
  });

  it("when drained, hands over all kept messages regardless of later calls, and all of them can become safe", async () => {
    await start();
    const { broadcast } = harness.source;
    broadcast.keep();
    await publish("task-a1", "task-a2");
    await keptBecomes(2, "task-a1");
    const begun = performance.now();
    const drained = harness.source.drain();
    broadcast.keep();
    await drained;
    expect(recorder.types).toEqual(["task-a1", "task-a2"]);
    expect(broadcast.safeUntil).toBeLessThan(begun);
    for (const message of recorder.messages) message.ack();
    expect(broadcast.safeUntil).toBeGreaterThanOrEqual(begun);
    const drainedAt = performance.now();
    await sleep(500);
    expect(broadcast.safeUntil).toBeLessThanOrEqual(drainedAt);
  });

  it("has the same name for receivers of the same messages, regardless of the order of their servers, without a password", async () => {
    await start();
    const one = stream("redis://:secret@a:1/0;redis://b:2/0");
    expect(stream("redis://b:2/0;redis://:other@a:1/0")).toBe(one);
    expect(one).not.toContain("secret");
    const others = [
      stream("redis://a:1/0"),
      stream("redis://a:1/1;redis://b:2/1"),
      stream("redis://a:1/0;redis://b:2/0", { exchange: "other" }),
      stream("redis://a:1/0;redis://b:2/0", { globalKeyprefix: "shop:" }),
    ];
    expect(new Set([one, ...others]).size).toBe(5);
  });
});
