/** Whether a monitor answers, where it has not seen a queue. */
import type { QueueList, Worker } from "../api/types.ts";

/** It has looked into the broker, or a worker has answered it. On RabbitMQ, there is no sign of it before there is a queue. */
export function isMonitored(queues: QueueList | undefined, workers: readonly Worker[] | undefined): boolean {
  return (queues?.unacked ?? null) !== null || workers?.some(({ observed_at }) => observed_at !== null) === true;
}
