/** Puts ids on an exporter's processing queue. */
import type { Queue } from "bullmq";
import type { Schedule } from "./exporter.ts";
import type { BegunBatches } from "./begun-batches.ts";
import { encodeIds } from "./ids-batch.ts";
import { JOB_NAMES } from "./job-names.ts";
import { withRedis } from "./redis-errors.ts";

/**
 * Makes the `schedule` of an exporter. It rejects with `UnavailableError` when Redis does not serve.
 *
 * @param openProcessingQueue called at the first use, so that an exporter without a second stage has no such queue.
 * @param batches of the first stage: those that are begun now are waited for.
 */
export function createSchedule(openProcessingQueue: () => Queue, batches: BegunBatches): Schedule {
  return async (ids, { delayMs }) => {
    if (ids.length === 0) return;
    await withRedis("scheduling", async () => {
      await openProcessingQueue().add(JOB_NAMES.ids, encodeIds(ids, await batches.ids()), { delay: delayMs });
    });
  };
}
