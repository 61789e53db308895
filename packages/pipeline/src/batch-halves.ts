/** A batch in two, where it is too large or suspected of something. */
import type { EventBatch } from "./batch.ts";
import { halves } from "./quarantine.ts";

/** The excluded ids, which need not be with any events, go with the first half; the other is told that there are filters (`EventBatch`). */
export function batchHalves({ excluded, ...batch }: EventBatch): EventBatch[] {
  return halves(batch.events).map((events, half) => {
    return { ...batch, events, ...(excluded !== undefined && { excluded: half === 0 ? excluded : [] }) };
  });
}
