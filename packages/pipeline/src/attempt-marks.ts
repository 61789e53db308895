/**
 * What is known of a task's attempts, as marks: `+` for one that is wanted and `-` for one that is not, `s` where its `task-sent` told and `r`
 * where its `task-received` did, and which attempt it is. `?` says that events passed of which nothing was known. Marks are only added, and what
 * follows from them does not depend on the order in which they come.
 */
import type { CeleryEvent } from "@celery-metrics-exporter/events";
import type { Description, EventFilter } from "./task-filter.ts";

/** What follows for the task as a whole. */
export type Standing = "kept" | "excluded" | "unknown";

/** Events have passed of which nothing was known. */
export const PASSED = "?";
/** An unwanted attempt of which nothing else is known any more. */
export const UNWANTED = "-s";

/** Undefined for a description that has neither name nor queue. One that another filter has marked is not wanted. */
export function markOf(event: Description, filter: EventFilter): string | undefined {
  const verdict = event.excluded === true ? "excluded" : filter.verdictOn(event);
  if (verdict === undefined) return undefined;
  return `${verdict === "included" ? "+" : "-"}${event.type === "task-sent" ? "s" : "r"}${attemptOf(event)}`;
}

/**
 * A task is kept if any attempt of it is wanted. An attempt is judged by its `task-sent`, as its `task-received` has no queue, and perhaps a
 * shadow name; by its `task-received` where there is no `task-sent`, or until it comes.
 */
export function standingOf(marks: readonly string[]): Standing {
  let excluded = false;
  for (const mark of marks) {
    if (mark.startsWith("+s")) return "kept";
    if (mark.startsWith("+r") && !marks.includes(`-s${mark.slice(2)}`)) return "kept";
    if (mark.startsWith("-")) excluded = true;
  }
  return excluded ? "excluded" : "unknown";
}

/** Whether a `task-sent` of an attempt that is wanted is known: nothing changes that any more. */
export function isKeptForGood(marks: readonly string[]): boolean {
  return marks.some((mark) => mark.startsWith("+s"));
}

/** Whether any attempt is not wanted. */
export function hasUnwanted(marks: readonly string[]): boolean {
  return marks.some((mark) => mark.startsWith("-"));
}

/** Whether events may have passed before the task was excluded. */
export function hasPassed(marks: readonly string[]): boolean {
  return marks.some((mark) => mark === PASSED || mark.startsWith("+"));
}

/** Whether the attempt that an event describes is not wanted, as far as these marks and the event tell. */
export function isUnwanted(event: Description, marks: readonly string[], filter: EventFilter): boolean {
  const own = markOf(event, filter)?.startsWith("-") === true;
  if (event.type === "task-sent") return own;
  const attempt = attemptOf(event);
  const [wanted, unwanted] = [marks.includes(`+s${attempt}`), marks.includes(`-s${attempt}`)];
  return wanted === unwanted ? own : unwanted;
}

/** The same in both descriptions of an attempt, and mostly another in those of another attempt: a retry, a replacement, the last task of a chain. */
function attemptOf({ retries = 0, again = false, parent_id = "" }: Description): string {
  return `${Math.max(0, retries)}${again ? "a" : ""}${parent_id === "" ? "" : `.${parent_id.replaceAll(/[^0-9A-Za-z]/g, "").slice(-8)}`}`;
}

/** Whether the message was sent from within the task itself: a retry, or a replacement. */
export function isFurtherAttempt(event: CeleryEvent): boolean {
  const { again = false, retries = 0 } = event as { readonly again?: boolean; readonly retries?: number };
  return again || retries > 0;
}
