import { Health, createLogger } from "@celery-metrics-exporter/runtime";
import { afterEach, describe, expect, it } from "vitest";
import { Leader, Leadership } from "../../src/index.ts";
import { privateRedis } from "../support/redis.ts";

const redis = privateRedis();
const TTL_MS = 600;

const leaders: Leader[] = [];
afterEach(async () => {
  await Promise.all(leaders.splice(0).map((leader) => leader.stop()));
});

function create(
  stream: string,
  role: "receiver" | "monitor" = "monitor",
  isAble: () => boolean = () => true,
): { leader: Leader; health: Health } {
  const leadership = new Leadership({ redis: redis.producer, prefix: "{cme}", stream, role, ttlMs: TTL_MS });
  const health = new Health();
  const leader = new Leader({
    leadership,
    role,
    health: health.component("monitor"),
    logger: createLogger("test", "silent"),
    everyMs: 100,
    isAble,
  });
  leaders.push(leader);
  return { leader, health };
}

describe("the leader", () => {
  it("is one of several", async () => {
    const [first, second] = [create("one"), create("one")];
    await first.leader.start();
    await second.leader.start();
    expect([first.leader.isActive, second.leader.isActive]).toEqual([true, false]);
    expect(first.health.report().components).toEqual({ monitor: "active" });
    expect(second.health.report()).toEqual({ ready: true, components: { monitor: "standby: another monitor is active" } });
    // It keeps renewing its leadership.
    await new Promise((resolve) => setTimeout(resolve, 2 * TTL_MS));
    expect([first.leader.isActive, second.leader.isActive]).toEqual([true, false]);
  });

  it("knows since when it is active without a gap", async () => {
    let isAble = true;
    const { leader } = create("eight", "monitor", () => isAble);
    const before = performance.now();
    await leader.start();
    const first = leader.activeSince;
    expect(first).toBeGreaterThanOrEqual(before);
    isAble = false;
    await expect.poll(() => leader.isActive, { interval: 20 }).toBe(false);
    const lost = performance.now();
    isAble = true;
    await expect.poll(() => leader.isActive, { timeout: 4 * TTL_MS, interval: 20 }).toBe(true);
    expect(leader.activeSince).toBeGreaterThanOrEqual(lost);
  });

  it("is followed at once if it stops, and within its time to live if it vanishes", async () => {
    const [first, second] = [create("two"), create("two")];
    await first.leader.start();
    await second.leader.start();
    await first.leader.stop();
    expect([first.leader.isActive, first.leader.isUncertain]).toEqual([false, false]);
    await expect.poll(() => second.leader.isActive, { timeout: TTL_MS / 2, interval: 20 }).toBe(true);

    const vanished = new Leadership({ redis: redis.producer, prefix: "{cme}", stream: "three", role: "monitor", ttlMs: TTL_MS });
    expect((await vanished.claim({ completeSince: performance.now() })).held).toBe(true);
    const third = create("three");
    await third.leader.start();
    expect(third.leader.isActive).toBe(false);
    await expect.poll(() => third.leader.isActive, { timeout: 4 * TTL_MS, interval: 20 }).toBe(true);
  });

  it("is another one while it cannot do the work", async () => {
    let isAble = true;
    const [first, second] = [create("seven", "monitor", () => isAble), create("seven")];
    await first.leader.start();
    await second.leader.start();
    isAble = false;
    await expect.poll(() => [first.leader.isActive, second.leader.isActive], { interval: 20 }).toEqual([false, true]);
    expect(first.health.report()).toMatchObject({ ready: true, components: { monitor: "standby: this process cannot do the work now" } });
    isAble = true;
    await second.leader.stop();
    await expect.poll(() => first.leader.isActive, { interval: 20 }).toBe(true);
  });

  it("is another one for each stream and role", async () => {
    const all = [create("four"), create("five"), create("four", "receiver")];
    for (const { leader } of all) await leader.start();
    expect(all.map(({ leader }) => leader.isActive)).toEqual([true, true, true]);
  });

  it("is nobody while Redis does not answer", async () => {
    const { leader } = create("six");
    const { leader: other } = create("six");
    await leader.start();
    await other.start();
    const uncertain = (): boolean[] => [leader.isUncertain, other.isUncertain];
    expect(uncertain()).toEqual([false, false]);
    await redis.producer.call("CLIENT", "PAUSE", String(4 * TTL_MS));
    await expect.poll(() => leader.isActive, { timeout: 2 * TTL_MS, interval: 20 }).toBe(false);
    expect(uncertain()).toEqual([true, false]);
    await expect.poll(() => leader.isActive !== other.isActive, { timeout: 8 * TTL_MS, interval: 20 }).toBe(true);
    await expect.poll(uncertain, { timeout: 2 * TTL_MS, interval: 20 }).toEqual([false, false]);
  });

  it("starts although Redis is away", async () => {
    const leadership = { claim: () => Promise.reject(new Error("away")), release: () => Promise.resolve() } as unknown as Leadership;
    const leader = new Leader({
      leadership,
      role: "monitor",
      health: new Health().component("monitor"),
      logger: createLogger("test", "silent"),
    });
    await leader.start();
    expect(leader.isActive).toBe(false);
    await leader.stop();
  });
});
