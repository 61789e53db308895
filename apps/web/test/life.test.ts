import { describe, expect, it } from "vitest";
import { exactMs } from "../client/api/exact.ts";
import type { Attempt, TreeTask } from "../client/api/types.ts";
import { lifeOf, partsOf, partsOfNode, sumsOf } from "../client/parts/life.ts";

const NOW = exactMs(at(100));

function at(seconds: number): string {
  return new Date(Date.UTC(2026, 0, 31) + seconds * 1_000).toISOString().replace("Z", "000Z");
}

function attempt(number: number, started: number, ended: number, outcome: Attempt["outcome"]): Attempt {
  return {
    number,
    outcome,
    started_at: at(started),
    ended_at: at(ended),
    received_at: at(started - 0.1),
    worker: null,
    queue: null,
    exception: null,
    traceback: null,
  };
}

function node(fields: Partial<TreeTask>): TreeTask {
  const times = {
    eta: null,
    sent_at: at(0),
    received_at: null,
    started_at: at(1),
    finished_at: at(2),
    seen_at: at(0),
    wait_time: 1,
    duration: 1,
  };
  return {
    task_id: "a",
    name: null,
    queue: null,
    status: "SUCCESS",
    worker: null,
    retries: 0,
    parent_id: null,
    runtime: 1,
    ...times,
    ...fields,
  };
}

describe("the life of a task", () => {
  it("has a part for each attempt, and for what was between them", () => {
    const attempts = [attempt(1, 1, 3, "retry"), attempt(2, 13, 14, "failure")];
    const parts = partsOf({ sent_at: at(0), eta: null, wait_time: 1, attempts }, () => NOW);
    expect(parts.map(({ kind }) => kind)).toEqual(["waited", "ran", "between", "failed"]);
    expect(sumsOf(parts)).toBe("waited 1 s, between attempts 10 s, ran 3 s");
    expect(lifeOf(parts)).toBe("14 s: waited 1 s, between attempts 10 s, ran 3 s");
    expect(lifeOf([])).toBeUndefined();
  });

  it("does not count the time before an ETA as waiting", () => {
    const parts = partsOf({ sent_at: at(0), eta: at(60), wait_time: 2, attempts: [attempt(1, 62, 63, "success")] }, () => NOW);
    expect(sumsOf(parts)).toBe("held back until its ETA 1 min, waited 2 s, ran 1 s");
  });

  it.each([
    ["is to come", 300, null, "held back until its ETA 1 min 40 s"],
    ["has come", 70, null, "held back until its ETA 1 min 10 s, waited 30 s"],
    ["had passed when it was sent", -70, null, "waited 1 min 40 s"],
    ["was to come when it was revoked", 70, 60, "held back until its ETA 1 min"],
  ])("of a task that has not started, and whose ETA %s, is told apart too", (_, eta, revoked, told) => {
    const [status, finished_at] = revoked === null ? (["RETRY", null] as const) : (["REVOKED", at(revoked)] as const);
    const outcome = revoked === null ? "waiting" : "revoked";
    const attempts = [{ ...attempt(1, 0, 0, outcome), started_at: null, ended_at: finished_at }];
    expect(sumsOf(partsOf({ sent_at: at(0), eta: at(eta), wait_time: null, attempts }, () => NOW))).toBe(told);
    const other = node({ eta: at(eta), status, started_at: null, finished_at, wait_time: null });
    expect(sumsOf(partsOfNode(other, () => NOW))).toBe(told);
  });

  it("of another task in a tree shows its last run", () => {
    const retried = node({ retries: 2, finished_at: at(40), duration: 5, status: "FAILURE" });
    expect(sumsOf(partsOfNode(retried, () => NOW))).toBe("waited 1 s, between attempts 34 s, ran 5 s");
    expect(sumsOf(partsOfNode(node({}), () => NOW))).toBe("waited 1 s, ran 1 s");
    expect(sumsOf(partsOfNode(node({ status: "RETRY", finished_at: null, retries: 1 }), () => NOW))).toBe(
      "waited 1 s, between attempts 1 min 39 s",
    );
  });

  it("is told in microseconds", () => {
    const quick = node({ started_at: "2026-01-31T00:00:00.000400Z", finished_at: "2026-01-31T00:00:00.000900Z", wait_time: 0.0004 });
    expect(sumsOf(partsOfNode(quick, () => NOW))).toBe("waited 0.4 ms, ran 0.5 ms");
  });
});
