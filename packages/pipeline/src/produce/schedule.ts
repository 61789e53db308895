/** Puts ids on an exporter's processing queue. */
import type { Queue } from "bullmq";
import type { ProcessingJob, Schedule } from "../contract/exporter.ts";
import type { BegunBatches } from "../hold/begun-batches.ts";
import { encodeIds } from "../queue/ids-batch.ts";
import { JOB_NAMES } from "../queue/names.ts";
import { withRedis } from "../queue/redis-errors.ts";

/**
 * Creates the `schedule` function of an exporter. It rejects with `UnavailableError` if Redis is unavailable.
 *
 * @param openProcessingQueue called on first use, so that an exporter without a second stage has no such queue.
 * @param batches the batches of the first stage. Jobs wait for those that are begun now.
 */
export function createSchedule(openProcessingQueue: () => Queue, batches: BegunBatches): Schedule {
  return async (ids, { delayMs, putOffBy }) => {
    if (ids.length === 0) return;
    await withRedis("scheduling", async () => {
      const queue = openProcessingQueue();
      const payload = encodeIds(ids, await batches.ids());
      const now = Date.now();
      const since = putOffBy === undefined ? now : Math.min(now, (await createdAt(queue, putOffBy)) ?? now);
      // BullMQ counts the delay from the timestamp.
      await queue.add(JOB_NAMES.ids, payload, { timestamp: since, delay: now - since + delayMs });
    });
  };
}

/** Undefined if the job is gone, because it was taken over and finished. */
async function createdAt(queue: Queue, { id }: ProcessingJob): Promise<number | undefined> {
  const timestamp = await (await queue.getBackend().client).hget(queue.toKey(id), "timestamp");
  return timestamp === null ? undefined : Number(timestamp);
}
