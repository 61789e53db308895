/** Jobs that another process has taken over and finished while this one was working on them. */
import { PermanentError } from "@celery-metrics-exporter/runtime";
import { taskStarted } from "@celery-metrics-exporter/celery/testing";
import { Queue } from "bullmq";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { encodeBatch, type Exporter } from "../../src/index.ts";
import { JOB_NAMES } from "../../src/queue/names.ts";
import { exporterOf, startHost, type RunningHost } from "../support/host.ts";
import { privateRedis } from "../support/redis.ts";

const PREFIX = "{cme}";
const redis = privateRedis();
let queue: Queue;
let host: RunningHost | undefined;

beforeEach(async () => {
  queue = new Queue("sink", { connection: redis.producer, prefix: PREFIX });
  await queue.waitUntilReady();
});
afterEach(async () => {
  await host?.stop();
  host = undefined;
  await queue.close();
  await redis.producer.flushall();
});

/** Removes the job, as the other process does. */
async function doneByAnother(): Promise<void> {
  for (const id of await redis.producer.lrange(queue.toKey("active"), 0, -1)) {
    await redis.producer.del(queue.toKey(id), `${queue.toKey(id)}:lock`);
    await redis.producer.lrem(queue.toKey("active"), 0, id);
  }
}

/** Gives the job's lock to another process, which works on it. */
async function takenByAnother(): Promise<void> {
  for (const id of await redis.producer.lrange(queue.toKey("active"), 0, -1)) {
    await redis.producer.set(`${queue.toKey(id)}:lock`, "another", "PX", 60_000);
  }
}

async function start(send: Exporter["export"]): Promise<RunningHost> {
  host = await startHost(
    exporterOf("sink", () => ({ export: send })),
    { REDIS_URL: redis.url, PROCESSOR_CONCURRENCY: "1" },
  );
  return host;
}

async function enqueue(uuid: string, name: string = JOB_NAMES.batch): Promise<void> {
  await queue.add(name, encodeBatch({ broker: "rabbitmq", events: [taskStarted({ uuid })] }));
}

describe("a job that another process has by now", () => {
  it.each([
    ["a suspect, done", JOB_NAMES.suspect, doneByAnother, undefined],
    ["a suspect, taken", JOB_NAMES.suspect, takenByAnother, undefined],
    ["a batch to be held, done", JOB_NAMES.batch, doneByAnother, new PermanentError("no")],
    ["a batch to be held, taken", JOB_NAMES.batch, takenByAnother, new PermanentError("no")],
  ])(
    "is let go of at once, and the next one runs: %s",
    async (_, name, lose, error) => {
      const exported: string[] = [];
      const running = await start(async ([event]) => {
        const uuid = event !== undefined && "uuid" in event ? event.uuid : "";
        exported.push(uuid);
        if (uuid !== "lost") return;
        await lose();
        if (error !== undefined) throw error;
      });
      await enqueue("lost", name);
      await vi.waitUntil(() => exported.includes("lost"), { timeout: 10_000 });
      await enqueue("next");
      await vi.waitUntil(() => exported.includes("next"), { timeout: 10_000 });
      expect(running.health.report().components["sink exporter: held batches"]).toBe("up");
    },
    40_000,
  );

  it("is not written to", async () => {
    let begun = 0;
    const running = await start(async () => {
      begun += 1;
      await takenByAnother();
      throw new PermanentError("no");
    });
    await enqueue("taken", JOB_NAMES.suspect);
    await vi.waitUntil(() => begun > 0, { timeout: 10_000 });
    const [id = ""] = await redis.producer.lrange(queue.toKey("active"), 0, -1);
    // What the other process has noted and stored.
    await redis.producer.hset(queue.toKey(id), { progress: '{"deaths":2}', data: '{"v":99}' });
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await running.stop();
    host = undefined;
    expect(await redis.producer.hmget(queue.toKey(id), "progress", "data")).toEqual(['{"deaths":2}', '{"v":99}']);
  }, 40_000);
});
