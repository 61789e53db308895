import { createLogger } from "@celery-metrics-exporter/runtime";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { DeadLetterLog } from "../../src/dead-letter/dead-letters.ts";
import { RECEIVER, type DeadLetter } from "../../src/dead-letter/letter.ts";

let lines: Record<string, unknown>[];
let log: DeadLetterLog;

beforeEach(() => {
  vi.useFakeTimers();
  lines = [];
  const write = (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>);
  log = new DeadLetterLog(createLogger("test", "info", { write }), 30_000);
});
afterEach(() => vi.useRealTimers());

const letters = (reason: string, count: number, source: string = RECEIVER): DeadLetter[] =>
  Array.from({ length: count }, (_, index) => ({ source, reason, detail: `${reason} ${index}` }));
const told = () => lines.map(({ source, reason, count, detail }) => [source, reason, count, detail]);

describe("the log of dead letters", () => {
  it("has a line for each source and reason, with their count and an example", () => {
    log.add([...letters("timestamp", 8), ...letters("uuid", 5), ...letters("refused", 2, "postgres"), ...letters("timestamp", 1)]);
    expect(told()).toEqual([
      [RECEIVER, "timestamp", 9, "timestamp 0"],
      [RECEIVER, "uuid", 5, "uuid 0"],
      ["postgres", "refused", 2, "refused 0"],
    ]);
  });

  it("has at most one line of each per interval, and in the end counts all", () => {
    log.add(letters("body", 1));
    for (let index = 0; index < 10; index++) log.add(letters("body", 3));
    log.add(letters("uuid", 2));
    expect(told()).toEqual([
      [RECEIVER, "body", 1, "body 0"],
      [RECEIVER, "uuid", 2, "uuid 0"],
    ]);
    vi.advanceTimersByTime(30_000);
    expect(told().slice(2)).toEqual([[RECEIVER, "body", 30, "body 0"]]);
    vi.advanceTimersByTime(120_000);
    expect(lines).toHaveLength(3);
    log.add(letters("body", 1));
    log.add(letters("body", 7));
    log.close();
    expect(told().slice(3)).toEqual([
      [RECEIVER, "body", 1, "body 0"],
      [RECEIVER, "body", 7, "body 0"],
    ]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it.each([
    [RECEIVER, "pickle", /event_serializer = "json"/],
    [RECEIVER, "not_an_event", /what else publishes/],
    [RECEIVER, "a reason of tomorrow", /dashboard/],
    ["postgres", "refused", /replay --source postgres --reason refused/],
    ["datadog", "crash", /how the process died/],
    // A newer one is kept for a process that can read it, so upgrading does not help.
    ["datadog", "payload", /^find out what put this job.*older release(?!.*upgrade)/],
  ])("says what to do about %s: %s", (source, reason, advice) => {
    log.add(letters(reason, 1, source));
    expect(lines[0]?.["advice"]).toMatch(advice);
  });

  it("cuts a long detail", () => {
    log.add([{ source: "postgres", reason: "refused", detail: "x".repeat(100_000) }]);
    expect(String(lines[0]?.["detail"]).length).toBeLessThan(600);
  });
});
