import { taskFailed } from "@celery-metrics-exporter/celery/testing";
import { TcpProxy } from "@celery-metrics-exporter/testkit";
import { Metrics, UnavailableError, createLogger } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { DEAD_LETTER_QUEUE, DeadLetters, MAX_DEAD_LETTERS, type DeadLetter } from "../../src/index.ts";
import { privateRedis } from "../support/redis.ts";

const redis = privateRedis();
const prefix = "{cme}";
let metrics: Metrics;
let letters: DeadLetters;
let queue: Queue;

beforeEach(async () => {
  metrics = new Metrics();
  letters = new DeadLetters({ redis: redis.producer, prefix, logger: createLogger("test", "silent"), metrics, source: undefined });
  await letters.start();
  queue = new Queue(DEAD_LETTER_QUEUE, { connection: redis.producer, prefix });
  queue.on("error", () => {});
  // A queue whose first command fails never works again.
  await queue.waitUntilReady();
});
afterEach(async () => {
  await letters.close();
  await queue.close();
  await redis.producer.flushall();
});

const numbered = (from: number, count: number): DeadLetter[] =>
  Array.from({ length: count }, (_, index) => ({ source: "receiver", reason: "body", detail: String(from + index) }));

describe("the dead-letter queue", () => {
  it("keeps source, reason, detail and event, in a job named by the reason", async () => {
    const letter = { source: "postgres", reason: "refused", detail: "invalid byte sequence", event: taskFailed() };
    await letters.add([letter, { source: "receiver", reason: "pickle", detail: "never loaded", raw: "gASV" }]);
    const jobs = await queue.getJobs(["wait"], 0, -1, true);
    expect(jobs.map(({ name }) => name)).toEqual(["refused", "pickle"]);
    expect(jobs[0]?.data).toEqual(letter);
  });

  it("keeps an event of 30,000 characters whole", async () => {
    const letter = { source: "postgres", reason: "refused", detail: "", event: taskFailed({ traceback: "x".repeat(30_000) }) };
    await letters.add([letter]);
    const [job] = await queue.getJobs(["wait"], 0, -1);
    expect(job?.data).toEqual(letter);
  });

  it("cuts what is longer, and says so", async () => {
    const long = "x".repeat(1_000_000);
    await letters.add([{ source: "postgres", reason: "refused", detail: long, raw: long, event: taskFailed({ traceback: long }) }]);
    const [job] = await queue.getJobs(["wait"], 0, -1);
    expect(JSON.stringify(job?.data).length).toBeLessThan(12_000);
    expect(job?.data.raw).toContain("(1000000 characters)");
    expect(job?.data.cut).toBe(true);
  });

  it("never holds more than 10,000, and drops the oldest", async () => {
    for (let from = 0; from < MAX_DEAD_LETTERS + 1_000; from += 1_000) await letters.add(numbered(from, 1_000));
    await letters.add(numbered(MAX_DEAD_LETTERS + 1_000, 2));
    await letters.add(numbered(MAX_DEAD_LETTERS + 1_002, 1));
    expect(await queue.getWaitingCount()).toBe(10_000);
    const [oldest] = await queue.getJobs(["wait"], 0, 0, true);
    const [newest] = await queue.getJobs(["wait"], 0, 0, false);
    expect([oldest?.data.detail, newest?.data.detail]).toEqual(["1003", "11002"]);
    const keys = await redis.producer.keys(`${prefix}:${DEAD_LETTER_QUEUE}:*`);
    expect(keys.filter((key) => /:j[\w-]{12}$/.test(key))).toHaveLength(10_000);
  });

  it("stores a huge call in parts: never far above the bound, only the last letters, and counts all", async () => {
    await letters.add(numbered(0, MAX_DEAD_LETTERS));
    let most = 0;
    const done = new AbortController();
    const adding = letters.add(numbered(MAX_DEAD_LETTERS, 2 * MAX_DEAD_LETTERS + 1)).finally(() => done.abort());
    while (!done.signal.aborted) most = Math.max(most, await queue.getWaitingCount());
    await adding;
    expect(most).toBeLessThanOrEqual(MAX_DEAD_LETTERS + 500);
    expect(await queue.getWaitingCount()).toBe(MAX_DEAD_LETTERS);
    const [oldest] = await queue.getJobs(["wait"], 0, 0, true);
    const [newest] = await queue.getJobs(["wait"], 0, 0, false);
    expect([oldest?.data.detail, newest?.data.detail]).toEqual(["20001", "30000"]);
    // Redis counts everything that was ever added.
    expect(await redis.producer.get(`${prefix}:${DEAD_LETTER_QUEUE}:id`)).toBe(String(2 * MAX_DEAD_LETTERS));
    const counter = await metrics.registry.getSingleMetric("celery_metrics_exporter_dead_letters_total")?.get();
    expect(counter?.values.map(({ value }) => value)).toEqual([3 * MAX_DEAD_LETTERS + 1]);
  });

  it("adds nothing if there are no letters", async () => {
    await letters.add([]);
    expect(await queue.getWaitingCount()).toBe(0);
  });

  it("does not start if Redis becomes unavailable while the queue is opened: BullMQ never recovers from that", async () => {
    const proxy = await TcpProxy.start(Number(new URL(redis.url).port));
    const cut = new Redis(proxy.inFrontOf(redis.url), { maxRetriesPerRequest: 1, enableOfflineQueue: false, lazyConnect: true });
    cut.on("error", () => {});
    await cut.connect();
    proxy.muteClients();
    const unlucky = new DeadLetters({ redis: cut, prefix, logger: createLogger("test", "silent"), metrics, source: undefined });
    const starting = unlucky.start();
    await Promise.all([expect(starting).rejects.toBeInstanceOf(UnavailableError), proxy.stop()]);
    await unlucky.close();
    cut.disconnect();
  });

  it("rejects while Redis is away: the caller keeps what it has", async () => {
    await redis.server.kill();
    await vi.waitUntil(() => redis.producer.status !== "ready", { timeout: 5_000 });
    await expect(letters.add(numbered(0, 1))).rejects.toBeInstanceOf(UnavailableError);
    await redis.server.restart();
    await vi.waitUntil(() => redis.producer.status === "ready", { timeout: 10_000 });
    await letters.add(numbered(0, 1));
    expect(await queue.getWaitingCount()).toBe(1);
  });
});
