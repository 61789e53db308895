/** The settings of the host, the same for every exporter. */
import { integer } from "@celery-metrics-exporter/runtime";
import { z } from "zod";

export const HostConfig = z.object({
  PROCESSOR_CONCURRENCY: integer(4, 1, 1_000).describe("Batches that one process exports at the same time."),
  PROCESSOR_MAX_TRIES: integer(5, 1).describe(
    "How often a batch is tried after an error that is neither a refusal of the data nor an outage, before it is split to find the event at fault, and that event before it becomes a dead letter. Outages are waited out for ever.",
  ),
});
export type HostConfig = z.output<typeof HostConfig>;
