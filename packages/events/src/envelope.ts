/** kombu's envelope around messages on Redis (kombu/transport/virtual/base.py, `prepare_message`), to events. */
import { decodeFrame, reject } from "./decode.ts";
import { decodeText } from "./character-set.ts";
import { excerptOfText } from "./excerpt.ts";
import type { Decoded, Frame } from "./frame.ts";

type Fields = Readonly<Record<string, unknown>>;

/** Decodes one pub/sub message: JSON with the body inside, in base64 or, where `properties.body_encoding` is absent, as text. Never throws. */
export function decodeEnvelope(payload: string | Uint8Array): Decoded {
  const text = typeof payload === "string" ? payload : (decodeText(payload, undefined) ?? "");
  let envelope: unknown;
  try {
    envelope = JSON.parse(text);
  } catch {
    return reject("envelope", "the message is not JSON", excerptOfText(text));
  }
  const frame = isFields(envelope) ? frameOf(envelope) : undefined;
  return frame === undefined ? reject("envelope", "the message is not an envelope of kombu", excerptOfText(text)) : decodeFrame(frame);
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
