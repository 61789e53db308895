/** How fast a queue grows, and what comes in and goes out. */
import type { Queue, QueueList } from "../api/types.ts";

/** In the latest steps, a minute. Undefined if it is not known. */
export interface Flow {
  /** How much longer it got. */
  readonly change: number | undefined;
  readonly sent: number | undefined;
  readonly taken: number | undefined;
}

const LATEST_STEPS = 4;
const MINUTE_MS = 60_000;

export function flowOf({ lengths, messages, observed_at, sent }: Queue, { from, step_seconds }: QueueList): Flow {
  const stepMs = step_seconds * 1_000;
  const known = lengths.flatMap((length, index) => (length === null ? [] : [{ length, index }])).slice(-LATEST_STEPS);
  const [first] = known;
  const last = known.at(-1);
  let change: number | undefined;
  if (first !== undefined && last !== undefined && first !== last) {
    const by = (messages ?? last.length) - first.length;
    // A step has its greatest length, which is the last one if the queue grows.
    const firstAt = Date.parse(from) + first.index * stepMs + (by > 0 ? stepMs - MINUTE_MS / 2 : MINUTE_MS / 2);
    change = by / Math.max(1, (Date.parse(observed_at) - firstAt) / MINUTE_MS);
  }
  // As long as for the change: from the end of the step with the first length. The last step is not over.
  const latest = sent?.slice(first === undefined ? -1 - LATEST_STEPS : first.index + 1, -1);
  const perMinute =
    latest === undefined || latest.length === 0
      ? undefined
      : latest.reduce((sum, count) => sum + count, 0) / latest.length / (step_seconds / 60);
  return {
    change,
    sent: perMinute,
    taken: perMinute === undefined || change === undefined ? undefined : Math.max(0, perMinute - change),
  };
}
