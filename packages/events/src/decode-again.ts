/** Reads what was once rejected, with the decoder of today. */
import { decodeFrame } from "./decode.ts";
import { decodeEnvelope } from "./envelope.ts";
import type { Decoded } from "./frame.ts";

/**
 * Decodes a reject from its `raw` and `readAs`, as they were stored. Undefined where they are not what a reject of this release has; never
 * throws.
 */
export function decodeAgain(raw: unknown, readAs: unknown): Decoded | undefined {
  if (typeof raw !== "string") return undefined;
  if (readAs === "envelope") return decodeEnvelope(raw);
  // As a list, which a list of its own would otherwise be taken for.
  if (readAs === "event") return decodeFrame({ body: `[${raw}]`, contentType: "application/json" });
  if (typeof readAs !== "object" || readAs === null || Array.isArray(readAs)) return undefined;
  const { base64, contentType, contentEncoding } = readAs as Readonly<Record<string, unknown>>;
  if (!isWord(contentType) || !isWord(contentEncoding)) return undefined;
  return decodeFrame({ body: base64 === true ? Buffer.from(raw, "base64") : raw, contentType, contentEncoding });
}

function isWord(value: unknown): value is string | undefined {
  return value === undefined || typeof value === "string";
}
