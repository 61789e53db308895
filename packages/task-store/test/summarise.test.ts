import type { TaskEvent } from "@celery-metrics-exporter/celery";
import {
  taskFailed,
  taskReceived,
  taskRejected,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import { describe, expect, it } from "vitest";
import { summaryOf } from "./summary-of.ts";

const A = { hostname: "w1@host-a" };
const B = { hostname: "w2@host-b" };

const at = (timestamp: number): { timestamp: number } => ({ timestamp });

describe("waits", () => {
  it.each<[string, TaskEvent[], readonly (readonly [number, string])[]]>([
    ["from task-sent to start", [taskSent(at(1)), taskReceived(at(2)), taskStarted(at(4))], [[3, "sent"]]],
    ["from the ETA, where that is later", [taskSent({ ...at(1), eta: 3 }), taskReceived(at(2)), taskStarted(at(4))], [[1, "sent"]]],
    ["from task-received where there is no task-sent", [taskReceived(at(2)), taskStarted(at(4))], [[2, "received"]]],
    ["from the ETA of task-received", [taskReceived({ ...at(2), eta: 3.5 }), taskStarted(at(4))], [[0.5, "received"]]],
    ["never below 0", [taskSent(at(9)), taskReceived(at(2)), taskStarted(at(4))], [[0, "sent"]]],
    ["from task-sent where task-received was lost", [taskSent(at(1)), taskStarted(at(4))], [[3, "sent"]]],
    ["not at all where both were lost", [taskStarted(at(4))], []],
    [
      "one for each attempt, from the task-sent of its own retries",
      [
        taskSent(at(1)),
        taskReceived(at(2)),
        taskStarted(at(3)),
        taskSent({ ...at(4), retries: 1, eta: 10 }),
        taskReceived({ ...at(5), retries: 1 }),
        taskStarted(at(10.5)),
      ],
      [
        [2, "sent"],
        [0.5, "sent"],
      ],
    ],
    [
      "by the task-received of the same worker",
      [
        taskSent(at(1)),
        taskSent({ ...at(5), retries: 1 }),
        taskReceived({ ...at(2), ...A }),
        taskReceived({ ...at(6), ...B, retries: 1 }),
        taskStarted({ ...at(7), ...A }),
      ],
      [[6, "sent"]],
    ],
    [
      "from task-received where only another attempt's task-sent is known",
      [taskSent(at(1)), taskReceived({ ...at(6), retries: 1 }), taskStarted(at(7))],
      [[1, "received"]],
    ],
    [
      "from the first task-sent of those retries that is left",
      [taskSent(at(1)), taskSent(at(3)), taskSent(at(19)), taskReceived(at(4)), taskStarted(at(5))],
      [[4, "sent"]],
    ],
  ])("%s", (_, events, expected) => {
    const { waits } = summaryOf([...events, taskFailed(at(20))]);
    expect(waits.map(({ seconds, basis }) => [seconds, basis])).toEqual(expected);
  });

  it("tell when clocks differ", () => {
    expect(summaryOf([taskSent(at(9)), taskReceived(at(2)), taskStarted(at(4)), taskFailed(at(5))]).waits).toMatchObject([
      { skewed: true },
    ]);
  });

  it("are not sent before there is a completion, and once only", () => {
    const attempt = [taskSent(at(1)), taskReceived(at(2)), taskStarted(at(3))];
    expect(summaryOf(attempt)).toMatchObject({ completions: [], waits: [], fields: [] });
    expect(summaryOf([...attempt, taskFailed(at(4))]).waits).toHaveLength(1);
    expect(summaryOf([taskSent(at(1)), taskReceived(at(2)), taskFailed(at(4))], [taskStarted(at(3))]).waits).toEqual([]);
  });
});

describe("names and queues", () => {
  const Q1 = { name: "app.dispatcher", queue: "q1" };
  const Q2 = { name: "app.replaced", queue: "q2" };
  const first = [taskSent({ ...at(1), ...Q1 }), taskReceived({ ...at(2), name: Q1.name }), taskStarted(at(3))];
  const replaced = [taskReceived({ ...at(5), name: Q2.name }), taskStarted(at(6)), taskSucceeded({ ...at(7), runtime: 1 })];
  const same = { name: "app.poll" };

  type Labels = readonly [name: string | undefined, queue: string | undefined];

  it.each<[string, TaskEvent[], { waits: Labels[]; completion: Labels }]>([
    [
      "of a replaced task are those of the task that ran",
      [...first, taskSent({ ...at(4), ...Q2 }), ...replaced],
      {
        waits: [
          [Q1.name, "q1"],
          [Q2.name, "q2"],
        ],
        completion: [Q2.name, "q2"],
      },
    ],
    [
      "of a replaced task whose task-sent came a little after its start",
      [...first, taskSent({ ...at(6.001), ...Q2 }), ...replaced],
      {
        waits: [
          [Q1.name, "q1"],
          [Q2.name, "q2"],
        ],
        completion: [Q2.name, "q2"],
      },
    ],
    [
      "of a task replaced by one of the same name, whose task-sent came a little after its start",
      [
        taskSent({ ...at(1), ...same, queue: "q1" }),
        taskReceived({ ...at(2), ...same }),
        taskStarted(at(3)),
        taskReceived({ ...at(5), ...same }),
        taskStarted(at(6)),
        taskSent({ ...at(6.001), ...same, queue: "q2" }),
        taskSucceeded(at(7)),
      ],
      {
        waits: [
          [same.name, "q1"],
          [same.name, "q2"],
        ],
        completion: [same.name, "q2"],
      },
    ],
    [
      "of a replaced task without a task-sent of its own: no queue of another task",
      [...first, ...replaced],
      {
        waits: [
          [Q1.name, "q1"],
          [Q2.name, undefined],
        ],
        completion: [Q2.name, undefined],
      },
    ],
    [
      "of a retry into another queue",
      [
        ...first,
        taskSent({ ...at(4), ...Q1, retries: 1, queue: "q2" }),
        taskReceived({ ...at(5), name: Q1.name, retries: 1, hostname: B.hostname }),
        taskStarted({ ...at(6), ...B }),
        taskFailed({ ...at(7), ...B }),
      ],
      {
        waits: [
          [Q1.name, "q1"],
          [Q1.name, "q2"],
        ],
        completion: [Q1.name, "q2"],
      },
    ],
    [
      "of a retry without a task-sent: the queue it came from",
      [...first, taskReceived({ ...at(5), name: Q1.name, retries: 1 }), taskStarted(at(6)), taskFailed(at(7))],
      {
        waits: [
          [Q1.name, "q1"],
          [Q1.name, "q1"],
        ],
        completion: [Q1.name, "q1"],
      },
    ],
    [
      "of a retry that was revoked before it started",
      [
        ...first,
        taskSent({ ...at(4), ...Q1, retries: 1, queue: "q2" }),
        taskReceived({ ...at(5), name: Q1.name, retries: 1 }),
        taskRevoked(at(6)),
      ],
      { waits: [[Q1.name, "q1"]], completion: [Q1.name, "q2"] },
    ],
    [
      "of a run that was terminated while a copy of the task waited on the same worker",
      [...first, taskReceived({ ...at(5), name: "app.other" }), taskRevoked({ ...at(6), terminated: true })],
      { waits: [[Q1.name, "q1"]], completion: [Q1.name, "q1"] },
    ],
    [
      "of a task with a shadow name: the name it was sent with",
      [taskSent({ ...at(1), ...Q1 }), taskReceived({ ...at(2), name: "My Report" }), taskStarted(at(3)), taskFailed(at(4))],
      { waits: [[Q1.name, "q1"]], completion: [Q1.name, "q1"] },
    ],
    ["of a task that no worker received", [taskSent({ ...at(1), ...Q1 }), taskRevoked(at(4))], { waits: [], completion: [Q1.name, "q1"] }],
  ])("%s", (_, events, expected) => {
    for (const order of [events, events.toReversed()]) {
      const { waits, completions } = summaryOf(order);
      expect(waits.map(({ name, queue }) => [name, queue])).toEqual(expected.waits);
      expect(completions.map(({ name, queue }) => [name, queue])).toEqual([expected.completion]);
    }
  });

  it("that a filter excludes leave out that attempt alone, and count it as sent", () => {
    const excluded = { excluded: true };
    const retry = [taskReceived({ ...at(5), name: Q1.name, retries: 1 }), taskStarted(at(6)), taskSucceeded({ ...at(7), runtime: 1 })];
    const last = summaryOf([...first, taskSent({ ...at(4), ...Q1, retries: 1, queue: "q2", ...excluded }), ...retry]);
    expect(last.completions).toEqual([]);
    expect(last.waits).toMatchObject([{ queue: "q1", seconds: 2 }]);
    expect(last.fields.filter((field) => /^[bf]/.test(field))).toHaveLength(3);
    expect(last.lacks).toBeUndefined();

    const firstExcluded = [
      taskSent({ ...at(1), ...Q1, ...excluded }),
      taskReceived({ ...at(2), name: Q1.name, ...excluded }),
      taskStarted(at(3)),
    ];
    const other = summaryOf([...firstExcluded, taskSent({ ...at(4), ...Q2 }), ...replaced]);
    expect(other).toMatchObject({ completions: [{ name: Q2.name, queue: "q2" }], waits: [{ name: Q2.name, queue: "q2", seconds: 2 }] });
  });

  it("are left out by what their task-sent says: a shadow name may have been judged before it came", () => {
    const shadow = taskReceived({ ...at(2), name: "My Report", excluded: true });
    const wanted = summaryOf([taskSent({ ...at(1), ...Q1 }), shadow, taskStarted(at(3)), taskFailed(at(4))]);
    expect(wanted).toMatchObject({ completions: [Q1], waits: [Q1] });
  });

  it("are left out though their task-received came unmarked too, and count no twice", () => {
    const received = taskReceived({ ...at(2), name: Q1.name });
    const events = [received, { ...received, excluded: true }, taskStarted(at(3)), taskReceived({ ...at(4), name: Q2.name, retries: 1 })];
    expect(summaryOf([...events, taskStarted(at(6)), taskFailed(at(7))])).toMatchObject({
      completions: [{ name: Q2.name }],
      waits: [{ name: Q2.name, seconds: 2 }],
    });
  });
});

describe("completions", () => {
  const run = [taskReceived({ ...at(1), ...A }), taskStarted({ ...at(2), ...A })];
  const { runtime: _runtime, ...withoutRuntime } = taskSucceeded(at(5));
  type Expected = readonly [state: string, runTime: number | undefined, lacksStart?: "lacks start"];

  it.each<[string, TaskEvent[], Expected[]]>([
    ["a success, with its own runtime", [...run, taskSucceeded({ ...at(5), runtime: 2.5 })], [["SUCCESS", 2.5]]],
    ["a success without runtime, from its start", [...run, withoutRuntime], [["SUCCESS", 3]]],
    ["a success without its start", [taskSucceeded({ ...at(5), runtime: 2.5 })], [["SUCCESS", 2.5, "lacks start"]]],
    ["a failure, from its start", [...run, taskFailed(at(5))], [["FAILURE", 3]]],
    ["a failure of a retry, from the last start", [...run, taskStarted(at(4)), taskFailed(at(5))], [["FAILURE", 1]]],
    ["a failure that never started", [taskFailed(at(5))], [["FAILURE", undefined, "lacks start"]]],
    ["a failure with a start of another worker only", [...run, taskFailed({ ...at(5), ...B })], [["FAILURE", undefined, "lacks start"]]],
    ["a failure with a start after it", [taskFailed(at(5)), taskStarted(at(6))], [["FAILURE", undefined, "lacks start"]]],
    ["a revocation, without a run time", [...run, taskRevoked(at(5))], [["REVOKED", undefined]]],
    ["a rejection, without a run time", [taskRejected(at(5))], [["REJECTED", undefined]]],
    ["no rejection with requeue", [taskRejected({ ...at(5), requeue: true })], []],
    ["one of two failures 2 ms apart, the later", [...run, taskFailed(at(5)), taskFailed(at(5.002))], [["FAILURE", 3.002]]],
    ["one of a failure and a later rejection, the failure", [...run, taskFailed(at(5)), taskRejected(at(6))], [["FAILURE", 3]]],
    [
      "two where another worker ran it again",
      [...run, taskFailed({ ...at(5), ...A }), taskStarted({ ...at(5.5), ...B }), taskSucceeded({ ...at(6), ...B, runtime: 0.25 })],
      [
        ["FAILURE", 3],
        ["SUCCESS", 0.25],
      ],
    ],
    [
      "two where the same worker started it again",
      [...run, taskFailed(at(5)), taskStarted(at(6)), taskFailed(at(7))],
      [
        ["FAILURE", 3],
        ["FAILURE", 1],
      ],
    ],
    [
      "two where the second run began as it ended",
      [...run, taskFailed(at(5)), taskStarted(at(7)), taskFailed(at(7))],
      [
        ["FAILURE", 3],
        ["FAILURE", 0],
      ],
    ],
    [
      "two where runs overlapped on one worker, each with its own run time",
      [taskStarted(at(2)), taskStarted(at(14)), taskSucceeded({ ...at(27), runtime: 25 }), taskSucceeded({ ...at(39), runtime: 25.5 })],
      [
        ["SUCCESS", 25],
        ["SUCCESS", 25.5],
      ],
    ],
    [
      "two where of overlapping runs one failed",
      [taskStarted(at(2)), taskStarted(at(14)), taskSucceeded({ ...at(27), runtime: 13 }), taskFailed(at(39)), taskFailed(at(39.002))],
      [
        ["SUCCESS", 13],
        ["FAILURE", 37.002],
      ],
    ],
    [
      "three where runs overlapped three times",
      [2, 4, 6].flatMap((second) => [taskStarted(at(second)), taskSucceeded({ ...at(second + 10), runtime: 10 })]),
      [
        ["SUCCESS", 10],
        ["SUCCESS", 10],
        ["SUCCESS", 10],
      ],
    ],
    [
      "each success, whether its start is known or not: Celery never repeats one",
      [taskStarted(at(2)), taskSucceeded({ ...at(27), runtime: 25 }), taskSucceeded({ ...at(39), runtime: 25 })],
      [
        ["SUCCESS", 25],
        ["SUCCESS", 25, "lacks start"],
      ],
    ],
    [
      "one of a termination and the failure it brings about",
      [...run, taskRevoked({ ...at(5), terminated: true }), taskFailed({ ...at(5.01), exception: "SystemExit(-241)" })],
      [["REVOKED", undefined]],
    ],
    [
      "one of a termination and its failure, whatever their times",
      [...run, taskRevoked({ ...at(5.01), terminated: true }), taskFailed({ ...at(5), exception: "SystemExit(-241)" })],
      [["REVOKED", undefined]],
    ],
    [
      "a further run after a termination",
      [
        ...run,
        taskRevoked({ ...at(5), terminated: true }),
        taskFailed({ ...at(5.01), exception: "SystemExit(-241)" }),
        taskStarted(at(6)),
        taskFailed({ ...at(7), exception: "SystemExit(-241)" }),
      ],
      [
        ["REVOKED", undefined],
        ["FAILURE", 1],
      ],
    ],
    [
      "the failure of a soft time limit that a signal brought about, as Celery's result says",
      [...run, taskRevoked({ ...at(5), terminated: true }), taskFailed({ ...at(6), exception: "SoftTimeLimitExceeded()" })],
      [["FAILURE", 4]],
    ],
  ])("%s", (_, events, expected) => {
    const { completions } = summaryOf(events);
    const told = completions.map(({ state, runTime, lacksStart }) => [state, runTime, lacksStart]);
    expect(told).toEqual(expected.map(([state, runTime, lacksStart]) => [state, runTime, lacksStart !== undefined]));
  });

  it("are sent when one of their finals was", () => {
    const repeat = summaryOf([...run, taskFailed(at(5.002))], [taskFailed(at(5))]);
    expect(repeat).toMatchObject({ completions: [], waits: [], lacks: "certainty" });
    expect(repeat.fields.every((field) => field.startsWith("f"))).toBe(true);
    expect(repeat.fields).toHaveLength(2);
    expect(summaryOf([...run, taskFailed({ ...at(5.002), ...B })], [taskFailed({ ...at(5), ...A })]).completions).toHaveLength(1);
    expect(summaryOf([...run, taskStarted(at(5.001)), taskFailed(at(5.002))], [taskFailed(at(5))]).completions).toHaveLength(1);
  });
});

describe("what a summary lacks", () => {
  const sent = taskSent(at(1));
  const received = taskReceived(at(2));
  const started = taskStarted(at(3));

  it.each<[string, TaskEvent[], string | undefined]>([
    ["nothing", [sent, received, started, taskSucceeded(at(4))], undefined],
    ["nothing without task-sent", [received, started, taskFailed(at(4))], undefined],
    ["the name", [started, taskFailed(at(4))], "name"],
    ["the start of a success", [sent, received, taskSucceeded(at(4))], "start"],
    ["the start of a failure", [sent, received, taskFailed(at(4))], "start"],
    ["no start of a revocation", [sent, received, taskRevoked(at(4))], undefined],
    ["the task-received of an attempt that has no task-sent either", [{ ...received, ...B }, started, taskSucceeded(at(4))], "received"],
    ["nothing before there is a completion", [started], undefined],
    ["the revocation of a failure by a signal", [received, started, taskFailed({ ...at(4), exception: "SystemExit(-241)" })], "revocation"],
    ["the start of a second success", [received, started, taskSucceeded(at(4)), taskSucceeded(at(5))], "start"],
  ])("%s", (_, events, lacks) => {
    expect(summaryOf(events).lacks).toBe(lacks);
  });
});
