/** Killed processes: their batches are taken over, and a batch that kills every process is detected. */
import { taskStarted } from "@celery-metrics-exporter/celery/testing";
import { bundleProgram } from "@celery-metrics-exporter/testkit";
import { Queue, type Job } from "bullmq";
import { spawn, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { DEAD_LETTER_QUEUE, encodeBatch } from "../../src/index.ts";
import { JOB_NAMES } from "../../src/queue/names.ts";
import { privateRedis } from "../support/redis.ts";

const PROCESSOR = fileURLToPath(new URL("../fixtures/processor.mjs", import.meta.url));
const redis = privateRedis();
const scenes: Scene[] = [];
let processor = "";

beforeAll(async () => {
  processor = await bundleProgram(PROCESSOR);
});
afterAll(() => Promise.all(scenes.map((scene) => scene.close())));

type Mode = "hold" | "poison" | "poison-read" | "well";

/** A test's environment. It has its own keys, because most of the tests run concurrently. */
class Scene {
  readonly queue: Queue;
  readonly deadLetters: Queue;
  readonly #prefix = `{scene-${scenes.length}}`;
  readonly #children = new Set<ChildProcess>();

  constructor() {
    [this.queue, this.deadLetters] = [this.#open("sink"), this.#open(DEAD_LETTER_QUEUE)];
    scenes.push(this);
  }

  spawnProcessor(mode: Mode, env: Readonly<Record<string, string>> = {}): ChildProcess {
    const child = spawn(process.execPath, [processor], {
      env: { REDIS_URL: redis.url, QUEUE_PREFIX: this.#prefix, LOG_LEVEL: "silent", FIXTURE_MODE: mode, ...env },
      stdio: ["ignore", "ignore", "inherit"],
    });
    this.#children.add(child);
    child.once("exit", () => this.#children.delete(child));
    return child;
  }

  async enqueue(ids: readonly string[], name: string = JOB_NAMES.batch): Promise<Job> {
    return this.queue.add(name, encodeBatch({ broker: "rabbitmq", events: ids.map((uuid) => taskStarted({ uuid })) }));
  }

  /** The ids of each batch that a processor began to export. */
  begun(): Promise<string[]> {
    return redis.producer.lrange(`${this.#prefix}:begun`, 0, -1);
  }

  async exported(): Promise<string[]> {
    return (await redis.producer.smembers(`${this.#prefix}:exported`)).toSorted();
  }

  async isEmpty(): Promise<boolean> {
    return Object.values(await this.queue.getJobCounts()).every((count) => count === 0);
  }

  async untilDeadLetters(count = 1): Promise<void> {
    await vi.waitUntil(async () => (await this.deadLetters.getWaitingCount()) >= count, { timeout: 200_000, interval: 100 });
  }

  /** Changes BullMQ's keys as if 13 seconds had passed, so that the test need not wait after each kill. */
  async letLocksExpire(): Promise<void> {
    const active = await redis.producer.lrange(this.queue.toKey("active"), 0, -1);
    if (active.length > 0) {
      await redis.producer.del(...active.map((id) => `${this.queue.toKey(id)}:lock`));
      await redis.producer.sadd(this.queue.toKey("stalled"), ...active);
    }
    await redis.producer.del(this.queue.toKey("stalled-check"));
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill("SIGKILL");
    await Promise.all([...this.#children].map(ended));
    await Promise.all([this.queue.close(), this.deadLetters.close()]);
  }

  #open(name: string): Queue {
    const queue = new Queue(name, { connection: redis.producer, prefix: this.#prefix });
    queue.on("error", () => {});
    return queue;
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once("exit", resolve));
}

describe("a killed process", () => {
  it("is taken over within 15 seconds: the same batch runs again", async () => {
    const scene = new Scene();
    const victim = scene.spawnProcessor("hold");
    await scene.enqueue(["a", "b", "c"]);
    await vi.waitUntil(async () => (await scene.begun()).length === 1, { timeout: 60_000 });
    scene.spawnProcessor("well");
    // Long enough for the lock to have just been renewed, which is the worst case.
    await new Promise((resolve) => setTimeout(resolve, 4_500));
    victim.kill("SIGKILL");
    const killedAt = Date.now();
    await vi.waitUntil(async () => (await scene.exported()).length === 3, { timeout: 30_000, interval: 50 });
    const seconds = (Date.now() - killedAt) / 1_000;
    console.info(`taken over after ${seconds.toFixed(1)} s`);
    expect(seconds).toBeLessThan(15);
    expect(await scene.begun()).toEqual(["a,b,c", "a,b,c"]);
    await vi.waitUntil(() => scene.isEmpty(), { timeout: 20_000 });
  }, 120_000);

  it("exits with 0 when it is stopped gracefully instead", async () => {
    const scene = new Scene();
    const child = scene.spawnProcessor("well");
    await scene.enqueue(["a"]);
    await vi.waitUntil(async () => (await scene.exported()).length === 1, { timeout: 60_000 });
    child.kill("SIGTERM");
    await ended(child);
    expect(child.exitCode).toBe(0);
  }, 120_000);
});

describe.concurrent("a batch that kills its process", () => {
  it.each([
    ["in the middle of its batch", ["a", "b", "c", "poison", "d"], ["e", "f", "g", "h"]],
    ["first in its batch", ["poison", "b", "c", "d", "e", "f", "g", "h"], ["a"]],
  ])(
    "is split and run alone, until the event at fault is a dead letter; all others are exported: %s",
    async (_, batch, single) => {
      const scene = new Scene();
      await scene.enqueue(batch);
      for (const id of single) await scene.enqueue([id]);
      for (let kills = 0; (await scene.deadLetters.getWaitingCount()) === 0 && kills < 30; kills++) {
        const child = scene.spawnProcessor("poison");
        await Promise.race([ended(child), scene.untilDeadLetters()]);
        if (child.signalCode !== null) await scene.letLocksExpire();
      }
      await vi.waitUntil(async () => (await scene.exported()).length === 8, { timeout: 60_000 });
      expect(await scene.exported()).toEqual(["a", "b", "c", "d", "e", "f", "g", "h"].filter((id) => [...batch, ...single].includes(id)));
      const letters = await scene.deadLetters.getJobs(["wait"]);
      expect(letters.map(({ name, data }) => [name, data.event.uuid])).toEqual([["crash", "poison"]]);
      const withPoison = (await scene.begun()).filter((ids) => ids.includes("poison"));
      expect(withPoison.slice(0, 3)).toEqual(Array<string>(3).fill(batch.join(",")));
      expect(withPoison.filter((ids) => ids === "poison")).toHaveLength(3);
      await vi.waitUntil(() => scene.isEmpty(), { timeout: 20_000 });
    },
    240_000,
  );
});

describe.concurrent("an event that kills its process", () => {
  it.each([
    ["long after its try began, while others run", "poison", { FIXTURE_DELAY_MS: "5000" }, "crash: poison", 7],
    ["when its batch is read", "poison-read", {}, "crash: unread", 9],
  ] as const)(
    "%s, is found after a few deaths, and no other is buried",
    async (...[, mode, env, expected, mostKills]) => {
      const scene = new Scene();
      const letters = async (): Promise<string[]> =>
        (await scene.deadLetters.getJobs(["wait"])).map(({ name, data }) => `${name}: ${data.event?.uuid ?? "unread"}`);
      for (const uuid of ["e", "poison", "f", "g"]) await scene.enqueue([uuid], JOB_NAMES.suspect);
      let kills = 0;
      for (; (await letters()).length === 0 && kills <= mostKills; kills++) {
        // Other events, all the time.
        await scene.enqueue([`n${kills}`]);
        const child = scene.spawnProcessor(mode, env);
        await Promise.race([ended(child), scene.untilDeadLetters()]);
        if (child.signalCode !== null) await scene.letLocksExpire();
      }
      await vi.waitUntil(() => scene.isEmpty(), { timeout: 60_000 });
      expect(await letters()).toEqual([expected]);
      expect(kills).toBeLessThanOrEqual(mostKills);
      const others = Array.from({ length: kills }, (_unused, index) => `n${index}`);
      expect(await scene.exported()).toEqual(["e", "f", "g", ...others].toSorted());
    },
    300_000,
  );

  it("when its batch is read, not yet suspected", async () => {
    const scene = new Scene();
    await scene.enqueue(["a", "poison"]);
    for (let kills = 0; (await scene.deadLetters.getWaitingCount()) === 0 && kills < 10; kills++) {
      const child = scene.spawnProcessor("poison-read");
      await Promise.race([ended(child), scene.untilDeadLetters()]);
      if (child.signalCode !== null) await scene.letLocksExpire();
    }
    const [letter] = await scene.deadLetters.getJobs(["wait"]);
    expect(letter?.data).toMatchObject({
      source: "sink",
      reason: "crash",
      payload: { texts: expect.arrayContaining(["a", "poison"]) as unknown },
    });
    await vi.waitUntil(() => scene.isEmpty(), { timeout: 20_000 });
  }, 120_000);
});

describe.concurrent("a suspect that hangs", () => {
  it("is not blamed when its process exits after a signal", async () => {
    const scene = new Scene();
    const { id = "" } = await scene.enqueue(["e"], JOB_NAMES.suspect);
    const key = scene.queue.toKey(id);
    const progress = async (): Promise<string> => String(await redis.producer.hget(key, "progress"));
    await redis.producer.hset(key, { progress: '{"deaths":2,"unproven":3}' });
    const child = scene.spawnProcessor("hold", { SHUTDOWN_TIMEOUT_SECONDS: "2" });
    await vi.waitUntil(async () => (await scene.begun()).length === 1, { timeout: 60_000 });
    expect(await progress()).toContain('"running":"alone"');
    child.kill("SIGTERM");
    await ended(child);
    expect(await progress()).toBe('{"deaths":2,"unproven":3}');
  }, 120_000);
});

describe.concurrent("a suspect that waits for its turn", () => {
  it.each([
    ["e poison f poison-2 g h", "8"],
    ["poison e f g h poison-2", "1"],
  ])(
    "is not blamed for what ran alone when the process died: %s, %s at a time",
    async (order, concurrency) => {
      const scene = new Scene();
      const letters = async (): Promise<string[]> => (await scene.deadLetters.getJobs(["wait"])).map(({ data }) => data.event.uuid);
      for (const uuid of order.split(" ")) await scene.enqueue([uuid], JOB_NAMES.suspect);
      for (let kills = 0; (await letters()).length < 2 && kills < 12; kills++) {
        const child = scene.spawnProcessor("poison", { PROCESSOR_CONCURRENCY: concurrency });
        await Promise.race([ended(child), scene.untilDeadLetters(2)]);
        if (child.signalCode !== null) await scene.letLocksExpire();
      }
      await vi.waitUntil(async () => (await scene.exported()).length === 4, { timeout: 60_000 });
      expect((await letters()).toSorted()).toEqual(["poison", "poison-2"]);
    },
    240_000,
  );
});
