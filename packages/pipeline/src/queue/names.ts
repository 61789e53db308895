/** The names of our BullMQ queues, and of related keys in Redis. */
import { createHash } from "node:crypto";

/** The queue of an exporter's batches of events: the exporter's own name. */
export function eventsQueueName(exporter: string): string {
  return exporter;
}

/** The processing queue: ids of tasks that reached a final state, for an exporter with a second stage. */
export function processingQueueName(exporter: string): string {
  return `${exporter}-processing`;
}

/** What could not be decoded or exported, with the reason. */
export const DEAD_LETTER_QUEUE = "dead-letter";

/** Roles of which one process leads. */
export type LeadingRole = "receiver" | "monitor" | "prometheus-metrics" | "datadog-metrics";

/**
 * The key shared by the receivers, or the monitors, that read the same.
 *
 * @param stream names what they read.
 */
export function receiversKey(prefix: string, stream: string, role: LeadingRole = "receiver"): string {
  return `${prefix}:${role}:${createHash("sha256").update(stream).digest("hex").slice(0, 16)}`;
}

/** The key of the names of Celery's queues that the monitor knows. */
export function knownQueuesKey(prefix: string): string {
  return `${prefix}:monitor:queues`;
}

/** The key of the mark that a worker has come online. */
export function onlineMarkKey(prefix: string): string {
  return `${prefix}:monitor:online`;
}

/**
 * The key within an exporter's queue with the number of finished tasks not delivered yet. Processors write it, and the receiver reads it.
 */
export const UNDELIVERED_KEY = "undelivered";

/** The key within an exporter's queue with the ids of its jobs with what a monitor observed, scored by creation time. Some of them may be done. */
export const OBSERVED_KEY = "observed";

/** The key within a queue with the ids of held jobs, scored by creation time. Some of them may be done. */
export const HELD_KEY = "held";

/** The key within a queue with the ids of those held jobs that may contain events of workers, scored like the others. */
export const HELD_WORKERS_KEY = "held-workers";

/** The key within an exporter's queue with the ids of the jobs with which receivers report that they listened. Some of them may be done. */
export const LISTENED_KEY = "listened";

/** The key within an exporter's queue with the time at which a receiver last shed events of it, in seconds since the epoch. */
export const SHED_KEY = "shed";

const LISTENED = "listened-";
const LISTENED_EVERY_SECONDS = 300;

/**
 * The id of the job that says until when a receiver of a source listened. A queue has at most one of each source for every five minutes: while nobody reads
 * it, they become few; and if a job lies in none of BullMQ's lists, it is in the way only for that long.
 *
 * @param until in seconds since the epoch.
 */
export function listenedJobId(source: string, until: number): string {
  // BullMQ refuses colons.
  return `${LISTENED}${createHash("sha256").update(source).digest("base64url")}-${Math.floor(until / LISTENED_EVERY_SECONDS)}`;
}

export function isListenedJobId(id: string): boolean {
  return id.startsWith(LISTENED);
}

/** The number of jobs with observations that a queue may have. More would be old news by the time they are processed. */
export const MOST_OBSERVATION_JOBS = 10;

/** The names of our jobs, as shown by BullMQ and its dashboards. */
export const JOB_NAMES = {
  /** A batch of events. */
  batch: "batch",
  /** What a monitor or a receiver observed. */
  observations: "observations",
  /** The ids of one `schedule` call. */
  ids: "ids",
  /** Part of a job that may have killed its process. It runs alone. */
  suspect: "suspect",
} as const;
