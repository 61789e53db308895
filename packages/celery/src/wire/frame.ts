/** The input and output of the decoder: every frame gives events, rejects, or both, and never an exception. */
import type { CeleryEvent } from "../model/event.ts";

/** One message as delivered by a broker. */
export interface Frame {
  readonly body: Uint8Array | string;
  /** A media type such as `application/json`; absent means JSON. */
  readonly contentType: string | undefined;
  /** `utf-8`, `binary` or another character set; absent means UTF-8. Ignored if the body is a string. */
  readonly contentEncoding?: string | undefined;
}

/**
 * Why something was not decoded. These strings are stable, because they label metrics and dead letters. (The receiver adds `future`, for decoded events: letter.ts.)
 *
 * - `envelope`: not kombu's Redis envelope.
 * - `content_type`: a serializer that is not JSON, msgpack or YAML.
 * - `content_encoding`: an unknown character set.
 * - `pickle`: a pickled body. It is never loaded, because a pickle is a program. Set `event_serializer = "json"` in Celery.
 * - `body`: the body is not what its content type says.
 * - `too_large`: too long, too deeply nested, or with too many values or different keys (normalise.ts).
 * - `not_an_event`: a value that is not an object.
 * - `type`, `uuid`, `timestamp`: an event in which the field of that name is missing or impossible.
 */
export const REJECT_REASONS = [
  "envelope",
  "content_type",
  "content_encoding",
  "pickle",
  "body",
  "too_large",
  "not_an_event",
  "type",
  "uuid",
  "timestamp",
] as const;
export type RejectReason = (typeof REJECT_REASONS)[number];

/** Why a body could not be read as plain data. */
export interface UnreadableBody {
  readonly reason: RejectReason;
  /** One sentence for people. It never contains anything of the body. */
  readonly detail: string;
  /** Whether the body should be text. */
  readonly isText: boolean;
}

export type ReadBody = { readonly value: unknown } | UnreadableBody;

/** kombu's envelope, one event (or the value in its place) as JSON, or a message's body. */
export type ReadAs =
  | "envelope"
  | "event"
  | {
      readonly contentType?: string;
      readonly contentEncoding?: string;
      /** Whether the body is bytes, which `raw` contains in base64. */
      readonly base64?: true;
    };

export interface Rejected {
  readonly reason: RejectReason;
  /** One sentence for people. It never contains anything of the input. */
  readonly detail: string;
  /** The beginning of the rejected input, at most 4,096 characters: text unchanged, binary bodies in base64, an event of a list as JSON. */
  readonly raw: string;
  /** How `decodeAgain` reads `raw`. Absent if `raw` is only a part of the rejected input. */
  readonly readAs?: ReadAs;
  /** The number of rejects in this entry: usually 1, more if it summarizes the rest of a frame. `raw` then belongs to the first of them. */
  readonly count: number;
}

export interface Decoded {
  readonly events: CeleryEvent[];
  /** One entry per rejected message or event. From a frame's 101st on, one per reason, with its `count`. */
  readonly rejected: Rejected[];
}
