/** What goes into the decoder and what comes out of it: every frame ends in events, rejects, or both, never in an exception. */
import type { CeleryEvent } from "../model/event.ts";

/** One message as a broker delivered it. */
export interface Frame {
  readonly body: Uint8Array | string;
  /** `application/json` and the like; absent means JSON. */
  readonly contentType: string | undefined;
  /** `utf-8`, `binary` or another character set; absent means UTF-8. Not looked at when the body is a string. */
  readonly contentEncoding?: string | undefined;
}

/**
 * Why something was not decoded. (`future` is the receiver's own, of an event that was: letter.ts.) These strings are stable: they label metrics and dead letters.
 *
 * - `envelope`: not kombu's Redis envelope.
 * - `content_type`: a serializer that is not JSON, msgpack or YAML.
 * - `content_encoding`: a character set we do not know.
 * - `pickle`: a pickled body. It is never loaded: a pickle is a program. Set `event_serializer = "json"` in Celery.
 * - `body`: the body is not what its content type says.
 * - `too_large`: longer, more deeply nested, or of more values or different keys than we read (bounds.ts).
 * - `not_an_event`: a value that is not an object.
 * - `type`, `uuid`, `timestamp`: an event whose field of that name is missing or cannot be.
 */
export type RejectReason =
  | "envelope"
  | "content_type"
  | "content_encoding"
  | "pickle"
  | "body"
  | "too_large"
  | "not_an_event"
  | "type"
  | "uuid"
  | "timestamp";

/** kombu's envelope, one event (or what stood for one) as JSON, or a message's body. */
export type ReadAs =
  | "envelope"
  | "event"
  | {
      readonly contentType?: string;
      readonly contentEncoding?: string;
      /** The body is bytes, and `raw` has them in base64. */
      readonly base64?: true;
    };

export interface Rejected {
  readonly reason: RejectReason;
  /** One sentence for people. It never holds anything of the input. */
  readonly detail: string;
  /** The beginning of what was rejected, at most 4,096 characters: text as it is, binary bodies in base64, an event of a list as JSON. */
  readonly raw: string;
  /** What `decodeAgain` takes `raw` for. Absent where `raw` is not the whole of what was rejected. */
  readonly readAs?: ReadAs;
  /** How many were rejected alike: 1, or more where the rest of a frame is told in one entry; `raw` is then of the first of them. */
  readonly count: number;
}

export interface Decoded {
  readonly events: CeleryEvent[];
  /** One entry for each message or event rejected. From the 101st of a frame on, one for each reason, with its `count`. */
  readonly rejected: Rejected[];
}
