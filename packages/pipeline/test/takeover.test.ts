/** Processes that are killed: their batches are taken over, and one that kills whoever takes it is found out. */
import { taskStarted } from "@celery-metrics-exporter/events/testing";
import { Queue } from "bullmq";
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { DEAD_LETTER_QUEUE, encodeBatch } from "../src/index.ts";
import { JOB_NAMES } from "../src/job-names.ts";
import { privateRedis } from "./support/redis.ts";

const PREFIX = "{cme}";
const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const PROCESSOR = fileURLToPath(new URL("./fixtures/processor.mjs", import.meta.url));
const redis = privateRedis();
const children = new Set<ChildProcess>();
const queues: Queue[] = [];

// The children run what is built.
beforeAll(() => void execFileSync("../../node_modules/.bin/tsc", ["-b"], { cwd: PACKAGE }));
afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  await Promise.all([...children].map(ended));
  await Promise.all(queues.splice(0).map((queue) => queue.close()));
  await redis.producer.flushall();
});

function spawnProcessor(mode: "hold" | "poison" | "poison-read" | "well", env: Readonly<Record<string, string>> = {}): ChildProcess {
  const child = spawn(process.execPath, [PROCESSOR], {
    cwd: PACKAGE,
    env: { REDIS_URL: redis.url, LOG_LEVEL: "silent", FIXTURE_MODE: mode, ...env },
    stdio: ["ignore", "ignore", "inherit"],
  });
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once("exit", resolve));
}

function open(name: string): Queue {
  const queue = new Queue(name, { connection: redis.producer, prefix: PREFIX });
  queue.on("error", () => {});
  queues.push(queue);
  return queue;
}

async function enqueue(queue: Queue, ids: readonly string[]): Promise<void> {
  await queue.add("batch", encodeBatch({ broker: "rabbitmq", events: ids.map((uuid) => taskStarted({ uuid })) }));
}

const begun = (): Promise<string[]> => redis.producer.lrange("begun", 0, -1);
const exported = async (): Promise<string[]> => (await redis.producer.smembers("exported")).toSorted();

describe("a killed process", () => {
  it("is taken over within 15 seconds: the same batch runs again", async () => {
    const queue = open("sink");
    const victim = spawnProcessor("hold");
    await enqueue(queue, ["a", "b", "c"]);
    await vi.waitUntil(async () => (await begun()).length === 1, { timeout: 20_000 });
    spawnProcessor("well");
    // Long enough for the lock to have been renewed: it is as fresh as it gets.
    await new Promise((resolve) => setTimeout(resolve, 4_500));
    victim.kill("SIGKILL");
    const killedAt = Date.now();
    await vi.waitUntil(async () => (await exported()).length === 3, { timeout: 30_000, interval: 50 });
    const seconds = (Date.now() - killedAt) / 1_000;
    console.info(`taken over after ${seconds.toFixed(1)} s`);
    expect(seconds).toBeLessThan(15);
    expect(await begun()).toEqual(["a,b,c", "a,b,c"]);
    await vi.waitUntil(async () => Object.values(await queue.getJobCounts()).every((count) => count === 0), { timeout: 5_000 });
  }, 60_000);

  it("exits with 0 when it is ended in good order instead", async () => {
    const queue = open("sink");
    const child = spawnProcessor("well");
    await enqueue(queue, ["a"]);
    await vi.waitUntil(async () => (await exported()).length === 1, { timeout: 20_000 });
    child.kill("SIGTERM");
    await ended(child);
    expect(child.exitCode).toBe(0);
  }, 60_000);
});

describe("a batch that kills its process", () => {
  it.each([
    ["in the middle of its batch", ["a", "b", "c", "poison", "d"], ["e", "f", "g", "h"]],
    ["first in its batch", ["poison", "b", "c", "d", "e", "f", "g", "h"], ["a"]],
  ])(
    "is split and run alone, until the event at fault is a dead letter; all others are exported: %s",
    async (_, batch, single) => {
      const queue = open("sink");
      const deadLetters = open(DEAD_LETTER_QUEUE);
      await enqueue(queue, batch);
      for (const id of single) await enqueue(queue, [id]);
      for (let kills = 0; (await deadLetters.getWaitingCount()) === 0 && kills < 30; kills++) {
        const child = spawnProcessor("poison");
        await Promise.race([ended(child), untilDeadLetter(deadLetters)]);
        if (child.signalCode !== null) await letLocksExpire(queue);
      }
      await vi.waitUntil(async () => (await exported()).length === 8, { timeout: 20_000 });
      expect(await exported()).toEqual(["a", "b", "c", "d", "e", "f", "g", "h"].filter((id) => [...batch, ...single].includes(id)));
      const letters = await deadLetters.getJobs(["wait"]);
      expect(letters.map(({ name, data }) => [name, data.event.uuid])).toEqual([["crash", "poison"]]);
      const withPoison = (await begun()).filter((ids) => ids.includes("poison"));
      expect(withPoison.slice(0, 3)).toEqual(Array<string>(3).fill(batch.join(",")));
      expect(withPoison.filter((ids) => ids === "poison")).toHaveLength(3);
      await vi.waitUntil(async () => Object.values(await queue.getJobCounts()).every((count) => count === 0), { timeout: 5_000 });
    },
    120_000,
  );
});

