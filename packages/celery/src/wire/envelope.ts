/** Writes kombu's envelope around messages on Redis (kombu/transport/virtual/base.py), and decodes it into events. */
import { randomUUID } from "node:crypto";
import { TooLargeError, checkSize } from "../model/normalise.ts";
import { decodeFrame } from "./decode.ts";
import { decodeText, excerptOfBytes, excerptOfEncoded, excerptOfText } from "./rejects.ts";
import type { Decoded, Frame, RejectReason } from "./frame.ts";
import { checkJsonBounds } from "./json.ts";

type Fields = Readonly<Record<string, unknown>>;

/** A message as Celery passes it to kombu: with events, unless `exchange` says otherwise. */
export interface EventMessage {
  /** Serialized as `contentType` says. */
  readonly body: string | Uint8Array;
  /** Such as `task.multi`. */
  readonly routingKey: string;
  /** Default `celeryev`. */
  readonly exchange?: string;
  /** Default `application/json`. */
  readonly contentType?: string;
  /** Default `utf-8`. */
  readonly contentEncoding?: string;
  readonly headers?: Fields;
  /** Default a new one, as kombu creates it. */
  readonly deliveryTag?: string;
}

/** The pub/sub message that kombu publishes for a message: `Channel.prepare_message`, `encode_body` and `_inplace_augment_message`. */
export function encodeEnvelope({
  body,
  routingKey,
  exchange = "celeryev",
  contentType = "application/json",
  contentEncoding = "utf-8",
  headers = {},
  deliveryTag = randomUUID(),
}: EventMessage): string {
  return JSON.stringify({
    body: Buffer.from(body).toString("base64"),
    "content-encoding": contentEncoding,
    "content-type": contentType,
    headers,
    properties: {
      delivery_mode: 1,
      delivery_info: { exchange, routing_key: routingKey },
      priority: 0,
      body_encoding: "base64",
      delivery_tag: deliveryTag,
    },
  });
}

/** Decodes one pub/sub message into events. Never throws. */
export function decodeEnvelope(payload: string | Uint8Array): Decoded {
  const opened = openEnvelope(payload);
  return "frame" in opened ? decodeFrame(opened.frame) : reject(opened, payload);
}

/** The message in an envelope, or why there is none. */
export type OpenedEnvelope =
  | { readonly frame: Frame; readonly headers: Fields }
  | { readonly reason: "envelope" | "too_large"; readonly detail: string };

/** Opens an envelope: JSON that contains the body, in base64 or, without `properties.body_encoding`, as text. Never throws. */
export function openEnvelope(payload: string | Uint8Array): OpenedEnvelope {
  let envelope: unknown;
  try {
    checkSize(payload);
    const text = textOf(payload);
    checkJsonBounds(text);
    envelope = JSON.parse(text);
  } catch (thrown) {
    if (thrown instanceof TooLargeError) return { reason: "too_large", detail: thrown.message };
    return { reason: "envelope", detail: "the message is not JSON" };
  }
  const frame = isFields(envelope) ? frameOf(envelope) : undefined;
  if (frame === undefined) return { reason: "envelope", detail: "the message is not an envelope of kombu" };
  const { headers } = envelope as Fields;
  return { frame, headers: isFields(headers) ? headers : {} };
}

function reject({ reason, detail }: { readonly reason: RejectReason; readonly detail: string }, payload: string | Uint8Array): Decoded {
  const text = typeof payload === "string" ? excerptOfText(payload) : excerptOfEncoded(payload, undefined);
  const { raw, isWhole } = text ?? excerptOfBytes(payload as Uint8Array);
  return { events: [], rejected: [{ reason, detail, raw, ...(isWhole && { readAs: "envelope" }), count: 1 }] };
}

function textOf(payload: string | Uint8Array): string {
  return typeof payload === "string" ? payload : (decodeText(payload, undefined) ?? "");
}

function frameOf(envelope: Fields): Frame | undefined {
  const { body, properties } = envelope;
  if (typeof body !== "string") return undefined;
  const bodyEncoding = isFields(properties) ? (properties["body_encoding"] ?? undefined) : undefined;
  if (bodyEncoding !== undefined && bodyEncoding !== "base64") return undefined;
  return {
    body: bodyEncoding === "base64" ? Buffer.from(body, "base64") : body,
    contentType: stringOf(envelope["content-type"]),
    contentEncoding: stringOf(envelope["content-encoding"]),
  };
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null;
}

function stringOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

// Decodes earlier rejects again, with the current decoder.

/**
 * Decodes a reject from its stored `raw` and `readAs`. Undefined if they are not what a reject of this release contains; never throws.
 */
export function decodeAgain(raw: unknown, readAs: unknown): Decoded | undefined {
  if (typeof raw !== "string") return undefined;
  if (readAs === "envelope") return decodeEnvelope(raw);
  // Wrapped in a list, because otherwise an item that is a list would be read as a list of events.
  if (readAs === "event") return decodeFrame({ body: `[${raw}]`, contentType: "application/json" });
  if (typeof readAs !== "object" || readAs === null || Array.isArray(readAs)) return undefined;
  const { base64, contentType, contentEncoding } = readAs as Readonly<Record<string, unknown>>;
  if (!isWord(contentType) || !isWord(contentEncoding)) return undefined;
  return decodeFrame({ body: base64 === true ? Buffer.from(raw, "base64") : raw, contentType, contentEncoding });
}

function isWord(value: unknown): value is string | undefined {
  return value === undefined || typeof value === "string";
}
