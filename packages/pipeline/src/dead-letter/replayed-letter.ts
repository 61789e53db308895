/** Decides where the contents of a dead letter go when it is replayed. */
import { PermanentError } from "@celery-metrics-exporter/runtime";
import {
  type CeleryEvent,
  type Decoded,
  type Rejected,
  decodeAgain,
  isFuture,
  isTaskId,
  readStoredEvent,
} from "@celery-metrics-exporter/celery";
import { decodeBatch, encodeBatch } from "../queue/batch.ts";
import { RECEIVER, REDACTED, type StoredLetter } from "./letter.ts";
import { NewerPayloadError } from "../contract/errors.ts";
import { EXPORTERS } from "../contract/exporters.ts";
import { decodeIds } from "../queue/scheduled-ids.ts";
import { JOB_NAMES, eventsQueueName, processingQueueName } from "../queue/names.ts";

/** Why a letter is left where it is. Shown to users as it is. */
export type LeftBecause =
  | "cut: only a part was kept"
  | "redacted: nothing was kept"
  | "rejected again"
  | "more than a day ahead of this host's clock"
  | "payload of an unknown version"
  | "not an event in the format of this release"
  | "of an exporter that EXPORTERS does not list"
  | "of an unknown exporter"
  | "not a valid dead letter";

const STILL_AHEAD = "more than a day ahead of this host's clock";
const NOT_OURS = "not a valid dead letter";

export type Replayed =
  /** Events, and what is still rejected, as if they came from the broker now. */
  | {
      readonly to: "every exporter";
      readonly events: readonly CeleryEvent[];
      readonly rejected: readonly Rejected[];
      /** Set if the events were decoded before, so that some may have been redacted then. */
      readonly wasDecoded?: true;
    }
  | { readonly to: "exporter"; readonly exporter: string; readonly event: CeleryEvent }
  | { readonly to: "forget"; readonly exporter: string; readonly id: string }
  | { readonly to: "process"; readonly exporter: string; readonly id: string }
  | { readonly to: "queue"; readonly queueName: string; readonly jobName: string; readonly payload: unknown }
  | { readonly to: "nobody"; readonly because: LeftBecause };

export interface ReplayContext {
  /** Names of the exporters in use. The queue of any other may have no reader. */
  readonly exporters: readonly string[];
  /** Unix time in seconds. An event from the future may no longer be one, because a clock was corrected or time has passed. */
  readonly now: number;
}

/** Never throws, whatever the letter contains: one that cannot be replayed must not stop the others. */
export function replayed(letter: StoredLetter, { exporters, now }: ReplayContext): Replayed {
  const { source, event, raw, readAs, payload } = letter;
  const isKnown = source === RECEIVER || EXPORTERS.some(({ name }) => name === source);
  if (typeof source !== "string" || !isKnown) return left("of an unknown exporter");
  if (source !== RECEIVER && !exporters.includes(source)) return left("of an exporter that EXPORTERS does not list");
  if (letter.cut === true) return left("cut: only a part was kept");
  if (event !== undefined && event !== null) return replayedEvent(source, event, now);
  if (payload !== undefined) return source === RECEIVER ? left(NOT_OURS) : replayedPayload(source, payload);
  if (raw === undefined) return left(NOT_OURS);
  switch (readAs) {
    case undefined:
      return left(raw === REDACTED ? "redacted: nothing was kept" : "cut: only a part was kept");
    case "id to forget":
      return source !== RECEIVER && isTaskId(raw) ? { to: "forget", exporter: source, id: raw } : left(NOT_OURS);
    case "id to process":
      // As the exporter has scheduled it, perhaps with a mark that no task's id contains.
      return source !== RECEIVER && typeof raw === "string" && raw !== "" ? { to: "process", exporter: source, id: raw } : left(NOT_OURS);
    default:
      return source === RECEIVER ? replayedInput(raw, readAs, now) : left(NOT_OURS);
  }
}

/** Hides what must not be stored. Both functions change the events in place. */
export interface ReplayRedaction {
  /** For input that was decoded just now; the same as in the receiver. */
  readonly ofSent: (decoded: Decoded) => Decoded;
  /** For events that were in a queue before. Some may have been redacted then. */
  readonly ofStored: (decoded: Decoded) => Decoded;
}

/** Redacts everything that is about to be stored. Ids contain nothing to hide. */
export function redacted(replay: Replayed, redaction: ReplayRedaction): Replayed {
  switch (replay.to) {
    case "every exporter":
      return {
        ...replay,
        ...redaction[replay.wasDecoded === true ? "ofStored" : "ofSent"]({ events: [...replay.events], rejected: [...replay.rejected] }),
      };
    case "exporter":
      redaction.ofStored({ events: [replay.event], rejected: [] });
      return replay;
    case "queue":
      return replay.jobName === JOB_NAMES.batch ? { ...replay, payload: redactedPayload(replay.payload, redaction) } : replay;
    case "forget":
    case "process":
    case "nobody":
      return replay;
    default:
      return replay satisfies never;
  }
}

/** Rewrites the payload, which drops fields that only a newer release can read. */
function redactedPayload(payload: unknown, { ofStored }: ReplayRedaction): unknown {
  const batch = decodeBatch(payload);
  return encodeBatch({ ...batch, events: ofStored({ events: [...batch.events], rejected: [] }).events });
}

/** Checks the event first: its processor would refuse a malformed one together with the good events of its batch. */
function replayedEvent(source: string, stored: unknown, now: number): Replayed {
  const event = readStoredEvent(stored);
  if (event === undefined) return left("not an event in the format of this release");
  if (source !== RECEIVER) return { to: "exporter", exporter: source, event };
  return isFuture(event, now) ? left(STILL_AHEAD) : { to: "every exporter", events: [event], rejected: [], wasDecoded: true };
}

function replayedInput(raw: unknown, readAs: unknown, now: number): Replayed {
  const decoded = decodeAgain(raw, readAs);
  if (decoded === undefined) return left(NOT_OURS);
  const { events, rejected } = decoded;
  if (events.length === 0) return left("rejected again");
  return events.every((event) => isFuture(event, now)) ? left(STILL_AHEAD) : { to: "every exporter", events, rejected };
}

/** A job of one of the exporter's two queues. Which one depends on the decoder that can read it. */
function replayedPayload(exporter: string, payload: unknown): Replayed {
  if (isRead(() => decodeBatch(payload))) return { to: "queue", queueName: eventsQueueName(exporter), jobName: JOB_NAMES.batch, payload };
  if (isRead(() => decodeIds(payload))) return { to: "queue", queueName: processingQueueName(exporter), jobName: JOB_NAMES.ids, payload };
  return left("payload of an unknown version");
}

function isRead(decode: () => unknown): boolean {
  try {
    decode();
    return true;
  } catch (thrown) {
    if (thrown instanceof PermanentError || thrown instanceof NewerPayloadError) return false;
    throw thrown;
  }
}

function left(because: LeftBecause): Replayed {
  return { to: "nobody", because };
}