describe("an event that kills its process", () => {
  it.each([
    ["long after its try began, while others run", "poison", { FIXTURE_DELAY_MS: "5000" }, "crash: poison", 7],
    ["when its batch is read", "poison-read", {}, "crash: unread", 9],
  ] as const)(
    "%s, is found after a few deaths, and no other is buried",
    async (...[, mode, env, expected, mostKills]) => {
      const queue = open("sink");
      const deadLetters = open(DEAD_LETTER_QUEUE);
      const letters = async (): Promise<string[]> =>
        (await deadLetters.getJobs(["wait"])).map(({ name, data }) => `${name}: ${data.event?.uuid ?? "unread"}`);
      for (const uuid of ["e", "poison", "f", "g"]) {
        await queue.add(JOB_NAMES.suspect, encodeBatch({ broker: "rabbitmq", events: [taskStarted({ uuid })] }));
      }
      let kills = 0;
      for (; (await letters()).length === 0 && kills <= mostKills; kills++) {
        // Others, all the time.
        await enqueue(queue, [`n${kills}`]);
        const child = spawnProcessor(mode, env);
        await Promise.race([ended(child), vi.waitUntil(async () => (await letters()).length > 0, { timeout: 60_000 })]);
        if (child.signalCode !== null) await letLocksExpire(queue);
      }
      await vi.waitUntil(async () => Object.values(await queue.getJobCounts()).every((count) => count === 0), { timeout: 20_000 });
      expect(await letters()).toEqual([expected]);
      expect(kills).toBeLessThanOrEqual(mostKills);
      const others = Array.from({ length: kills }, (_unused, index) => `n${index}`);
      expect(await exported()).toEqual(["e", "f", "g", ...others].toSorted());
    },
    180_000,
  );

  it("when its batch is read, not yet suspected", async () => {
    const queue = open("sink");
    const deadLetters = open(DEAD_LETTER_QUEUE);
    await enqueue(queue, ["a", "poison"]);
    for (let kills = 0; (await deadLetters.getWaitingCount()) === 0 && kills < 10; kills++) {
      const child = spawnProcessor("poison-read");
      await Promise.race([ended(child), untilDeadLetter(deadLetters)]);
      if (child.signalCode !== null) await letLocksExpire(queue);
    }
    const [letter] = await deadLetters.getJobs(["wait"]);
    expect(letter?.data).toMatchObject({
      source: "sink",
      reason: "crash",
      payload: { texts: expect.arrayContaining(["a", "poison"]) as unknown },
    });
    await vi.waitUntil(async () => Object.values(await queue.getJobCounts()).every((count) => count === 0), { timeout: 5_000 });
  }, 120_000);
});

describe("a suspect that hangs", () => {
  it("is not blamed for the end of a process that is told to end", async () => {
    const queue = open("sink");
    const job = await queue.add(JOB_NAMES.suspect, encodeBatch({ broker: "rabbitmq", events: [taskStarted({ uuid: "e" })] }));
    const progress = async (): Promise<string> => String(await redis.producer.hget(queue.toKey(job.id ?? ""), "progress"));
    await redis.producer.hset(queue.toKey(job.id ?? ""), { progress: '{"deaths":2,"unproven":3}' });
    const child = spawnProcessor("hold", { SHUTDOWN_TIMEOUT_SECONDS: "2" });
    await vi.waitUntil(async () => (await begun()).length === 1, { timeout: 20_000 });
    expect(await progress()).toContain('"running":"alone"');
    child.kill("SIGTERM");
    await ended(child);
    expect(await progress()).toBe('{"deaths":2,"unproven":3}');
  }, 60_000);
});

describe("a suspect that waits for its turn", () => {
  it.each([
    ["e poison f poison-2 g h", "8"],
    ["poison e f g h poison-2", "1"],
  ])(
    "is not blamed for what ran alone when the process died: %s, %s at a time",
    async (order, concurrency) => {
      const queue = open("sink");
      const deadLetters = open(DEAD_LETTER_QUEUE);
      const letters = async (): Promise<string[]> => (await deadLetters.getJobs(["wait"])).map(({ data }) => data.event.uuid);
      for (const uuid of order.split(" ")) {
        await queue.add(JOB_NAMES.suspect, encodeBatch({ broker: "rabbitmq", events: [taskStarted({ uuid })] }));
      }
      for (let kills = 0; (await letters()).length < 2 && kills < 12; kills++) {
        const child = spawnProcessor("poison", { PROCESSOR_CONCURRENCY: concurrency });
        await Promise.race([ended(child), vi.waitUntil(async () => (await letters()).length >= 2, { timeout: 20_000 })]);
        if (child.signalCode !== null) await letLocksExpire(queue);
      }
      await vi.waitUntil(async () => (await exported()).length === 4, { timeout: 20_000 });
      expect((await letters()).toSorted()).toEqual(["poison", "poison-2"]);
    },
    60_000,
  );
});

async function untilDeadLetter(deadLetters: Queue): Promise<void> {
  await vi.waitUntil(async () => (await deadLetters.getWaitingCount()) > 0, { timeout: 100_000, interval: 100 });
}

/** Does to BullMQ's keys what the passing of 13 seconds does, so that the test need not wait for each kill. */
async function letLocksExpire(queue: Queue): Promise<void> {
  const active = await redis.producer.lrange(queue.toKey("active"), 0, -1);
  if (active.length > 0) {
    await redis.producer.del(...active.map((id) => `${queue.toKey(id)}:lock`));
    await redis.producer.sadd(queue.toKey("stalled"), ...active);
  }
  await redis.producer.del(queue.toKey("stalled-check"));
}
