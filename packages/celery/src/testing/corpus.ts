/** Reads the recordings of real Celery in test/fixtures/corpus (see the README there) as frames and events, with the expected results. */
import { readFileSync } from "node:fs";
import { decodeFrame } from "../wire/decode.ts";
import { decodeEnvelope } from "../wire/envelope.ts";
import type { CeleryEvent } from "../model/event.ts";
import type { Decoded } from "../wire/frame.ts";

export const corpusNames = [
  "celery-5.2-redis",
  "celery-5.2-amqp",
  "celery-5.6-redis",
  "celery-5.6-amqp",
  "celery-5.6-amqp-msgpack",
  "celery-5.2-endings-redis",
  "celery-5.6-endings-amqp",
  "celery-5.2-threads-redis",
  "celery-5.6-threads-redis",
] as const;
export type CorpusName = (typeof corpusNames)[number];

export interface RedisFrame {
  readonly transport: "redis";
  readonly channel: string;
  /** kombu's envelope, as published. */
  readonly payload: string;
}

export interface AmqpFrame {
  readonly transport: "amqp";
  readonly routingKey: string;
  /** Properties in amqplib's names: `contentType`, `contentEncoding`, `headers`, `deliveryMode`, `priority`. */
  readonly properties: {
    readonly contentType: string;
    readonly contentEncoding: string;
    readonly headers: Readonly<Record<string, unknown>>;
    readonly deliveryMode: number;
    readonly priority: number;
  };
  readonly body: Buffer;
}

export type CorpusFrame = RedisFrame | AmqpFrame;

/** The expected row of a task in `celery_task`, as far as the recordings determine it. Instants in Unix seconds. */
export interface ExpectedRow {
  readonly status: string;
  readonly name: string | null;
  readonly queue: string | null;
  readonly worker: string | null;
  readonly args: string | null;
  readonly kwargs: string | null;
  readonly root_id: string | null;
  readonly retries: number | null;
  readonly sent_at: number | null;
  readonly received_at: number | null;
  readonly started_at: number | null;
  readonly finished_at: number | null;
  /** Only for SUCCESS, like `runtime`. */
  readonly result?: string;
  readonly runtime?: number;
  /** Only for FAILURE and RETRY. */
  readonly exception?: string;
  /** This and the following fields are only in the recordings of every ending. */
  readonly first_name?: string | null;
  readonly first_queue?: string | null;
  /** Only for REVOKED. */
  readonly revoked_by?: string;
  /** Seconds. */
  readonly duration?: number | null;
}

/** The expected metrics in Datadog; keys are `task_name|queue`. */
export interface ExpectedMetrics {
  readonly success_count: Readonly<Record<string, number>>;
  readonly fail_count: Readonly<Record<string, number>>;
  readonly revoked_count: Readonly<Record<string, number>>;
  readonly rejected_count: Readonly<Record<string, number>>;
  readonly retry_count: Readonly<Record<string, number>>;
  readonly run_time: readonly (readonly [task: string, state: "success" | "failure", seconds: number])[];
  readonly wait_time: readonly (readonly [task: string, seconds: number, basis: "sent" | "received"])[];
}

export interface Corpus {
  /** In order of arrival. */
  readonly frames: readonly CorpusFrame[];
  /** Decodes one frame as the receiver does. */
  decode(frame: CorpusFrame): Decoded;
  /** Every event of every frame. */
  readonly events: readonly CeleryEvent[];
  /** By task id. */
  readonly expected: Readonly<Record<string, ExpectedRow>>;
  readonly metrics: ExpectedMetrics;
}

const folder = new URL("../../../../test/fixtures/corpus/", import.meta.url);

export function readCorpus(name: CorpusName): Corpus {
  const frames = read(`${name}.ndjson`).trimEnd().split("\n").map(parseFrame);
  return {
    frames,
    decode: decodeCorpusFrame,
    events: frames.flatMap((frame) => decodeCorpusFrame(frame).events),
    expected: JSON.parse(read(`${name}.expected.json`)) as Corpus["expected"],
    metrics: JSON.parse(read(`${name}.metrics.json`)) as ExpectedMetrics,
  };
}

function decodeCorpusFrame(frame: CorpusFrame): Decoded {
  if (frame.transport === "redis") return decodeEnvelope(frame.payload);
  const { contentType, contentEncoding } = frame.properties;
  return decodeFrame({ body: frame.body, contentType, contentEncoding });
}

function parseFrame(line: string): CorpusFrame {
  const frame = JSON.parse(line) as RedisFrame | (Omit<AmqpFrame, "body"> & { readonly body_base64: string });
  if (frame.transport === "redis") return frame;
  const { body_base64, ...rest } = frame;
  return { ...rest, body: Buffer.from(body_base64, "base64") };
}

function read(file: string): string {
  return readFileSync(new URL(file, folder), "utf8");
}
