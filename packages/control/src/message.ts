/** The messages of Celery's remote control (kombu/pidbox.py): requests to the workers, and their replies. Pure. */
import { type Frame, type RejectReason, readBody, writeMsgpack } from "@celery-metrics-exporter/celery";

export type Serializer = "json" | "msgpack";

export interface Request {
  readonly method: string;
  /** Exactly the arguments that the command takes: Celery answers others with an error. */
  readonly arguments: Readonly<Record<string, unknown>>;
  /** Names of the nodes that are to answer. Absent: all. */
  readonly destination?: readonly string[] | undefined;
  /** Returned with each reply. */
  readonly ticket: string;
  readonly replyTo: ReplyTo;
}

export interface ReplyTo {
  readonly exchange: string;
  readonly routingKey: string;
}

/** A serialized body, with the properties that tell how. */
export interface Body {
  readonly body: Uint8Array;
  readonly contentType: string;
  readonly contentEncoding: string;
}

export function encodeRequest({ method, arguments: args, destination, ticket, replyTo }: Request, serializer: Serializer): Body {
  const request = {
    method,
    arguments: args,
    destination: destination ?? null,
    pattern: null,
    matcher: null,
    ticket,
    reply_to: { exchange: replyTo.exchange, routing_key: replyTo.routingKey },
  };
  if (serializer === "msgpack") return { body: writeMsgpack(request), contentType: "application/x-msgpack", contentEncoding: "binary" };
  return { body: Buffer.from(JSON.stringify(request)), contentType: "application/json", contentEncoding: "utf-8" };
}

/** A reply as the broker delivers it. */
export interface RawReply {
  readonly frame: Frame;
  readonly headers: Readonly<Record<string, unknown>>;
}

export interface Reply {
  /** Of the request. Undefined if the reply has none. */
  readonly ticket: string | undefined;
  /** What each node answered: usually one. */
  readonly nodes: ReadonlyMap<string, unknown>;
  /** Set if the reply cannot be read. Which node sent it is then unknown. */
  readonly unreadable?: Unreadable;
}

export interface Unreadable {
  readonly reason: RejectReason | "not_a_reply";
  /** One sentence for people. It never contains anything of the reply. */
  readonly detail: string;
}

const NOT_A_REPLY: Unreadable = { reason: "not_a_reply", detail: "a reply must be an object with the node's name as its key" };
const PICKLE_DETAIL = 'pickled replies are never loaded; set task_serializer = "json" in Celery';

/** Never throws. */
export function decodeReply({ frame, headers }: RawReply): Reply {
  const { ticket } = headers;
  const reply = { ticket: typeof ticket === "string" ? ticket : undefined, nodes: new Map<string, unknown>() };
  const read = readBody(frame);
  if ("reason" in read) {
    const { reason, detail } = read;
    return { ...reply, unreadable: { reason, detail: reason === "pickle" ? PICKLE_DETAIL : detail } };
  }
  const { value } = read;
  if (typeof value !== "object" || value === null || Array.isArray(value)) return { ...reply, unreadable: NOT_A_REPLY };
  return { ...reply, nodes: new Map(Object.entries(value)) };
}

/** The text of an error, if a node answered with one instead of a result: `{"error": "…"}` (celery/worker/pidbox.py). */
export function errorOf(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const entries = Object.entries(value);
  const [[key, text] = []] = entries;
  return entries.length === 1 && key === "error" && typeof text === "string" ? text : undefined;
}
