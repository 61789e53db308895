/** Each attempt of a task is counted under its own name and queue, whatever is known of the others. */
import { scaled } from "@celery-metrics-exporter/testkit";
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import {
  taskFailed,
  taskNotRegistered,
  taskReceived,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Summary } from "../../src/completions/summarise.ts";
import { summaryOf } from "../summary-of.ts";

const START = 1_795_328_900;
const HOSTNAMES = ["w1@host-a", "w2@host-b"] as const;

/** The random values of one attempt. All times are in seconds. */
interface Attempt {
  /** Whether it is a retry of the previous attempt, or replaced it. */
  readonly by: "retry" | "replacement";
  readonly queue: string;
  /** Only a first attempt or a retry has one. */
  readonly hasShadow: boolean;
  readonly hostname: 0 | 1;
  /** How late its `task-sent` is. */
  readonly late: number;
  readonly queued: number;
  readonly runs: number;
}

/** How many of the two events that begin an attempt come before each ending. */
const BEGINS = { succeeds: 2, fails: 2, "is not registered": 0, "is revoked": 1, "is terminated": 2 } as const;
type Ending = keyof typeof BEGINS;

interface Draws {
  readonly attempts: readonly Attempt[];
  readonly ending: Ending;
  readonly isClientReporting: boolean;
  readonly areWorkersReporting: boolean;
}

/** The expected reports are in the form of `describeSummary`. */
interface History {
  readonly events: readonly TaskEvent[];
  readonly expected: readonly string[];
  /** The last attempt's `task-received` and `task-started`. */
  readonly begin: readonly TaskEvent[];
  /** The expected reports if its `task-started` never comes. */
  readonly expectedWithoutStart: readonly string[];
}

/** Whole numbers of microseconds, and of bits. */
const TICK = 1 / 64;

/** Seconds of at least two ticks, an even number. */
const even = (most: number): fc.Arbitrary<number> => fc.integer({ min: 1, max: most / TICK / 2 }).map((value) => value * 2 * TICK);

const anyDraws: fc.Arbitrary<Draws> = fc
  .record<Draws>({
    attempts: fc.array(
      fc.record({
        by: fc.constantFrom("retry" as const, "replacement" as const),
        queue: fc.constantFrom("q1", "q2", "q3"),
        hasShadow: fc.boolean(),
        hostname: fc.constantFrom(0 as const, 1 as const),
        late: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, even(0.25)),
        queued: fc.oneof(even(0.125), even(100)),
        runs: fc.oneof(even(0.125), even(4_000)),
      }),
      { minLength: 1, maxLength: 4 },
    ),
    ending: fc.constantFrom(...(Object.keys(BEGINS) as Ending[])),
    isClientReporting: fc.boolean(),
    areWorkersReporting: fc.boolean(),
  })
  // Only its end would show an attempt that was neither sent nor received according to the events.
  .filter((drawn) => drawn.ending !== "is not registered" || isReported(drawn, drawn.attempts.length - 1));

function isReported({ isClientReporting, areWorkersReporting }: Draws, index: number): boolean {
  return index === 0 ? isClientReporting : areWorkersReporting;
}

function historyOf(drawn: Draws): History {
  const { attempts, ending } = drawn;
  const events: TaskEvent[] = [];
  const expected: string[] = [];
  let begin: readonly TaskEvent[] = [];
  let expectedWithoutStart: readonly string[] = [];
  const queues = new Map<string, string>();
  let [now, retries, name] = [START, 0, "app.task-0"];
  for (const [index, { by, queue, hasShadow, hostname, late, queued, ...attempt }] of attempts.entries()) {
    if (index > 0 && by === "retry") retries += 1;
    else if (index > 0) [retries, name] = [0, `app.task-${index}`];
    const received = hasShadow && (index === 0 || by === "retry") ? `shadow ${index}` : name;
    const hasSent = isReported(drawn, index);
    // A `task-sent` within two seconds after a `task-received` may belong to it, if that has a shadow name.
    const runs = attempt.runs + (hasSent ? 0 : 2);
    const common = { hostname: HOSTNAMES[hostname] };
    const [receivedAt, startedAt, endedAt] = [now + TICK, now + queued, now + queued + runs];
    // Not later than the attempt ends.
    const sentAt = now + Math.min(late, queued + runs / 2);
    if (hasSent) {
      events.push(taskSent({ timestamp: sentAt, name, queue, retries }));
      queues.set(name, queue);
    }
    const labels = hasSent ? `${name}|${queue}` : `${received}|${queues.get(received)}`;
    const wait = `${labels} waits ${Math.max(0, startedAt - (hasSent ? sentAt : receivedAt))}`;
    begin = [taskReceived({ ...common, timestamp: receivedAt, name: received, retries }), taskStarted({ ...common, timestamp: startedAt })];
    if (index === attempts.length - 1) {
      const [end, state] = endOf(ending, { ...common, startedAt, endedAt });
      begin = begin.slice(0, BEGINS[ending]);
      events.push(end);
      expectedWithoutStart = [...expected, `${labels} ${state} ${ending === "succeeds" ? runs : ""}`];
      expected.push(`${labels} ${state} ${ending === "succeeds" || ending === "fails" ? runs : ""}`);
    }
    events.push(...begin);
    if (begin.length === 2) expected.push(wait);
    now = endedAt;
  }
  return { events, expected: expected.toSorted(), begin, expectedWithoutStart: expectedWithoutStart.toSorted() };
}

