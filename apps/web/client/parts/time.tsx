/** Times: relative, with the exact one in the title. */
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { ago, clockTime, duration, exactTime } from "./format.ts";

/** Milliseconds since 1970, once a second while the tab is visible. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1_000);

export interface TimeProps {
  /** ISO 8601 */
  readonly at: string;
  readonly clock?: boolean;
}

export function Time({ at, clock = false }: TimeProps): JSX.Element {
  const date = new Date(at);
  const since = now.value - date.getTime();
  return (
    <time dateTime={at} title={exactTime(date)}>
      {clock ? clockTime(date) : since < -1_500 ? `in ${ago(-since)}` : `${ago(Math.max(0, since))} ago`}
    </time>
  );
}

/** A duration in seconds; a dash without one. */
export function Duration({ seconds }: { readonly seconds: number | null | undefined }): JSX.Element {
  return seconds === null || seconds === undefined ? <span class="nil">–</span> : <>{duration(seconds)}</>;
}
