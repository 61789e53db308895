/** Edges of what a task sends: equal instants, absent names, and what is certain. */
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import { taskFailed, taskReceived, taskRevoked, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { describe, expect, it } from "vitest";
import { summarise } from "../../src/completions/summarise.ts";
import { parseTaskEntry } from "../../src/facts/task-entry.ts";
import { factOf } from "../../src/facts/fact.ts";
import { summaryOf } from "../summary-of.ts";

const B = { hostname: "w2@host-b" };
const FIRST = { name: "app.first", queue: "q1" };
const OTHER = { name: "app.other", queue: "q2" };
const EXIT = { exception: "SystemExit(-241)" };
const at = (timestamp: number): { timestamp: number } => ({ timestamp });
const run = [taskSent({ ...at(1), ...FIRST }), taskReceived({ ...at(2), name: FIRST.name }), taskStarted(at(3))];

describe("a summary", () => {
  it("lacks certainty where a final may be a repeat, also with a new completion", () => {
    const repeated = [...run, taskFailed(at(4)), taskFailed(at(4.002))];
    const other = [taskReceived({ ...at(2), ...B, name: FIRST.name }), taskStarted({ ...at(3), ...B }), taskFailed({ ...at(6), ...B })];
    expect(summaryOf([...repeated, ...other], [taskFailed(at(4))])).toMatchObject({ completions: [{ runTime: 3 }], lacks: "certainty" });
    expect(summaryOf([...repeated, ...other])).toMatchObject({ completions: [{}, {}], lacks: undefined });
  });

  it("has one end of a process that exits in the instant of its start, before its termination is told, while another is sent", () => {
    const exit = [taskFailed({ ...at(3), ...EXIT }), taskSent({ ...at(4), ...OTHER }), taskRevoked({ ...at(11), terminated: true })];
    const { completions, waits, lacks } = summaryOf([...run, ...exit]);
    expect(completions).toMatchObject([{ state: "REVOKED", name: "app.other" }]);
    expect(waits).toMatchObject([{ seconds: 2, name: "app.first" }]);
    expect(lacks).toBeUndefined();
  });

  it("gives each of two terminated runs on one worker its own end, by when that began", () => {
    const terminated = (timestamp: number): TaskEvent => taskRevoked({ ...at(timestamp), terminated: true });
    const started = [
      taskReceived({ ...at(0.5), name: FIRST.name }),
      taskStarted(at(1)),
      taskReceived({ ...at(1.5), name: FIRST.name }),
      taskStarted(at(2)),
    ];
    const ends = [terminated(3), terminated(14), taskSucceeded({ ...at(15), runtime: 13 }), taskSucceeded({ ...at(16), runtime: 15 })];
    expect(summaryOf([...started, ...ends]).completions).toMatchObject([
      { state: "REVOKED", finishedAt: 3 },
      { state: "SUCCESS", finishedAt: 16, runTime: 15 },
      { state: "SUCCESS", finishedAt: 15, runTime: 13 },
    ]);
    const swapped = [terminated(3), terminated(14), taskSucceeded({ ...at(15), runtime: 14 }), taskSucceeded({ ...at(16), runtime: 14 })];
    expect(summaryOf([...started, ...swapped]).completions).toMatchObject([
      { state: "REVOKED", finishedAt: 3 },
      { state: "SUCCESS", finishedAt: 15, runTime: 14 },
      { state: "SUCCESS", finishedAt: 16, runTime: 14 },
    ]);
  });

  it("tells all of a wait and of a completion", () => {
    const facts: TaskEvent[] = [...run, taskSucceeded({ ...at(5), runtime: 1.5 })];
    const hash = facts.flatMap((event) => [factOf(event) ?? "", "|w1@a"]);
    expect(summarise(parseTaskEntry(hash))).toMatchObject({
      waits: [{ seconds: 2, basis: "sent", skewed: false, startedAt: 3, worker: "w1@a" }],
      completions: [
        {
          state: "SUCCESS",
          finishedAt: 5,
          runTime: 1.5,
          worker: "w1@a",
          exception: undefined,
          excluded: false,
          lacksStart: false,
          lacksRevocation: false,
          lacksEnd: false,
          lacksFailure: false,
        },
      ],
    });
  });

  it("tells of no skew where an attempt did not wait at all", () => {
    const started = [taskSent({ ...at(3), ...FIRST }), taskReceived({ ...at(3), name: FIRST.name }), taskStarted(at(3))];
    expect(summaryOf([...started, taskFailed(at(5))]).waits).toMatchObject([{ seconds: 0, skewed: false }]);
  });

  it("has whatever name is known, where the attempt's own messages have none", () => {
    const nameless = [taskSent({ ...at(1), name: "", queue: "q1" }), taskStarted(at(2)), taskFailed(at(3))];
    expect(summaryOf([...nameless, taskSent({ ...at(9), ...OTHER })]).completions).toMatchObject([{ name: "app.other", queue: "q1" }]);
    expect(summaryOf(nameless).completions).toMatchObject([{ name: undefined, queue: "q1" }]);
  });
});
