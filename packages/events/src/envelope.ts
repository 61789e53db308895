/** kombu's envelope around messages on Redis (kombu/transport/virtual/base.py, `prepare_message`), to events. */
import { TooLargeError, checkSize } from "./bounds.ts";
import { decodeFrame } from "./decode.ts";
import { decodeText } from "./character-set.ts";
import { excerptOfBytes, excerptOfEncoded, excerptOfText } from "./excerpt.ts";
import type { Decoded, Frame, RejectReason } from "./frame.ts";
import { checkJsonBounds } from "./json-bounds.ts";

type Fields = Readonly<Record<string, unknown>>;

/** Decodes one pub/sub message: JSON with the body inside, in base64 or, where `properties.body_encoding` is absent, as text. Never throws. */
export function decodeEnvelope(payload: string | Uint8Array): Decoded {
  let envelope: unknown;
  try {
    checkSize(payload);
    const text = textOf(payload);
    checkJsonBounds(text);
    envelope = JSON.parse(text);
  } catch (thrown) {
    if (thrown instanceof TooLargeError) return reject("too_large", thrown.message, payload);
    return reject("envelope", "the message is not JSON", payload);
  }
  const frame = isFields(envelope) ? frameOf(envelope) : undefined;
  return frame === undefined ? reject("envelope", "the message is not an envelope of kombu", payload) : decodeFrame(frame);
}

function reject(reason: RejectReason, detail: string, payload: string | Uint8Array): Decoded {
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