function endOf(
  ending: Ending,
  { hostname, startedAt, endedAt }: { readonly hostname: string; readonly startedAt: number; readonly endedAt: number },
): [TaskEvent, string] {
  switch (ending) {
    case "succeeds":
      return [taskSucceeded({ hostname, timestamp: endedAt, runtime: endedAt - startedAt }), "SUCCESS"];
    case "fails":
      return [taskFailed({ hostname, timestamp: endedAt }), "FAILURE"];
    case "is not registered":
      return [taskNotRegistered({ hostname, timestamp: startedAt }), "FAILURE"];
    case "is revoked":
      return [taskRevoked({ hostname, timestamp: startedAt, terminated: false }), "REVOKED"];
    case "is terminated":
      return [taskRevoked({ hostname, timestamp: endedAt, terminated: true }), "REVOKED"];
    default:
      return ending satisfies never;
  }
}

function describeSummary({ waits, completions }: Summary): string[] {
  return [
    ...waits.map(({ name, queue, seconds: waited }) => `${name}|${queue} waits ${waited}`),
    ...completions.map(({ name, queue, state, runTime }) => `${name}|${queue} ${state} ${runTime === undefined ? "" : runTime}`),
  ].sort();
}

const at = (seconds: number): { readonly timestamp: number } => ({ timestamp: START + seconds });
const FIRST = { name: "app.first", queue: "q1" };
const OTHER = { name: "app.other", queue: "q2" };
const RETRY = { ...FIRST, queue: "q2", retries: 1 };
const SHADOW = "My Report";
const first = [taskSent({ ...at(0), ...FIRST }), taskReceived({ ...at(1), name: FIRST.name }), taskStarted(at(2))];
const FIRST_WAIT = "app.first|q1 waits 2";
const succeeded = (seconds: number, runtime: number): TaskEvent => taskSucceeded({ ...at(seconds), runtime });

