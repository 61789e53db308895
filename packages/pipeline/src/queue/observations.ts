/** The payload of a job with observations, which waits in the same queue as batches of events. */
import type { Observation } from "@celery-metrics-exporter/celery";
import { PermanentError } from "@celery-metrics-exporter/runtime";
import { z } from "zod";
import { NewerPayloadError } from "../contract/errors.ts";

/**
 * The lowest version of this payload. It is greater than any version of a batch, so a release that does not know observations takes them for
 * a batch of a newer release, and keeps them.
 */
const FIRST_VERSION = 101;
const VERSION = 101;

export interface ObservationsPayload {
  readonly v: typeof VERSION;
  readonly observations: readonly Observation[];
}

/** A source is a key in the stores. */
export const MOST_SOURCE_CHARACTERS = 200;

const text = z.string();
const amount = z.number().nonnegative();

const schemas = {
  "queues-observed": z.object({
    type: z.literal("queues-observed"),
    timestamp: amount,
    broker: z.enum(["rabbitmq", "redis"]),
    queues: z.array(
      z.object({
        name: text,
        messages: amount,
        byPriority: z.record(text, amount).exactOptional(),
        consumers: amount.exactOptional(),
      }),
    ),
    unacked: z.object({ messages: amount, oldestAt: amount.exactOptional() }).exactOptional(),
  }),
  "workers-observed": z.object({
    type: z.literal("workers-observed"),
    timestamp: amount,
    workers: z.array(
      z.object({
        hostname: text,
        queues: z.array(text).exactOptional(),
        pid: amount.exactOptional(),
        uptime: amount.exactOptional(),
        pool: text.exactOptional(),
        concurrency: amount.exactOptional(),
        prefetchCount: amount.exactOptional(),
      }),
    ),
  }),
  listened: z.object({ type: z.literal("listened"), source: text.max(MOST_SOURCE_CHARACTERS), since: amount, timestamp: amount }),
} satisfies { readonly [T in Observation["type"]]: z.ZodType<Extract<Observation, { type: T }>> };

export function encodeObservations(observations: readonly Observation[]): ObservationsPayload {
  return { v: VERSION, observations };
}

/** Whether a payload contains observations, of this release or of a newer one, and not events. */
export function isOfObservations(payload: unknown): boolean {
  const { v } = asFields(payload);
  return typeof v === "number" && v >= FIRST_VERSION;
}

/**
 * Reads a payload. Leaves out types of observations and fields that only a newer release knows.
 *
 * @throws {NewerPayloadError} for a newer version.
 * @throws {PermanentError} for anything that `encodeObservations` did not write.
 */
export function decodeObservations(payload: unknown): readonly Observation[] {
  const { v, observations } = asFields(payload);
  if (typeof v === "number" && v > VERSION) throw new NewerPayloadError("observations", v);
  if (v !== VERSION || !Array.isArray(observations)) throw new PermanentError("observations payload is malformed");
  return observations.flatMap(readObservation);
}

function readObservation(stored: unknown): Observation[] {
  const { type } = asFields(stored);
  if (typeof type !== "string") throw new PermanentError("observations payload has an observation without type");
  if (!isKnown(type)) return [];
  const { data } = schemas[type].safeParse(stored);
  if (data === undefined) throw new PermanentError(`observations payload has a malformed observation of type ${type}`);
  return [data];
}

function isKnown(type: string): type is Observation["type"] {
  return Object.hasOwn(schemas, type);
}

function asFields(value: unknown): Readonly<Record<string, unknown>> {
  return (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
}
