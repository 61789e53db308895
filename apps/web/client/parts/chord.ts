/**
 * What the events of a tree let us say about chords. No event names a chord or its group. But Celery sends the body only when all other tasks have
 * succeeded, from the last of them, or from `celery.chord_unlock` if the result backend cannot count. A chord that a client sent has no tree: each of
 * its tasks is a root of its own, and the body is below the last one.
 */
import { exactMs } from "../api/exact.ts";
import type { TreeAnswer, TreeTask } from "../api/types.ts";

const UNLOCK = "celery.chord_unlock";
/** Clocks of hosts differ. */
const CLOCKS_MS = 1_000;
/** A worker sends what follows a task just before the event of its success, both by the same clock. */
const END_MS = 250;

/** Tasks that one task sent and that may be a chord, perhaps among others, and the task that was sent when the last of them ended: perhaps its body. */
export interface Chord {
  readonly sender: string;
  readonly parts: readonly TreeTask[];
  /** Undefined if there is none yet, or if it cannot be told which one it is. */
  readonly body: TreeTask | undefined;
}

export function beginOf({ sent_at, received_at, started_at, seen_at }: TreeTask): number {
  return exactMs(sent_at ?? received_at ?? started_at ?? seen_at);
}

export function isUnlock({ name }: Pick<TreeTask, "name">): boolean {
  return name === UNLOCK;
}

/** Whether a task had succeeded before this time. */
function succeededBefore({ status, finished_at }: TreeTask, time: number, toleranceMs: number): boolean {
  return status === "SUCCESS" && finished_at !== null && exactMs(finished_at) <= time + toleranceMs;
}

/** Whether a task was sent at the end of its parent: the next one of a chain, a callback, or the body of a chord. */
export function isSentAtEnd(task: TreeTask, parent: TreeTask): boolean {
  return succeededBefore(parent, beginOf(task), END_MS);
}

/** Groups of tasks that one task sent and that may be a chord, by their sender. If several of them sent a task at their end, they are chains. */
export function chordsOf({ nodes, truncated }: TreeAnswer): ReadonlyMap<string, Chord> {
  const children = new Map<string, TreeTask[]>();
  for (const task of nodes) {
    if (task.parent_id === null) continue;
    const siblings = children.get(task.parent_id);
    if (siblings === undefined) children.set(task.parent_id, [task]);
    else siblings.push(task);
  }
  const chords = new Map<string, Chord>();
  for (const [sender, sent] of truncated ? [] : children) {
    const parts = sent.filter((task) => !isUnlock(task));
    if (parts.length < 2) continue;
    const after = sent.flatMap((task) => (children.get(task.task_id) ?? []).filter((child) => isSentAtEnd(child, task)));
    const [body] = after;
    if (body === undefined) chords.set(sender, { sender, parts, body });
    else if (after.length === 1) {
      const before = parts.filter((task) => succeededBefore(task, beginOf(body), CLOCKS_MS));
      if (before.length > 1) chords.set(sender, { sender, parts: before, body });
    }
  }
  return chords;
}