describe("what is reported of a task", () => {
  it.each<[string, TaskEvent[], string | undefined, string[]]>([
    [
      "that is not registered when it is retried",
      [...first, taskSent({ ...at(3_600), ...RETRY }), taskNotRegistered(at(3_600.5))],
      undefined,
      [FIRST_WAIT, "app.first|q2 FAILURE "],
    ],
    [
      "that is not registered, and reported as sent only afterwards",
      [...first, taskNotRegistered(at(3_600)), taskSent({ ...at(3_600.5), ...OTHER })],
      undefined,
      [FIRST_WAIT, "app.other|q2 FAILURE "],
    ],
    [
      "that is not registered, and not (yet) reported as sent",
      [...first, taskNotRegistered(at(3_600))],
      "start",
      [FIRST_WAIT, "app.first|q1 FAILURE "],
    ],
    [
      "that fails because it looks for a task that is not registered",
      [...first, taskFailed({ ...at(10), exception: "NotRegistered('app.other')" })],
      undefined,
      [FIRST_WAIT, "app.first|q1 FAILURE 8"],
    ],
    [
      "whose process is lost before it starts, when it is sent in place of another",
      [...first, taskSent({ ...at(100), ...OTHER }), taskReceived({ ...at(101), name: OTHER.name }), taskFailed(at(110))],
      "start",
      [FIRST_WAIT, "app.other|q2 FAILURE "],
    ],
    [
      "whose process is lost before it starts, when it is sent again by hand after it failed",
      [...first, taskFailed(at(10)), taskSent({ ...at(20), ...FIRST, queue: "q2" }), taskFailed(at(30))],
      "start",
      [FIRST_WAIT, "app.first|q1 FAILURE 8", "app.first|q2 FAILURE "],
    ],
    [
      "whose retry comes at once to a worker that does not know it, and whose clock is behind",
      [...first, taskSent({ ...at(2.01), ...RETRY }), taskNotRegistered({ ...at(0.99), hostname: HOSTNAMES[1] })],
      undefined,
      [FIRST_WAIT, "app.first|q2 FAILURE "],
    ],
    [
      "whose replacement is received before its task-started comes",
      [
        taskSent({ ...at(0), ...FIRST }),
        taskReceived({ ...at(1), name: FIRST.name }),
        taskSent({ ...at(2), ...OTHER }),
        taskReceived({ ...at(2.25), name: OTHER.name }),
        taskStarted(at(2.5)),
        taskStarted(at(3)),
        taskFailed(at(10)),
      ],
      undefined,
      ["app.first|q1 waits 2.5", "app.other|q2 waits 1", "app.other|q2 FAILURE 7"],
    ],
    [
      "whose retry with a countdown is received before its task-started comes",
      [
        taskSent({ ...at(0), ...FIRST }),
        taskReceived({ ...at(1), name: FIRST.name }),
        taskSent({ ...at(2), ...RETRY, eta: START + 100 }),
        taskReceived({ ...at(2.25), name: FIRST.name, retries: 1, eta: START + 100 }),
        taskStarted(at(2.5)),
        taskStarted(at(101)),
        taskFailed(at(110)),
      ],
      undefined,
      ["app.first|q1 waits 2.5", "app.first|q2 waits 1", "app.first|q2 FAILURE 9"],
    ],
    [
      "that is rejected and redelivered at once, before it is reported as sent",
      [
        taskReceived({ ...at(1), name: FIRST.name }),
        taskStarted(at(1.125)),
        taskReceived({ ...at(1.1875), name: FIRST.name }),
        taskSent({ ...at(1.25), ...FIRST }),
        taskStarted(at(1.3125)),
        taskFailed(at(10)),
      ],
      undefined,
      ["app.first|q1 waits 0", "app.first|q1 waits 0.0625", "app.first|q1 FAILURE 8.6875"],
    ],
    [
      "that fails although it sent a retry with a countdown",
      [
        ...first,
        taskSent({ ...at(3), ...RETRY, eta: START + 100 }),
        taskReceived({ ...at(3), name: FIRST.name, retries: 1, eta: START + 100 }),
        taskFailed(at(10)),
      ],
      undefined,
      [FIRST_WAIT, "app.first|q1 FAILURE 8"],
    ],
    [
      "that succeeds although it sent a retry with a countdown, long before the success says that it began",
      [
        ...first,
        taskSent({ ...at(3), ...RETRY, eta: START + 100 }),
        taskReceived({ ...at(3), name: FIRST.name, retries: 1, eta: START + 100 }),
        succeeded(10, 5),
      ],
      undefined,
      [FIRST_WAIT, "app.first|q1 SUCCESS 5"],
    ],
    [
      "that is retried twice on a worker whose clock is an hour behind",
      [
        ...first,
        taskSent({ ...at(3), ...RETRY }),
        taskReceived({ ...at(5 - 3_600), hostname: HOSTNAMES[1], name: FIRST.name, retries: 1 }),
        taskStarted({ ...at(6 - 3_600), hostname: HOSTNAMES[1] }),
        taskSent({ ...at(7 - 3_600), ...RETRY, retries: 2, queue: "q3" }),
        taskReceived({ ...at(8 - 3_600), hostname: HOSTNAMES[1], name: FIRST.name, retries: 2 }),
        taskStarted({ ...at(9 - 3_600), hostname: HOSTNAMES[1] }),
        taskFailed({ ...at(19 - 3_600), hostname: HOSTNAMES[1] }),
      ],
      undefined,
      [FIRST_WAIT, "app.first|q2 waits 0", "app.first|q3 waits 2", "app.first|q3 FAILURE 10"],
    ],
    [
      "that fails a moment before the task in its place is reported as sent",
      [...first, taskFailed(at(3_600)), taskSent({ ...at(3_600.5), ...OTHER })],
      "start",
      [FIRST_WAIT, "app.other|q2 FAILURE "],
    ],
    [
      "that is sent under another name within seconds after it failed",
      [...first, taskFailed(at(10)), taskSent({ ...at(11), ...OTHER }), taskReceived({ ...at(11.5), name: OTHER.name })],
      undefined,
      [FIRST_WAIT, "app.first|q1 FAILURE 8"],
    ],
    [
      "that succeeds although it sent a retry",
      [...first, taskSent({ ...at(9), ...RETRY }), succeeded(10, 8)],
      undefined,
      [FIRST_WAIT, "app.first|q1 SUCCESS 8"],
    ],
    [
      "that succeeds although it sent a retry at once, which is received before the success says that it began",
      [...first, taskReceived({ ...at(2.006), ...RETRY, retries: 1 }), taskSent({ ...at(2.007), ...RETRY }), succeeded(10, 7.995)],
      undefined,
      [FIRST_WAIT, "app.first|q1 SUCCESS 7.995"],
    ],
    [
      "that fails twice at once before its start is known",
      [...first, taskSent({ ...at(20), ...RETRY }), taskFailed(at(30)), taskFailed(at(30.002))],
      "start",
      [FIRST_WAIT, "app.first|q2 FAILURE "],
    ],
    [
      "whose retry is terminated before its start is known",
      [...first, taskSent({ ...at(20), ...RETRY }), taskRevoked({ ...at(30), terminated: true })],
      "end",
      [FIRST_WAIT, "app.first|q2 REVOKED "],
    ],
    [
      "that is terminated twice, before the second start is known",
      [
        ...first,
        taskRevoked({ ...at(10), terminated: true }),
        taskSent({ ...at(20), ...FIRST, queue: "q2" }),
        taskRevoked({ ...at(30), terminated: true }),
      ],
      "end",
      [FIRST_WAIT, "app.first|q1 REVOKED ", "app.first|q2 REVOKED "],
    ],
    [
      "that was lost, and succeeds when it is sent again by hand, before its start is known",
      [...first, taskSent({ ...at(100), ...FIRST, queue: "q2" }), succeeded(110, 5)],
      "start",
      [FIRST_WAIT, "app.first|q2 SUCCESS 5"],
    ],
    [
      "that succeeds while a copy of it waits",
      [...first, taskReceived({ ...at(100), name: FIRST.name }), succeeded(110, 108)],
      undefined,
      [FIRST_WAIT, "app.first|q1 SUCCESS 108"],
    ],
    [
      "of whose second attempt only start and end are known",
      [...first, taskStarted(at(20)), taskFailed(at(30))],
      "received",
      [FIRST_WAIT, "app.first|q1 waits 20", "app.first|q1 FAILURE 10"],
    ],
    [
      "that is received three times before it starts three times",
      [
        taskSent({ ...at(0), ...FIRST }),
        ...[1, 2, 3].map((second) => taskReceived({ ...at(second), name: FIRST.name })),
        ...[10, 11, 12].map((second) => taskStarted(at(second))),
        ...[20, 21, 22].map((second) => succeeded(second, 10)),
      ],
      undefined,
      [...[10, 11, 12].map((second) => `app.first|q1 waits ${second}`), ...[10, 10, 10].map((second) => `app.first|q1 SUCCESS ${second}`)],
    ],
    [
      "that is sent again by hand with a shadow name",
      [
        ...first,
        taskFailed(at(10)),
        taskSent({ ...at(20), ...FIRST, queue: "q2" }),
        taskReceived({ ...at(21), name: SHADOW }),
        taskStarted(at(22)),
        succeeded(23, 1),
      ],
      undefined,
      [FIRST_WAIT, "app.first|q1 FAILURE 8", "app.first|q2 waits 2", "app.first|q2 SUCCESS 1"],
    ],
    [
      "that is redelivered under a shadow name to another worker, after a retry",
      [
        ...first,
        taskSent({ ...at(20), ...RETRY }),
        taskReceived({ ...at(21), name: SHADOW, retries: 1 }),
        taskStarted(at(22)),
        taskReceived({ ...at(31), hostname: HOSTNAMES[1], name: SHADOW, retries: 1 }),
        taskStarted({ ...at(32), hostname: HOSTNAMES[1] }),
        taskSucceeded({ ...at(33), hostname: HOSTNAMES[1], runtime: 1 }),
      ],
      undefined,
      [FIRST_WAIT, "app.first|q2 waits 2", "app.first|q2 waits 12", "app.first|q2 SUCCESS 1"],
    ],
    [
      "with a shadow name, sent by a client whose clock is ahead",
      [
        taskSent({ ...at(3_600), ...FIRST }),
        taskReceived({ ...at(1), name: SHADOW }),
        taskStarted(at(2)),
        taskReceived({ ...at(3), name: SHADOW }),
        taskStarted(at(4)),
        succeeded(5, 1),
      ],
      undefined,
      ["app.first|q1 waits 0", "app.first|q1 waits 0", "app.first|q1 SUCCESS 1"],
    ],
    [
      "that was replaced at once, where only the replacement is reported as sent",
      [
        taskReceived({ ...at(1), name: FIRST.name }),
        taskStarted(at(2)),
        taskSent({ ...at(2.5), ...OTHER }),
        taskReceived({ ...at(2.75), name: OTHER.name }),
        taskStarted(at(3)),
        taskFailed(at(4)),
      ],
      undefined,
      ["app.first|undefined waits 1", "app.other|q2 waits 0.5", "app.other|q2 FAILURE 1"],
    ],
    [
      "that was replaced at once by one of its name, where only the replacement is reported as sent",
      [
        taskReceived({ ...at(1), name: FIRST.name }),
        taskStarted(at(2)),
        taskSent({ ...at(2.5), ...FIRST, queue: "q2" }),
        taskReceived({ ...at(2.75), name: FIRST.name }),
        taskStarted(at(3)),
        taskFailed(at(4)),
      ],
      undefined,
      ["app.first|undefined waits 1", "app.first|q2 waits 0.5", "app.first|q2 FAILURE 1"],
    ],
    [
      "that was replaced at once by one with a shadow name, where only the replacement is reported as sent",
      [
        taskReceived({ ...at(1), name: FIRST.name }),
        taskStarted(at(2)),
        taskSent({ ...at(2.5), ...OTHER }),
        taskReceived({ ...at(2.75), name: SHADOW }),
        taskStarted(at(3)),
        taskFailed(at(4)),
      ],
      undefined,
      ["app.first|undefined waits 1", "app.other|q2 waits 0.5", "app.other|q2 FAILURE 1"],
    ],
    [
      "that was redelivered, and reported as sent a little late",
      [
        taskReceived({ ...at(1), name: FIRST.name }),
        taskSent({ ...at(1.25), ...FIRST }),
        taskStarted(at(2)),
        taskReceived({ ...at(100), name: FIRST.name }),
        taskStarted(at(102)),
        succeeded(103, 1),
      ],
      undefined,
      ["app.first|q1 waits 0.75", "app.first|q1 waits 100.75", "app.first|q1 SUCCESS 1"],
    ],
    [
      "that was replaced, where only the replacement is reported as sent, and not received",
      [taskReceived({ ...at(1), name: FIRST.name }), taskStarted(at(2)), taskSent({ ...at(100), ...OTHER }), succeeded(110, 5)],
      "start",
      ["app.first|undefined waits 1", "app.other|q2 SUCCESS 5"],
    ],
    [
      "that was replaced, where nothing is known of the first attempt but its start",
      [
        taskStarted(at(2)),
        taskSent({ ...at(100), ...OTHER }),
        taskReceived({ ...at(101), name: OTHER.name }),
        taskStarted(at(102)),
        taskFailed(at(110)),
      ],
      "received",
      ["app.other|q2 waits 2", "app.other|q2 FAILURE 8"],
    ],
  ])("%s", (_, events, lacks, expected) => {
    for (const order of [events, events.toReversed()]) {
      const summary = summaryOf(order);
      expect(summary.lacks).toBe(lacks);
      expect(describeSummary(summary)).toEqual(expected.toSorted());
    }
  });
});

