import { taskStarted } from "@celery-metrics-exporter/celery/testing";
import { Metrics, createLogger } from "@celery-metrics-exporter/runtime";
import { afterEach, expect, it } from "vitest";
import { BegunBatches, createSchedule } from "../../src/queue/scheduled-ids.ts";
import { DEAD_LETTER_QUEUE, DeadLetters, EXPORTERS, Fanout } from "../../src/index.ts";
import { openQueue } from "../../src/queue/bullmq.ts";
import { privateRedis } from "../support/redis.ts";

const redis = privateRedis();
const logger = createLogger("test", "silent");
const common = { prefix: "{cme}", logger, metrics: new Metrics() };
const closers: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  await redis.producer.flushall();
});

function openOurs(name: string) {
  const queue = openQueue(name, { ...common, redis: redis.producer });
  closers.push(() => queue.close());
  return queue;
}

/** Does what a restore does if it brings back an older state of the counter than of the jobs. */
async function setCountersBack(): Promise<void> {
  for (const queue of ["datadog", "postgres", "datadog-processing", DEAD_LETTER_QUEUE]) await redis.producer.set(`{cme}:${queue}:id`, "0");
}

it("loses no job when BullMQ's counter is set back: events, ids, and letters", async () => {
  const fanout = new Fanout({ ...common, redis: redis.producer, exporters: EXPORTERS, whenFull: "hold", highWaterEvents: 1_000_000 });
  closers.push(() => fanout.close());
  await fanout.start();
  const processing = openOurs("datadog-processing");
  const schedule = createSchedule(() => processing, new BegunBatches(redis.producer, openOurs("datadog")));
  const letters = new DeadLetters({ ...common, metrics: new Metrics(), redis: redis.producer, source: undefined });
  closers.push(() => letters.close());
  const letter = { source: "postgres", reason: "refused", detail: "", event: taskStarted() };
  for (let round = 0; round < 3; round++) {
    for (let index = 0; index < 3; index++) await fanout.enqueue({ broker: "redis", events: [taskStarted({ uuid: `${round}-${index}` })] });
    await schedule(["task-1"], { delayMs: 60_000 });
    await letters.add([letter, letter]);
    await setCountersBack();
  }
  const jobs = await openOurs("postgres").getJobs(["wait"]);
  expect(new Set(jobs.map(({ data }) => JSON.stringify(data))).size).toBe(9);
  expect(await openOurs("datadog").getWaitingCount()).toBe(9);
  expect(await processing.getDelayedCount()).toBe(3);
  expect(await openOurs(DEAD_LETTER_QUEUE).getWaitingCount()).toBe(6);
});

it("gives ids that BullMQ takes, and that no other key of the queue has", async () => {
  const queue = openOurs("postgres");
  await queue.addBulk(Array.from({ length: 1_000 }, () => ({ name: "batch", data: {} })));
  const ids = await redis.producer.lrange(queue.toKey("wait"), 0, -1);
  expect(new Set(ids).size).toBe(1_000);
  for (const id of ids) expect(id).toMatch(/^j[\w-]{12}$/);
});
