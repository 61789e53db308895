/** The names of our BullMQ queues, and of what lies beside them in Redis. */
import { createHash } from "node:crypto";

/** Where an exporter's batches of events wait: the exporter's own name. */
export function eventsQueueName(exporter: string): string {
  return exporter;
}

/** The processing queue: ids of tasks that reached a final state, for an exporter with a second stage. */
export function processingQueueName(exporter: string): string {
  return `${exporter}-processing`;
}

/** What could not be decoded or exported, with the reason. */
export const DEAD_LETTER_QUEUE = "dead-letter";

/**
 * The key under which receivers keep what concerns those that read the same.
 *
 * @param stream names what they read.
 */
export function receiversKey(prefix: string, stream: string): string {
  return `${prefix}:receiver:${createHash("sha256").update(stream).digest("hex").slice(0, 16)}`;
}

/** Within an exporter's queue: how many finished tasks its processors have not delivered yet. They write it, the receiver reads it. */
export const UNDELIVERED_KEY = "undelivered";

/** The names of our jobs, as BullMQ and its dashboards show them. */
export const JOB_NAMES = {
  /** A batch of events. */
  batch: "batch",
  /** The ids of one `schedule` call. */
  ids: "ids",
  /** Part of a job that ended the process it ran in: run alone. */
  suspect: "suspect",
} as const;
