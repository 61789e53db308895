import { describe, expect, it } from "vitest";
import type { TreeAnswer, TreeTask } from "../client/api/types.ts";
import { chordsOf, isSentAtEnd } from "../client/parts/chord.ts";

/** A task that succeeded, by the second in which it was sent and the one in which it ended. */
function task(id: string, parent: string | null, seconds: readonly [sent: number, ended: number], more: Partial<TreeTask> = {}): TreeTask {
  const [sent, ended] = seconds.map((second) => new Date(1_800_000_000_000 + second * 1_000).toISOString());
  return {
    task_id: id,
    parent_id: parent,
    name: id,
    status: "SUCCESS",
    sent_at: sent,
    seen_at: sent,
    finished_at: ended,
    ...more,
  } as TreeTask;
}

function chords(nodes: readonly TreeTask[]): unknown {
  const found = [...chordsOf({ root: "outer", nodes: [...nodes], truncated: false } satisfies TreeAnswer).values()];
  return found.map(({ sender, parts, body }) => [sender, parts.map(({ task_id }) => task_id).join(" "), body?.task_id]);
}

const RUNNING = { status: "STARTED", finished_at: null } as const;
const outer = task("outer", null, [0, 1]);
const [a, b] = [task("a", "outer", [1, 10]), task("b", "outer", [1, 20])];

/** The parents are those that Celery 5.2 and 5.6 report. */
describe("a chord in a tree", () => {
  it("finds the body below the last task", () => {
    expect(chords([outer, a, b, task("body", "b", [20, 25]), task("next", "body", [25, 30])])).toEqual([["outer", "a b", "body"]]);
  });

  it("finds the body below celery.chord_unlock", () => {
    const unlock = task("unlock", "outer", [1, 21], { name: "celery.chord_unlock" });
    expect(chords([outer, unlock, a, b, task("body", "unlock", [21, 25])])).toEqual([["outer", "a b", "body"]]);
  });

  it("leaves out what cannot be part of it: what failed, runs or ended later", () => {
    const others = [task("c", "outer", [1, 5], { status: "FAILURE" }), task("d", "outer", [1, 0], RUNNING), task("e", "outer", [1, 40])];
    expect(chords([outer, a, b, ...others, task("body", "b", [20, 25])])).toEqual([["outer", "a b", "body"]]);
  });

  it("knows no body before all have succeeded", () => {
    expect(chords([outer, a, task("b", "outer", [1, 0], RUNNING)])).toEqual([["outer", "a b", undefined]]);
    expect(chords([outer, a, task("b", "outer", [1, 5], { status: "FAILURE" })])).toEqual([["outer", "a b", undefined]]);
  });

  it("takes no tasks for a body that were sent by tasks while they ran", () => {
    expect(chords([outer, a, b, task("child", "b", [5, 8])])).toEqual([["outer", "a b", undefined]]);
  });

  it("takes no task for a body that was sent while its parent had long to run, or before the others had ended", () => {
    const during = task("during", "b", [19.7, 25]);
    expect(chords([outer, a, b, during])).toEqual([["outer", "a b", undefined]]);
    // The worker sends the body just before the event of the success.
    expect(chords([outer, a, b, task("body", "b", [19.9, 25])])).toEqual([["outer", "a b", "body"]]);
    expect(chords([outer, task("a", "outer", [1, 22]), b, task("after", "b", [20, 25])])).toEqual([]);
  });

  it("says nothing of chains side by side, of a single chain, and of a part of a tree", () => {
    expect(chords([outer, a, b, task("after a", "a", [10, 12]), task("after b", "b", [20, 22])])).toEqual([]);
    expect(chords([outer, a, task("after a", "a", [10, 12])])).toEqual([]);
    expect(chordsOf({ root: "outer", nodes: [outer, a, b], truncated: true }).size).toBe(0);
  });

  it("tells what was sent at the end of a task", () => {
    expect(isSentAtEnd(task("body", "a", [10, 12]), a)).toBe(true);
    expect(isSentAtEnd(task("child", "a", [5, 12]), a)).toBe(false);
    expect(isSentAtEnd(task("child", "a", [12, 13]), { ...a, status: "FAILURE" })).toBe(false);
  });
});
