/** Decodes a broker's message into events. Pure; never throws, whatever the bytes are. */
import { Reject, TooLargeError, checkSize, normalise } from "../model/normalise.ts";
import { Rejects, decodeText, excerptOfBytes, excerptOfEncoded, excerptOfText } from "./rejects.ts";
import type { CeleryEvent } from "../model/event.ts";
import type { Decoded, Frame, ReadAs, ReadBody, UnreadableBody } from "./frame.ts";
import { parseMsgpack } from "./msgpack.ts";
import { parsePythonJson } from "./json.ts";
import { parseYaml } from "./yaml.ts";

/** A longer content type or encoding is not kept. */
const MAX_WORD_LENGTH = 128;

/**
 * Decodes a message: one event, or a list of them (`task.multi`, celery/events/dispatcher.py). A bad event in a list is rejected alone.
 * Every frame gives at least one event or one reject, except an empty list, which workers send occasionally (recorded with Celery 5.2).
 */
export function decodeFrame(frame: Frame): Decoded {
  const read = readBody(frame);
  return "value" in read ? toDecoded(read.value) : reject(read, frame);
}

/** Reads a message's body as plain data. Never throws. */
export function readBody(frame: Frame): ReadBody {
  switch (mediaType(frame.contentType)) {
    case "application/json":
      return parseBody(frame, { read: () => parsePythonJson(textOf(frame)), complaint: "the body is not JSON", isText: true });
    case "application/x-yaml":
      return parseBody(frame, { read: () => parseYaml(textOf(frame)), complaint: "the body is not plain YAML", isText: true });
    case "application/x-msgpack":
      return parseBody(frame, { read: () => parseMsgpack(bytesOf(frame)), complaint: "the body is not msgpack in bytes", isText: false });
    case "application/x-python-serialize":
      return { reason: "pickle", detail: 'pickled events are never loaded; set event_serializer = "json" in Celery', isText: false };
    default:
      return { reason: "content_type", detail: "the content type is not JSON, msgpack or YAML", isText: false };
  }
}

/** The content type without its parameters; absent means JSON. */
function mediaType(contentType: string | undefined): string {
  if (contentType === undefined || contentType === "") return "application/json";
  return contentType.replace(/;.*/s, "").trim().toLowerCase();
}

interface Format {
  readonly read: () => unknown;
  /** The reject's detail if the body cannot be read. */
  readonly complaint: string;
  readonly isText: boolean;
}

function parseBody(frame: Frame, { read, complaint, isText }: Format): ReadBody {
  try {
    checkSize(frame.body);
    return { value: read() };
  } catch (thrown) {
    if (thrown instanceof TooLargeError) return { reason: "too_large", detail: thrown.message, isText };
    if (thrown instanceof UnknownEncoding) return { reason: "content_encoding", detail: "the content encoding is unknown", isText: false };
    return { reason: "body", detail: complaint, isText };
  }
}

class UnknownEncoding extends Error {}

function textOf({ body, contentEncoding }: Frame): string {
  const text = typeof body === "string" ? body : decodeText(body, contentEncoding);
  if (text === undefined) throw new UnknownEncoding();
  return text;
}

function bytesOf({ body }: Frame): Uint8Array {
  if (typeof body === "string") throw new Error("msgpack: no bytes");
  return body;
}

/** Rejects a message as a whole. Bytes that should be text are kept as text, so that people can read them. */
function reject({ reason, detail, isText }: UnreadableBody, { body, contentType, contentEncoding }: Frame): Decoded {
  const text = typeof body === "string" ? excerptOfText(body) : isText ? excerptOfEncoded(body, contentEncoding) : undefined;
  const { raw, isWhole } = text ?? excerptOfBytes(body as Uint8Array);
  const readAs: ReadAs = {
    ...(contentType !== undefined && { contentType }),
    ...(text === undefined && { base64: true, ...(contentEncoding !== undefined && { contentEncoding }) }),
  };
  const isKept = isWhole && [contentType, contentEncoding].every((word = "") => word.length <= MAX_WORD_LENGTH);
  return { events: [], rejected: [{ reason, detail, raw, ...(isKept && { readAs }), count: 1 }] };
}

function toDecoded(value: unknown): Decoded {
  const events: CeleryEvent[] = [];
  const rejects = new Rejects();
  for (const item of Array.isArray(value) ? (value as readonly unknown[]) : [value]) {
    const event = normalise(item);
    if (event instanceof Reject) rejects.add(event, item);
    else events.push(event);
  }
  return { events, rejected: rejects.entries };
}