describe("the attempts of a task", () => {
  it("are each counted under their own name and queue, whichever processes emit task-sent", () => {
    fc.assert(
      fc.property(anyDraws.map(historyOf), ({ events, expected }) => {
        for (const order of [events, events.toReversed()]) expect(describeSummary(summaryOf(order))).toEqual(expected);
      }),
      { numRuns: scaled(500, 2_000) },
    );
  });

  it("are waited for where the last one's end came before its start, and counted under their own name and queue if that never comes", () => {
    const ended = anyDraws.filter((drawn) => {
      const last = drawn.attempts.length - 1;
      return /succeeds|fails/.test(drawn.ending) && isReported(drawn, last) && drawn.attempts[last]?.late === 0;
    });
    fc.assert(
      fc.property(ended.map(historyOf), fc.boolean(), ({ events, expectedWithoutStart, begin: [received, started] }, isReceived) => {
        const summary = summaryOf(events.filter((event) => event !== started && (isReceived || event !== received)));
        expect(summary.lacks).toBe("start");
        expect(describeSummary(summary)).toEqual(expectedWithoutStart);
      }),
      { numRuns: scaled(500, 2_000) },
    );
  });

  it("need no task-received where there is a task-sent", () => {
    const reported = anyDraws.filter((drawn) => isReported(drawn, drawn.attempts.length - 1));
    fc.assert(
      fc.property(reported.map(historyOf), ({ events, expected, begin: [received] }) => {
        expect(describeSummary(summaryOf(events.filter((event) => event !== received)))).toEqual(expected);
      }),
      { numRuns: scaled(500, 2_000) },
    );
  });
});
