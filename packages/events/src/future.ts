/** Events from the future: a sender's clock that is far ahead would beat all real events, and escape retention, for as long as it is ahead. */
import type { CeleryEvent } from "./event.ts";

/** Seconds. Local time that was taken for UTC is at most 14 hours ahead, so that no time zone counts as the future. */
export const MAX_AHEAD_SECONDS = 86_400;

/** @param now Unix time in seconds. */
export function isFuture({ timestamp }: CeleryEvent, now: number): boolean {
  return timestamp > now + MAX_AHEAD_SECONDS;
}
