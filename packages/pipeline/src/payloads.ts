/** A batch as payloads of bearable size: one message may hold a list of 100,000 events, or a few that are megabytes long. */
import { encodeBatch, type BatchPayload, type EventBatch } from "./batch.ts";
import { batchHalves } from "./batch-halves.ts";

/** As many as the receiver may be told to gather (`BATCH_MAX_EVENTS`): exporters bear that. */
export const MAX_PAYLOAD_EVENTS = 10_000;
/** No less than what the receiver gathers by default (`BATCH_MAX_BYTES`): only a message that is large by itself comes here. */
export const MAX_PAYLOAD_CHARACTERS = 4_194_304;

/** Mostly one. What is told of tasks is in each. A single event is never cut. */
export function* payloadsOf(batch: EventBatch, omits: ReadonlySet<string>): Generator<BatchPayload> {
  const { events } = batch;
  if (events.length <= MAX_PAYLOAD_EVENTS) {
    const payload = encodeBatch(batch, omits);
    if (events.length < 2 || totalLength(payload.texts) <= MAX_PAYLOAD_CHARACTERS) {
      yield payload;
      return;
    }
  }
  for (const half of batchHalves(batch)) yield* payloadsOf(half, omits);
}

function totalLength(texts: readonly string[]): number {
  let length = 0;
  for (const text of texts) length += text.length;
  return length;
}
