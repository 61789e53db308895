/** What to do about dead letters, in one sentence per source and reason. */
import { FUTURE, RECEIVER, type DeadLetter } from "./letter.ts";

const JSON_EVENTS = 'set event_serializer = "json" in Celery';
const FOREIGN = "find out what else publishes to the event exchange; Celery itself sends no such messages";

/** Reasons of the receiver. Others of its reasons have the default. */
const OF_RECEIVER: Readonly<Record<string, string>> = {
  pickle: JSON_EVENTS,
  content_type: JSON_EVENTS,
  content_encoding: JSON_EVENTS,
  envelope: FOREIGN,
  not_an_event: FOREIGN,
  type: FOREIGN,
  timestamp: `check the clock of the sender; otherwise ${FOREIGN}`,
  [FUTURE]: `set the sender's clock by NTP; if instead the receiver's was wrong, set that one, and run \`celery-metrics-exporter replay --source ${RECEIVER} --reason ${FUTURE}\``,
  too_large: "send less in one event, or fewer events in one message",
};
const DEFAULT_OF_RECEIVER =
  "look at the letters in the dashboard; after an upgrade that can read them, run `celery-metrics-exporter replay`";

/** Reasons of exporters. */
const OF_EXPORTER: Readonly<Record<string, string>> = {
  refused: "correct what the detail says",
  failed: "look for the error in the log of the processor, and report it if the exporter is at fault",
  crash: "look at how the process ended: what it logged last, and whether it ran out of memory",
  payload:
    "find out what put this job into the exporter's queue: an older release, or something else than the receiver; if a release can read it, take that one",
};
const DEFAULT_OF_EXPORTER = "look at the letters in the dashboard";

/** How to get rid of such letters, and what to do with those there are. */
export function adviceFor({ source, reason }: Pick<DeadLetter, "source" | "reason">): string {
  if (source === RECEIVER) return OF_RECEIVER[reason] ?? DEFAULT_OF_RECEIVER;
  return `${OF_EXPORTER[reason] ?? DEFAULT_OF_EXPORTER}, then run \`celery-metrics-exporter replay --source ${source} --reason ${reason}\``;
}
