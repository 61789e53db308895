import { describe, expect, it } from "vitest";
import { Evidence } from "../../src/deliver/evidence.ts";

const job = (id: string, begun = 1): { id: string; begun: number } => ({ id, begun });

describe("evidence", () => {
  it("remembers the suspects of held jobs until they are done", () => {
    const evidence = new Evidence<string>({ kindOf: (item) => item.slice(0, 1), subjectOf: (item) => item.slice(1) });
    evidence.hold(job("first"), [["ax", 3]]);
    evidence.hold(job("second"), [["bx", 0]]);
    expect(evidence.takenBefore("first", "ax")).toBe(3);
    expect(evidence.takenBefore("first", "bx")).toBeUndefined();
    expect(evidence.beside("first")).toEqual({ kinds: ["b"], subjects: [] });
    expect(evidence.beside("second")).toEqual({ kinds: ["a"], subjects: ["x"] });
    evidence.hold(job("first", 2), [["ax", 3]]);
    expect(evidence.beside("second")).toEqual({ kinds: ["a"], subjects: ["x"] });
    evidence.release("first");
    expect(evidence.beside("second")).toEqual({ kinds: [], subjects: [] });
  });

  it("remembers suspects that are not tried this time", () => {
    const evidence = new Evidence<string>({ kindOf: () => "" });
    evidence.hold(job("a"), [
      ["x", 1],
      ["y", 2],
      ["z", 3],
    ]);
    evidence.hold(job("a", 2), [["x", 1]], ["y", "new"]);
    expect(["x", "y", "z", "new"].map((item) => evidence.takenBefore("a", item))).toEqual([1, 2, undefined, undefined]);
  });

  it("counts a job as fresh if it was never begun, or was held the last time", () => {
    const evidence = new Evidence<string>({ kindOf: () => "" });
    expect(evidence.isFresh(job("a", 1))).toBe(true);
    expect(evidence.isFresh(job("a", 2))).toBe(false);
    evidence.hold(job("a", 2), []);
    expect(evidence.isFresh(job("a", 3))).toBe(true);
    expect(evidence.isFresh(job("a", 4))).toBe(false);
  });

  it("counts a job as fresh if it was only put off since, and remembers its suspects", () => {
    const evidence = new Evidence<string>({ kindOf: () => "" });
    evidence.putOff(job("a", 1));
    expect(evidence.isFresh(job("a", 2))).toBe(true);
    evidence.hold(job("a", 2), [["x", 1]]);
    evidence.putOff(job("a", 3));
    expect(evidence.isFresh(job("a", 4))).toBe(true);
    expect(evidence.takenBefore("a", "x")).toBe(1);
    evidence.putOff(job("b", 2));
    expect(evidence.isFresh(job("b", 3))).toBe(false);
  });

  it("does not grow: it forgets jobs not seen for long, and the oldest of too many", () => {
    let now = 0;
    const evidence = new Evidence<string>({ kindOf: () => "" }, () => now);
    for (let index = 0; index < 1_500; index++) evidence.hold(job(`job ${index}`), [["x", 0]]);
    expect(evidence.beside("another").kinds).toHaveLength(1_000);
    now += 500_000;
    evidence.hold(job("job 1499", 2), [["x", 0]]);
    now += 500_000;
    evidence.hold(job("new"), [["x", 0]]);
    expect(evidence.beside("another").kinds).toHaveLength(2);
  });
});
