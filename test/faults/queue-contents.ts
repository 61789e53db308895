/** What the BullMQ queues of a scene hold, in jobs. */
import { Queue } from "bullmq";
import { Redis } from "ioredis";

export interface QueueContents {
  readonly waiting: number;
  readonly active: number;
  readonly delayed: number;
  readonly failed: number;
}

export async function contentsOf(redisUrl: string, name: string): Promise<QueueContents> {
  const connection = new Redis(redisUrl, { maxRetriesPerRequest: null });
  const queue = new Queue(name, { connection, prefix: "{cme}" });
  try {
    const { waiting = 0, active = 0, delayed = 0, failed = 0 } = await queue.getJobCounts("waiting", "active", "delayed", "failed");
    return { waiting, active, delayed, failed };
  } finally {
    await queue.close();
    connection.disconnect();
  }
}
