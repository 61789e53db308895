/** Which things are missing in the data, without the words for them: the navigation counts them too. */
import type { DataHealth } from "../api/types.ts";
import { now } from "./time.tsx";

export type Gap = "late" | "silent" | "queue" | "cut" | "start" | "end" | "old";

/** Shorter lags are those of a batch. */
const LATE_SECONDS = 10;
const ROLLED_UP_MS = 60_000;
/** A few tasks always come without: those whose sender was not restarted. */
const MANY = 0.05;

export function isLate({ lag }: DataHealth): boolean {
  return lag !== null && lag > LATE_SECONDS;
}

export function gapsOf(health: DataHealth): readonly Gap[] {
  const { tasks, without_queue, cut, without_start, without_end, silent_workers, rolled_up_at } = health;
  const gaps: readonly (readonly [Gap, boolean])[] = [
    ["late", isLate(health)],
    ["silent", silent_workers.length > 0],
    ["queue", tasks > 0 && without_queue > tasks * MANY],
    ["cut", cut > 0],
    ["start", without_start > tasks * MANY],
    ["end", without_end > 0],
    ["old", tasks > 0 && (rolled_up_at === null || now.value - Date.parse(rolled_up_at) > ROLLED_UP_MS)],
  ];
  return gaps.filter(([, is]) => is).map(([gap]) => gap);
}
