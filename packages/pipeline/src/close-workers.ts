/** Ends the workers of a host, with or without Redis. */
import { pause, type Logger } from "@celery-metrics-exporter/runtime";
import type { Redis } from "ioredis";
import type { StageWorker } from "./stage-worker.ts";

/** How long a drain waits for a Redis that is away. */
const REDIS_PATIENCE_MS = 2_000;
const REDIS_POLL_MS = 200;

/** Whatever its payloads decode to. */
export type AnyStageWorker = Pick<StageWorker<unknown>, "start" | "close" | "abandon">;

/** Resolves when the workers have let go of their jobs, or Redis has been away for too long to wait for it. */
export async function closeWorkers(workers: readonly AnyStageWorker[], redis: Redis, logger: Logger): Promise<void> {
  const closed = new AbortController();
  const close = async (): Promise<void> => {
    await Promise.all(workers.map((worker) => worker.close()));
    closed.abort();
  };
  const abandonWithoutRedis = async (): Promise<void> => {
    let awaySince: number | undefined;
    while (!closed.signal.aborted) {
      if (redis.status === "ready") awaySince = undefined;
      else awaySince ??= Date.now();
      if (awaySince !== undefined && Date.now() - awaySince >= REDIS_PATIENCE_MS) {
        logger.warn("Redis is away: jobs under way will be taken over when it is back");
        return void (await Promise.all(workers.map((worker) => worker.abandon())));
      }
      await pause(REDIS_POLL_MS, closed.signal);
    }
  };
  await Promise.race([close(), abandonWithoutRedis()]);
}
