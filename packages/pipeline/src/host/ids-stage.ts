/** The second stage: passes the ids of one `schedule` call to `process` after their delay. */
import { type BegunBatches, begunBefore, decodeIds, encodeIds, type IdsPayload } from "../queue/scheduled-ids.ts";
import { Deliverer } from "../deliver/deliver.ts";
import type { Exporter } from "../contract/exporter.ts";
import type { Host } from "./host.ts";
import { halves } from "../deliver/evidence.ts";
import { processingQueueName } from "../queue/names.ts";
import { withRedis, type RedisReturn } from "../queue/redis-errors.ts";
import type { Stage, StageJob } from "./stage.ts";

/** What a job may have to wait for: see `idsStage`. */
interface WaitedFor {
  readonly batches: BegunBatches;
  readonly redisReturn: RedisReturn;
}

/**
 * Jobs of this stage may have to wait, for two reasons. Batches that were begun before the ids were scheduled may contain events of the
 * same tasks; they are done long before the delay is over, except batches of a process that died. And a job that is taken over after an
 * outage of Redis may have been done by a process that is still running and only has to note it.
 */
export function idsStage(host: Host, process: NonNullable<Exporter["process"]>, waitedFor: WaitedFor): Stage<readonly string[]> {
  const { name, deadLetters, metrics, rules } = host;
  const { batches, redisReturn } = waitedFor;
  const bury = (ids: readonly string[], reason: string, detail: string): Promise<void> =>
    deadLetters.add(ids.map((raw) => ({ source: name, reason, detail, raw, readAs: "id to process" })));
  const processes = new Deliverer<string, StageJob>(
    {
      send: (part, signal, { id }) => metrics.time("process", () => process(part, signal, { id })),
      bury: (id, { reason, error }) => bury([id], reason, error.message),
      kindOf: () => "id to process",
    },
    rules,
  );
  return {
    queueName: processingQueueName(name),
    decode: decodeIds,
    size: (ids) => ids.length,
    split: (ids) => halves(ids).map((half) => encodeIds(half)),
    mustWait: async (job) => {
      const waits =
        redisReturn.isRecent || (await withRedis("looking for batches under way", () => batches.areUnfinished(begunBefore(job.payload))));
      if (waits) processes.putOff(job);
      return waits;
    },
    run: async (ids, job) => {
      const held = await processes.deliver(ids, job, job);
      return (
        held && { ...held, tookSome: held.items.length < ids.length, rest: () => ({ ...(job.payload as IdsPayload), ids: held.items }) }
      );
    },
    bury,
  };
}
