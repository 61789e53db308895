/** A broker's message to events. Pure; never throws, whatever the bytes are. */
import { decodeText } from "./character-set.ts";
import type { CeleryEvent } from "./event.ts";
import { excerptOfBytes, excerptOfText, excerptOfValue } from "./excerpt.ts";
import type { Decoded, Frame, RejectReason, Rejected } from "./frame.ts";
import { parseMsgpack } from "./msgpack.ts";
import { Refusal, normalise } from "./normalise.ts";
import { parsePythonJson } from "./python-json.ts";
import { parseYaml } from "./yaml.ts";

/** So many rejects of one frame have an entry each; a frame of a million numbers must not become a million dead letters. */
const MAX_DESCRIBED = 100;

/**
 * Decodes a message: one event, or a list of them (`task.multi`, celery/events/dispatcher.py). A bad event in a list is rejected alone.
 * Every frame gives at least one event or one reject, except an empty list: workers send those now and then (recorded with Celery 5.2).
 */
export function decodeFrame(frame: Frame): Decoded {
  switch (mediaType(frame.contentType)) {
    case "application/json":
      return decodeTextual(frame, parsePythonJson, "the body is not JSON");
    case "application/x-yaml":
      return decodeTextual(frame, parseYaml, "the body is not plain YAML, or too long");
    case "application/x-msgpack":
      return decodeMsgpack(frame);
    case "application/x-python-serialize":
      return reject("pickle", 'pickled events are never loaded; set event_serializer = "json" in Celery', excerpt(frame.body));
    default:
      return reject("content_type", "the content type is not JSON, msgpack or YAML", excerpt(frame.body));
  }
}

/** A message that is rejected as a whole. */
export function reject(reason: RejectReason, detail: string, raw: string): Decoded {
  return { events: [], rejected: [{ reason, detail, raw, count: 1 }] };
}

/** Without its parameters; absent means JSON. */
function mediaType(contentType: string | undefined): string {
  if (contentType === undefined || contentType === "" || contentType === "application/json") return "application/json";
  const [type = ""] = contentType.split(";", 1);
  return type.trim().toLowerCase();
}

function decodeTextual(frame: Frame, parse: (text: string) => unknown, complaint: string): Decoded {
  const text = typeof frame.body === "string" ? frame.body : decodeText(frame.body, frame.contentEncoding);
  if (text === undefined) return reject("content_encoding", "the content encoding is unknown", excerpt(frame.body));
  let value: unknown;
  try {
    value = parse(text);
  } catch {
    return reject("body", complaint, excerptOfText(text));
  }
  return toDecoded(value);
}

function decodeMsgpack({ body }: Frame): Decoded {
  if (typeof body === "string") return reject("body", "a msgpack body must be bytes", excerptOfText(body));
  let value: unknown;
  try {
    value = parseMsgpack(body);
  } catch {
    return reject("body", "the body is not msgpack", excerptOfBytes(body));
  }
  return toDecoded(value);
}

function toDecoded(value: unknown): Decoded {
  const events: CeleryEvent[] = [];
  const rejects = new Rejects();
  for (const item of Array.isArray(value) ? (value as readonly unknown[]) : [value]) {
    const event = normalise(item);
    if (event instanceof Refusal) rejects.add(event, item);
    else events.push(event);
  }
  return { events, rejected: rejects.entries };
}

/** The rejects of one frame: few entries, however many there are. */
class Rejects {
  readonly entries: Rejected[] = [];
  readonly #folded = new Map<Refusal, { count: number }>();

  add(refusal: Refusal, item: unknown): void {
    const folded = this.#folded.get(refusal);
    if (folded !== undefined) {
      folded.count += 1;
      return;
    }
    const { reason, detail } = refusal;
    const entry = { reason, detail, raw: excerptOfValue(item), count: 1 };
    if (this.entries.length >= MAX_DESCRIBED) this.#folded.set(refusal, entry);
    this.entries.push(entry);
  }
}

function excerpt(body: Uint8Array | string): string {
  return typeof body === "string" ? excerptOfText(body) : excerptOfBytes(body);
}
