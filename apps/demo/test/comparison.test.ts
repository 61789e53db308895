import { describe, expect, it } from "vitest";
import { EventCounts, type TaskCounts, compare, renderComparison, renderResult, type FinalState } from "../src/comparison.ts";

function counts(...entries: readonly (readonly [string, FinalState, number])[]): EventCounts {
  const result = new EventCounts();
  for (const entry of entries) result.add(...entry);
  return result;
}

const everything = (): EventCounts => counts(["shop.pay", "SUCCESS", 3], ["shop.pay", "FAILURE", 1], ["shop.mail", "SUCCESS", 2]);
const twoOfA = (): EventCounts => counts(["a", "SUCCESS", 2]);

describe("the comparison", () => {
  it("agrees when every side has the same counts", () => {
    const { rows, agrees } = compare({ celery: everything(), datadog: everything(), postgres: everything(), prometheus: everything() });
    expect(agrees).toBe(true);
    expect(rows.map(({ name, state, celery }) => [name, state, celery])).toEqual([
      ["shop.mail", "SUCCESS", 2],
      ["shop.pay", "SUCCESS", 3],
      ["shop.pay", "FAILURE", 1],
    ]);
  });

  it.each([
    ["Datadog counts one twice", { datadog: counts(["a", "SUCCESS", 3]) }],
    ["Postgres lacks one", { postgres: counts(["a", "SUCCESS", 1]) }],
    ["a side has another state", { postgres: counts(["a", "SUCCESS", 2], ["a", "REVOKED", 1]) }],
    ["a side has another name", { datadog: counts(["a", "SUCCESS", 2], ["unknown", "FAILURE", 1]) }],
    ["a side has nothing", { datadog: counts() }],
    ["Prometheus reads one more", { prometheus: counts(["a", "SUCCESS", 3]) }],
  ])("disagrees when %s", (_, sides) => {
    expect(compare({ celery: twoOfA(), datadog: twoOfA(), postgres: twoOfA(), prometheus: twoOfA(), ...sides }).agrees).toBe(false);
  });

  it.each(["REJECTED", "FAILURE"] as const)("agrees when Celery's events call rejected tasks %s", (state) => {
    const received = (): TaskCounts => counts(["a", state, 2]);
    const celery = counts(["a", "REJECTED", 2]);
    const agrees = (datadog: TaskCounts, postgres: TaskCounts): boolean =>
      compare({ celery, datadog, postgres, prometheus: undefined }).agrees;
    expect(agrees(received(), received())).toBe(true);
    expect(agrees(counts(["a", state, 1]), received())).toBe(false);
    expect(agrees(received(), counts(["a", state, 3]))).toBe(false);
    expect(agrees(received(), counts())).toBe(false);
  });

  it("agrees if Celery sends a failure for a terminated task too, which Prometheus counts as both", () => {
    const [celery, other] = [counts(["a", "REVOKED", 2]), counts(["a", "REVOKED", 2])];
    const agrees = (prometheus: EventCounts): boolean => compare({ celery, datadog: other, postgres: other, prometheus }).agrees;
    const failedToo = (failures: number, exits: number, revoked = 2): EventCounts => {
      const result = counts(["a", "REVOKED", revoked], ["a", "FAILURE", failures]);
      result.exits.set("a", exits);
      return result;
    };
    expect(agrees(counts(["a", "REVOKED", 2]))).toBe(true);
    expect(agrees(failedToo(1, 1))).toBe(true);
    expect(agrees(failedToo(2, 2))).toBe(true);
    expect(agrees(failedToo(1, 0)), "another exception").toBe(false);
    expect(agrees(failedToo(2, 1)), "one of them").toBe(false);
    expect(agrees(failedToo(3, 3)), "more than were revoked").toBe(false);
    expect(agrees(failedToo(1, 1, 1)), "instead of the revocation").toBe(false);
  });

  it("agrees when Prometheus counts both events of a rejected task, and the others only its failure", () => {
    const celery = counts(["a", "REJECTED", 2], ["a", "FAILURE", 1]);
    const failed = counts(["a", "FAILURE", 3]);
    const agrees = (prometheus: EventCounts, postgres?: TaskCounts): boolean =>
      compare({ celery, datadog: postgres, postgres, prometheus }).agrees;
    expect(agrees(counts(["a", "REJECTED", 2], ["a", "FAILURE", 3]), failed)).toBe(true);
    expect(agrees(counts(["a", "REJECTED", 2], ["a", "FAILURE", 3]))).toBe(true);
    expect(agrees(counts(["a", "REJECTED", 2], ["a", "FAILURE", 1]))).toBe(true);
    expect(agrees(counts(["a", "REJECTED", 2], ["a", "FAILURE", 2]), failed)).toBe(false);
    expect(agrees(counts(["a", "REJECTED", 1], ["a", "FAILURE", 3]), failed)).toBe(false);
  });

  it("disagrees when a side calls some rejected tasks something else", () => {
    const celery = counts(["a", "REJECTED", 2]);
    const mixed = counts(["a", "REJECTED", 1], ["a", "FAILURE", 1]);
    const prometheus = undefined;
    expect(compare({ celery, datadog: counts(["a", "REJECTED", 2]), postgres: mixed, prometheus }).agrees).toBe(false);
    expect(compare({ celery, datadog: mixed, postgres: counts(["a", "FAILURE", 2]), prometheus }).agrees).toBe(false);
  });

  it("leaves out a side without counts", () => {
    const { rows, agrees } = compare({ celery: twoOfA(), datadog: undefined, postgres: twoOfA(), prometheus: twoOfA() });
    expect(agrees).toBe(true);
    expect(rows[0]?.datadog).toBeUndefined();
  });

  it("does not report agreement if nothing ran", () => {
    expect(compare({ celery: counts(), datadog: counts(), postgres: counts(), prometheus: counts() }).agrees).toBe(false);
  });

  it("is shown as a table with totals", () => {
    const plain = { bold: String, green: String, red: String };
    const comparison = compare({
      celery: counts(["shop.pay", "SUCCESS", 12]),
      datadog: counts(["shop.pay", "SUCCESS", 11]),
      postgres: undefined,
      prometheus: counts(["shop.pay", "SUCCESS", 12]),
    });
    expect(renderComparison(comparison, plain).split("\n")).toEqual([
      "task      state    Celery ran  Datadog got  Postgres has  Prometheus reads",
      "shop.pay  SUCCESS          12           11             -                12  differs",
      "-----------------------------------------------------------------------------------",
      "all                        12           11             -                12  differs",
    ]);
  });

  it("says in plain words which tasks are not compared", () => {
    const plain = {
      isInteractive: false,
      columns: 100,
      write: () => {},
      bold: String,
      dim: String,
      green: String,
      red: String,
      yellow: String,
    };
    const withoutEnd = new Map([
      ["IGNORED", 8],
      ["STARTED", 1],
    ]);
    const comparison = compare({
      celery: counts(["shop.pay", "SUCCESS", 1]),
      datadog: undefined,
      postgres: undefined,
      prometheus: undefined,
    });
    expect(renderResult({ comparison, withoutEnd }, plain).split("\n").slice(-3, -1)).toEqual([
      "8 more were ignored (celery.exceptions.Ignore), for which Celery sends no event: they are not compared.",
      "1 more had not ended (STARTED): they are not compared.",
    ]);
  });
});
