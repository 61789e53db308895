import { Health, Lifecycle, connectRedis, createLogger, mastersOf } from "@celery-metrics-exporter/runtime";
import { startRedisCluster } from "@celery-metrics-exporter/testkit";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { receiverClock } from "../src/clocks.ts";
import { RedisClock, timeOf } from "../src/redis-clock.ts";

const DAY = 86_400;
const OURS = 1_795_000_000;

describe("the receiver's clock", () => {
  let warnings: string[];
  const logger = pino({ level: "warn" }, { write: (line: string) => void warnings.push((JSON.parse(line) as { msg: string }).msg) });
  beforeEach(() => {
    warnings = [];
    vi.useFakeTimers({ now: OURS * 1_000 });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  async function clockOf(time: () => Promise<[number, number]>): Promise<() => number> {
    const redis = new RedisClock(time, logger);
    await redis.sync();
    return receiverClock(redis, logger);
  }
  const clockBeside = (redisSeconds: number) => clockOf(() => Promise.resolve([redisSeconds, 0]));

  it("is this machine's if Redis' is behind, and follows it", async () => {
    const clock = await clockBeside(OURS - 9 * DAY);
    expect(clock()).toBe(OURS);
    vi.setSystemTime((OURS + 5) * 1_000);
    expect(clock()).toBe(OURS + 5);
    expect(warnings).toEqual([]);
  });

  it("is Redis' if this machine is behind, with a warning, until this machine's is set", async () => {
    const clock = await clockBeside(OURS + 9 * DAY);
    expect(clock()).toBeCloseTo(OURS + 9 * DAY, 1);
    vi.advanceTimersByTime(60_000);
    expect(clock()).toBeCloseTo(OURS + 9 * DAY + 60, 1);
    vi.setSystemTime((OURS + 10 * DAY) * 1_000);
    expect(clock()).toBe(OURS + 10 * DAY);
    expect(warnings).toEqual([expect.stringContaining("behind the clock of Redis")]);
  });

  it("continues if this machine's is set back", async () => {
    const clock = await clockBeside(OURS);
    vi.setSystemTime((OURS - 30 * DAY) * 1_000);
    vi.advanceTimersByTime(10_000);
    expect(clock()).toBeCloseTo(OURS + 10, 1);
  });

  it("is this machine's if Redis does not report its time", async () => {
    const clock = await clockOf(() => Promise.reject(new Error("NOPERM")));
    expect(clock()).toBe(OURS);
    expect(warnings).toEqual([]);
  });
});

const late = (ms: number) => () => new Promise<[number, number]>((resolve) => setTimeout(() => resolve([OURS + 200, 0]), ms));

describe("the clock of Redis", () => {
  const logger = pino({ level: "silent" });
  let answer: () => Promise<[number, number]>;
  let clock: RedisClock;
  beforeEach(() => {
    vi.useFakeTimers({ now: OURS * 1_000 });
    answer = () => Promise.resolve([OURS + 100, 500_000]);
    clock = new RedisClock(() => answer(), logger);
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("is this machine's until Redis has told its own", async () => {
    expect(clock.now()).toBe(OURS);
    expect(await clock.sync(), "that is a step").toBe(true);
    expect(clock.now()).toBeCloseTo(OURS + 100.5, 3);
  });

  it("goes on while Redis is away and whatever this machine's clock is set to", async () => {
    await clock.sync();
    answer = () => Promise.reject(new Error("away"));
    vi.advanceTimersByTime(10_000);
    vi.setSystemTime(0);
    expect(await clock.sync()).toBe(false);
    expect(clock.now()).toBeCloseTo(OURS + 110.5, 3);
  });

  it("is read halfway between question and answer, and not from an answer that comes late", async () => {
    await clock.sync();
    for (const [ms, expected] of [
      [1_100, OURS + 101.6],
      [900, OURS + 200.45],
    ] as const) {
      answer = late(ms);
      const syncing = clock.sync();
      await vi.advanceTimersByTimeAsync(ms);
      await syncing;
      expect(clock.now()).toBeCloseTo(expected, 3);
    }
  });

  it.each([
    [4, false],
    [6, true],
    [-6, true],
  ])("says whether it made a step: by %s s, %s", async (seconds, isStep) => {
    await clock.sync();
    answer = () => Promise.resolve([OURS + 100 + seconds, 500_000]);
    expect(await clock.sync()).toBe(isStep);
    expect(await clock.sync()).toBe(false);
  });
});

it("asks the same node of a cluster each time, because each has a clock of its own", async () => {
  const servers = await startRedisCluster();
  const logger = createLogger("test", "silent");
  const lifecycle = new Lifecycle(logger);
  try {
    const options = { use: "producer", name: "Redis", startupTimeoutMs: 15_000, logger, lifecycle, health: new Health() } as const;
    const cluster = await connectRedis({ url: servers.url, ...options });
    const time = timeOf(cluster, "{cme}:receiver:clock");
    for (let index = 0; index < 30; index += 1) expect(Number((await time())[0])).toBeCloseTo(Date.now() / 1_000, -2);
    const asked = await Promise.all(mastersOf(cluster).map((node) => node.info("commandstats")));
    expect(asked.filter((text) => text.includes("cmdstat_time:"))).toHaveLength(1);
  } finally {
    await lifecycle.close();
    await servers.stop();
  }
});
