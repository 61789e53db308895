/** Times: relative, with the exact one in the title. */
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { ago, clockTime, duration, exactTime } from "./format.ts";
import { Icon } from "./icon.tsx";

/** Milliseconds since 1970, once a second while the tab is visible. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1_000);

/** The present, for what is under way: who asks is drawn again every second. */
export function currentTime(): number {
  return now.value;
}

export interface TimeProps {
  /** ISO 8601 */
  readonly at: string;
  readonly clock?: boolean;
}

export function Time({ at, clock = false }: TimeProps): JSX.Element {
  const date = new Date(at);
  return (
    <time dateTime={at} title={exactTime(date)}>
      {clock ? clockTime(date) : relativeTime(date)}
    </time>
  );
}

/** Whoever shows it is drawn again every second. */
function relativeTime(date: Date): string {
  const since = now.value - date.getTime();
  return since < -1_500 ? `in ${ago(-since)}` : `${ago(Math.max(0, since))} ago`;
}

/** A duration in seconds; a dash without one. */
export function Duration({ seconds }: { readonly seconds: number | null | undefined }): JSX.Element {
  return seconds === null || seconds === undefined ? <span class="nil">–</span> : <>{duration(seconds)}</>;
}

/** Seconds of waiting that are worth a colour, and a sign. */
const LONG_WAIT = { some: 15, much: 300 };

/** For how long a task has waited. */
export function Wait({ seconds }: { readonly seconds: number }): JSX.Element {
  const isMuch = seconds > LONG_WAIT.much;
  return (
    <span class={isMuch ? "bad" : seconds > LONG_WAIT.some ? "warn" : undefined}>
      {isMuch && <Icon name="warn" class="inl" label="Long:" />} {duration(seconds)}
    </span>
  );
}
