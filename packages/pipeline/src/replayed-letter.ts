/** What becomes of a dead letter when it is replayed. */
import { decodeAgain, isFuture, type CeleryEvent, type Decoded, type ReadAs, type Rejected } from "@celery-metrics-exporter/events";
import { decodeBatch, encodeBatch } from "./batch.ts";
import { RECEIVER, REDACTED, type DeadLetter } from "./letter.ts";
import { NewerPayloadError, PermanentError } from "./errors.ts";
import { EXPORTERS } from "./exporters.ts";
import { decodeIds } from "./ids-batch.ts";
import { JOB_NAMES } from "./job-names.ts";
import { eventsQueueName, processingQueueName } from "./queue-names.ts";

/** Why a letter stays where it is. Shown as it is written here. */
export type LeftBecause =
  | "cut: only a part was kept"
  | "redacted: nothing of it was kept"
  | "rejected again"
  | "more than a day ahead of this host's clock"
  | "payload of an unknown version"
  | "of an exporter there is not"
  | "not a letter of ours";

const STILL_AHEAD = "more than a day ahead of this host's clock";

export type Replayed =
  /** Events, and what is still rejected among them, as if they came from the broker now. */
  | {
      readonly to: "every exporter";
      readonly events: readonly CeleryEvent[];
      readonly rejected: readonly Rejected[];
      /** Set where the events were decoded before, so that some may have been redacted then. */
      readonly wasDecoded?: true;
    }
  | { readonly to: "exporter"; readonly exporter: string; readonly event: CeleryEvent }
  | { readonly to: "forget"; readonly exporter: string; readonly id: string }
  | { readonly to: "process"; readonly exporter: string; readonly id: string }
  | { readonly to: "queue"; readonly queueName: string; readonly jobName: string; readonly payload: unknown }
  | { readonly to: "nobody"; readonly because: LeftBecause };

/**
 * @param letter as it was stored, by this release or another.
 * @param now Unix time in seconds. What was refused as being from the future may no longer be, because a clock was set or time has passed.
 */
export function replayed(letter: Partial<DeadLetter>, now = Date.now() / 1_000): Replayed {
  const { source = "", event, raw, readAs, payload } = letter;
  if (source !== RECEIVER && !EXPORTERS.some(({ name }) => name === source)) return left("of an exporter there is not");
  if (letter.cut === true) return left("cut: only a part was kept");
  if (event !== undefined) {
    if (source !== RECEIVER) return { to: "exporter", exporter: source, event };
    return isFuture(event, now) ? left(STILL_AHEAD) : { to: "every exporter", events: [event], rejected: [], wasDecoded: true };
  }
  if (payload !== undefined) return replayedPayload(source, payload);
  if (raw === undefined) return left("not a letter of ours");
  switch (readAs) {
    case undefined:
      return left(raw === REDACTED ? "redacted: nothing of it was kept" : "cut: only a part was kept");
    case "id to forget":
      return { to: "forget", exporter: source, id: raw };
    case "id to process":
      return { to: "process", exporter: source, id: raw };
    default:
      return replayedInput(raw, readAs, now);
  }
}

/** How to hide what must not be stored. Both change the events in place. */
export interface ReplayRedaction {
  /** For what was decoded just now, as the receiver hides it. */
  readonly ofSent: (decoded: Decoded) => Decoded;
  /** For events that were in a queue before: some may have been redacted then. */
  readonly ofStored: (decoded: Decoded) => Decoded;
}

/** The same, with everything hidden that is about to be stored. Ids hold nothing to hide. */
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

/** Written anew: fields that only a newer release can read are left out. */
function redactedPayload(payload: unknown, { ofStored }: ReplayRedaction): unknown {
  const batch = decodeBatch(payload);
  return encodeBatch({ ...batch, events: ofStored({ events: [...batch.events], rejected: [] }).events });
}

function replayedInput(raw: string, readAs: ReadAs, now: number): Replayed {
  const { events, rejected } = decodeAgain(raw, readAs);
  if (events.length === 0) return left("rejected again");
  return events.every((event) => isFuture(event, now)) ? left(STILL_AHEAD) : { to: "every exporter", events, rejected };
}

/** A job of one of the exporter's two queues, which is told by what can read it. */
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
