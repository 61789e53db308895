/**
 * Which events of a batch are stored in `celery_task_event`. docs/adr/0015-task-events.md explains why these, together with the row and what the upsert
 * adds (`left_out`), are enough to derive every attempt.
 */
import { type CeleryEvent, type TaskEvent, isFinal, isTaskEvent, reportsExit, toMicroseconds } from "@celery-metrics-exporter/celery";
import { revokedBy, storableOrAbsent, storableText } from "../merge/task-row.ts";

/** `unusual`: what a row cannot show. `all`: every event of a task. */
export const HISTORY_MODES = ["off", "unusual", "all"] as const;
export type HistoryMode = (typeof HISTORY_MODES)[number];

/** A row of `celery_task_event` in memory: keys are column names, instants are microseconds, and undefined is NULL. */
export interface TaskEventRow {
  readonly task_id: string;
  readonly at: number;
  readonly type: TaskEvent["type"];
  readonly hostname: string;
  readonly name?: string | undefined;
  readonly queue?: string | undefined;
  readonly retries?: number | undefined;
  readonly again?: true | undefined;
  readonly runtime?: number | undefined;
  readonly exception?: string | undefined;
  readonly traceback?: string | undefined;
  readonly revoked_by?: string | undefined;
  readonly requeue?: true | undefined;
  readonly exited?: true | undefined;
}

/** The events to store, in any order and perhaps with repetitions. */
export function toTaskEventRows(events: readonly CeleryEvent[], mode: HistoryMode): TaskEventRow[] {
  if (mode === "off") return [];
  const tasks = events.filter(isTaskEvent);
  return (mode === "all" ? tasks : unusual(tasks)).map(toRow);
}

/**
 * - what has no place in a row: retries, requeued messages, and messages of later attempts;
 * - starts and ends of a task that has several of them in the batch: the row keeps two starts and one end.
 */
function unusual(events: readonly TaskEvent[]): TaskEvent[] {
  const kept: TaskEvent[] = [];
  const starts = new Map<string, TaskEvent>();
  const ends = new Map<string, TaskEvent>();
  const several = new Set<TaskEvent>();
  for (const event of events) {
    if (isOutsideOfRow(event)) {
      kept.push(event);
      continue;
    }
    const firsts = event.type === "task-started" ? starts : isFinal(event) ? ends : undefined;
    if (firsts === undefined) continue;
    const id = storableText(event.uuid);
    const first = firsts.get(id);
    if (first === undefined) firsts.set(id, event);
    else if (!isSame(event, first)) {
      kept.push(event);
      several.add(first);
    }
  }
  kept.push(...several);
  return kept;
}

function isOutsideOfRow(event: TaskEvent): boolean {
  switch (event.type) {
    case "task-retried":
      return true;
    case "task-rejected":
      return event.requeue === true;
    case "task-sent":
    case "task-received":
      return event.again === true || (event.retries ?? 0) > 0;
    default:
      return false;
  }
}

function isSame(a: TaskEvent, b: TaskEvent): boolean {
  return a.type === b.type && a.hostname === b.hostname && toMicroseconds(a.timestamp) === toMicroseconds(b.timestamp);
}

function toRow(event: TaskEvent): TaskEventRow {
  const key = {
    task_id: storableText(event.uuid),
    at: toMicroseconds(event.timestamp),
    type: event.type,
    hostname: storableText(event.hostname),
  };
  switch (event.type) {
    case "task-sent":
    case "task-received":
      return {
        ...key,
        name: storableOrAbsent(event.name),
        queue: event.type === "task-sent" ? storableOrAbsent(event.queue) : undefined,
        retries: event.retries,
        again: event.again === true || undefined,
      };
    case "task-succeeded":
      return { ...key, runtime: event.runtime };
    case "task-failed":
    case "task-retried":
      return {
        ...key,
        exception: storableOrAbsent(event.exception),
        traceback: storableOrAbsent(event.traceback),
        exited: reportsExit(event) || undefined,
      };
    case "task-revoked":
      return { ...key, revoked_by: storableOrAbsent(revokedBy(event)) };
    case "task-rejected":
      return { ...key, requeue: event.requeue === true || undefined };
    case "task-started":
      return key;
    default:
      return event satisfies never;
  }
}
