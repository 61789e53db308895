/** A batch in two, where it is too large or suspected of something. */
import type { EventBatch } from "./batch.ts";
import { halves } from "./quarantine.ts";

/** What is told of tasks goes with both halves: either may have their events, or come first. */
export function batchHalves(batch: EventBatch): EventBatch[] {
  return halves(batch.events).map((events) => ({ ...batch, events }));
}
