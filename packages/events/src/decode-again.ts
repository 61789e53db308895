/** Reads what was once rejected, with the decoder of today. */
import { decodeFrame } from "./decode.ts";
import { decodeEnvelope } from "./envelope.ts";
import type { Decoded, ReadAs } from "./frame.ts";

/** Decodes a reject from its `raw` and `readAs`. Never throws. */
export function decodeAgain(raw: string, readAs: ReadAs): Decoded {
  if (readAs === "envelope") return decodeEnvelope(raw);
  // As a list, which a list of its own would otherwise be taken for.
  if (readAs === "event") return decodeFrame({ body: `[${raw}]`, contentType: "application/json" });
  const { base64, contentType, contentEncoding } = readAs;
  return decodeFrame({ body: base64 === true ? Buffer.from(raw, "base64") : raw, contentType, contentEncoding });
}
