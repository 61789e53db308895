/** What each kind of event counts as, and under which labels. */
import type { TaskEvent, TaskSent } from "@celery-metrics-exporter/celery";
import {
  SENT_AT,
  taskFailed,
  taskNotRegistered,
  taskReceived,
  taskRejected,
  taskRetried,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type CountedTask, UNKNOWN_TASK, merge } from "../../src/counts/counted-task.ts";
import { type Tally, type TalliedEvent, type TalliedKind, tally, tallyAny } from "../../src/counts/tally.ts";
import { isPlain } from "../../src/completions/runs.ts";
import { collectChanges } from "../../src/facts/task-changes.ts";
import { histories } from "../lives.ts";

/** What is known of one task. */
function taskOf(...events: readonly TaskEvent[]): CountedTask {
  const [change] = collectChanges(events, { keepWorker: true, keepException: true, everyEvent: true }).values();
  return change === undefined ? UNKNOWN_TASK : merge(UNKNOWN_TASK, change).task;
}

/** The tally of one task. */
function tallyOf(...events: readonly TaskEvent[]): Tally {
  return tally(taskOf(...events));
}

function prefetchedOf(...events: readonly TaskEvent[]): Tally["prefetched"] {
  return tallyOf(...events).prefetched;
}

/** How long the task's only start had been in its worker's memory. */
function prefetchOf(...events: readonly TaskEvent[]): number | undefined {
  return only("started", tallyOf(...events)).prefetch;
}

/** `kind name queue`, in order. */
function shown({ events }: Tally): string[] {
  return events.map(({ kind, name = "?", queue = "?" }) => `${kind} ${name} ${queue}`).toSorted();
}

function only(kind: TalliedKind, { events }: Tally): TalliedEvent {
  const [event, ...others] = events.filter((each) => each.kind === kind);
  if (event === undefined || others.length > 0) throw new Error(`${others.length} more, or none`);
  return event;
}

const at = (seconds: number): { timestamp: number } => ({ timestamp: SENT_AT + seconds });
const BEGUN = [taskSent(), taskReceived(), taskStarted()];
const OTHER_HOST = { hostname: "w2@host-b" };
const TASK = "shop.cart.total celery";

function endsAfterStart(...events: readonly TaskEvent[]): TalliedKind[] {
  return tallyOf(...BEGUN, ...events)
    .events.slice(BEGUN.length)
    .map(({ kind }) => kind);
}

describe("a message in a worker's memory", () => {
  const received = { name: "shop.cart.total", queue: "celery", worker: "w1@host-a", since: SENT_AT + 0.25 };

  it("is there from its receipt until its start or its end, in whatever order they come", () => {
    expect(prefetchedOf(taskSent())).toBeUndefined();
    expect(prefetchedOf(taskSent(), taskReceived())).toEqual(received);
    expect(prefetchedOf(taskReceived(), taskSent())).toEqual(received);
    for (const next of [taskStarted(), taskRevoked(), taskRejected(), taskRejected({ requeue: true }), taskSucceeded(), taskRetried()]) {
      expect(prefetchedOf(taskSent(), taskReceived(), next), next.type).toBeUndefined();
      expect(prefetchedOf(next, taskReceived(), taskSent()), next.type).toBeUndefined();
    }
  });

  it("is the latest, if a message is received again", () => {
    const again = taskReceived({ ...OTHER_HOST, ...at(5) });
    expect(prefetchedOf(taskSent(), taskReceived(), again)).toMatchObject({ worker: "w2@host-b", since: SENT_AT + 5 });
    expect(prefetchedOf(...BEGUN, again)).toMatchObject({ worker: "w2@host-b" });
    expect(prefetchedOf(...BEGUN, again, taskStarted({ ...OTHER_HOST, ...at(6) }))).toBeUndefined();
  });

  it("is not one that waits for its ETA", () => {
    expect(prefetchedOf(taskSent(), taskReceived({ eta: SENT_AT + 100 }))).toBeUndefined();
  });

  it("was there until the start, without an ETA and if its receipt is known", () => {
    expect(prefetchOf(...BEGUN)).toBeCloseTo(0.25, 6);
    expect(prefetchOf(taskSent(), taskStarted())).toBeUndefined();
    expect(prefetchOf(taskReceived({ ...OTHER_HOST }), taskStarted())).toBeUndefined();
    expect(prefetchOf(taskReceived({ eta: SENT_AT - 100 }), taskStarted())).toBeUndefined();
  });
});

describe("each kind of event", () => {
  it.each([
    ["succeeded", taskSucceeded()],
    ["failed", taskFailed()],
    ["revoked", taskRevoked({ terminated: true, signum: "15" })],
    ["rejected", taskRejected()],
    ["rejected", taskRejected({ requeue: true })],
    ["retried", taskRetried()],
  ] as const)("counts once: %s", (kind, event) => {
    const task = tallyOf(...BEGUN, event);
    expect(shown(task)).toEqual([`received ${TASK}`, `${kind} ${TASK}`, `sent ${TASK}`, `started ${TASK}`].toSorted());
    expect(only(kind, task).worker).toBe("w1@host-a");
    expect(only("received", task).worker).toBe("w1@host-a");
    expect(only("sent", task).worker).toBeUndefined();
    expect(task.ended).toBe(!["retried", "requeued"].includes(kind) && !("requeue" in event && event.requeue === true));
  });

  it("counts without any other, under what is known", () => {
    expect(shown(tallyOf(taskSent()))).toEqual([`sent ${TASK}`]);
    expect(shown(tallyOf(taskReceived()))).toEqual(["received shop.cart.total ?"]);
    for (const event of [
      taskStarted(),
      taskSucceeded(),
      taskFailed(),
      taskRevoked(),
      taskRejected(),
      taskRejected({ requeue: true }),
      taskRetried(),
    ]) {
      expect(shown(tallyOf(event))).toEqual([expect.stringMatching(/^\w+ \? \?$/)]);
    }
  });

  it("has the worker's runtime, or the time from start to failure", () => {
    expect(only("succeeded", tallyOf(...BEGUN, taskSucceeded({ runtime: 0.25 }))).runtime).toBe(0.25);
    expect(only("failed", tallyOf(...BEGUN, taskFailed(at(3)))).runtime).toBe(2.5);
    expect(only("failed", tallyOf(...BEGUN, taskFailed())).exception).toBe("ValueError");
    expect(only("failed", tallyOf(taskSent(), taskReceived(), taskNotRegistered())).runtime).toBeUndefined();
    expect(only("revoked", tallyOf(...BEGUN, taskRevoked({ terminated: true }))).runtime).toBeUndefined();
  });

  it("has the wait from its task-sent or its ETA, never below 0, and none without a task-sent", () => {
    expect(only("started", tallyOf(...BEGUN)).wait).toBe(0.5);
    const eta = SENT_AT + 10;
    expect(only("started", tallyOf(taskSent({ eta }), taskReceived({ eta }), taskStarted(at(10.75)))).wait).toBe(0.75);
    expect(only("started", tallyOf(taskSent(), taskReceived(at(-2)), taskStarted(at(-1)))).wait).toBe(0);
    expect(only("started", tallyOf(taskReceived(), taskStarted())).wait).toBeUndefined();
  });
});

describe("events that are not what they seem", () => {
  it("counts two task-failed of one run once, as a hard time limit sends them", () => {
    expect(only("failed", tallyOf(...BEGUN, taskFailed(), taskFailed(at(1.002)))).runtime).toBe(0.5);
  });

  it("counts two failures of two runs", () => {
    const again = [taskReceived(at(2)), taskStarted(at(2.25)), taskFailed(at(3))];
    expect(shown(tallyOf(...BEGUN, taskFailed(), ...again)).filter((event) => event.startsWith("failed"))).toHaveLength(2);
  });

  it("counts both of a rejection with a failure, and of a termination with its exit", () => {
    expect(endsAfterStart(taskRejected(), taskFailed(at(1.002)))).toEqual(["rejected", "failed"]);
    const exit = taskFailed({ ...at(1.01), exception: "SystemExit(-241)", exited: true });
    expect(endsAfterStart(taskRevoked({ terminated: true, signum: "15" }), exit)).toEqual(["revoked", "failed"]);
  });

  it("counts each attempt under its own queue, and a retry under that of the attempt that it ended", () => {
    const task = tallyOf(
      ...BEGUN,
      taskSent({ ...at(0.9), retries: 1, queue: "slow" }),
      taskRetried(),
      taskReceived({ ...at(2), retries: 1, ...OTHER_HOST }),
      taskStarted({ ...at(2.5), ...OTHER_HOST }),
      taskSucceeded({ ...at(3), ...OTHER_HOST }),
    );
    const [first, second] = ["shop.cart.total celery", "shop.cart.total slow"];
    expect(shown(task)).toEqual(
      [
        `sent ${first}`,
        `received ${first}`,
        `started ${first}`,
        `retried ${first}`,
        `sent ${second}`,
        `received ${second}`,
        `started ${second}`,
        `succeeded ${second}`,
      ].toSorted(),
    );
    expect(only("succeeded", task).worker).toBe("w2@host-b");
  });

  it("counts what a redelivery brings again", () => {
    const again = [
      taskReceived({ ...at(2), ...OTHER_HOST }),
      taskStarted({ ...at(2.5), ...OTHER_HOST }),
      taskSucceeded({ ...at(3), ...OTHER_HOST }),
    ];
    const task = tallyOf(...BEGUN, ...again);
    expect(shown(task)).toEqual([...BEGUN, ...again].map(({ type }) => `${type.slice(5)} ${TASK}`).toSorted());
  });

  it("counts nothing of an attempt that a filter excludes, but the others", () => {
    const excluded = tallyOf(taskSent({ excluded: true }), taskReceived({ excluded: true }), taskStarted(), taskSucceeded());
    expect(excluded).toMatchObject({ events: [], waiting: [] });
    const task = tallyOf(
      taskSent({ excluded: true, queue: "private" }),
      taskReceived(),
      taskStarted(),
      taskRetried(),
      taskSent({ ...at(0.9), retries: 1 }),
      taskReceived({ ...at(2), retries: 1 }),
    );
    expect(shown(task)).toEqual([`received ${TASK}`, `sent ${TASK}`]);
  });

  it("has a waiting message until a worker gets it", () => {
    expect(tallyOf(taskSent()).waiting).toEqual([{ name: "shop.cart.total", queue: "celery", since: SENT_AT }]);
    expect(tallyOf(taskSent({ eta: SENT_AT + 60 })).waiting).toMatchObject([{ since: SENT_AT + 60 }]);
    for (const event of [taskReceived(), taskStarted(), taskSucceeded(), taskFailed()]) {
      expect(tallyOf(taskSent(), event).waiting).toEqual([]);
    }
    expect(tallyOf(...BEGUN, taskSent({ ...at(0.9), retries: 1, queue: "slow" }), taskRetried()).waiting).toMatchObject([
      { queue: "slow" },
    ]);
  });

  it("has not ended while a message waits, was received or runs", () => {
    expect(tallyOf(...BEGUN, taskSucceeded()).ended).toBe(true);
    expect(tallyOf(...BEGUN, taskSucceeded(), taskSent(at(2))).ended).toBe(false);
    expect(tallyOf(...BEGUN, taskSucceeded(), taskReceived({ ...at(2), ...OTHER_HOST })).ended).toBe(false);
    expect(tallyOf(...BEGUN, taskStarted({ ...at(0.7), ...OTHER_HOST }), taskSucceeded()).ended).toBe(false);
    const first = [...BEGUN, taskSent({ ...at(0.9), retries: 1 }), taskRetried(), taskReceived({ ...at(2), retries: 1 })];
    expect(tallyOf(...first, taskStarted(at(2.5)), taskSucceeded(at(3))).ended).toBe(true);
    // Its runtime fits the start that was retried better.
    const misfit = [...first, taskStarted(at(2.5)), taskSucceeded({ ...at(3), runtime: 2.4 })];
    expect(tallyOf(...misfit).ended).toBe(true);
    expect(tallyOf(...misfit, taskStarted({ ...at(2.6), ...OTHER_HOST })).ended).toBe(false);
  });
});

/** The last `task-sent` before it, or itself. */
function sentBefore(event: TaskEvent, events: readonly TaskEvent[]): TaskSent | undefined {
  return events.filter((each) => each.type === "task-sent").findLast((each) => each === event || each.timestamp < event.timestamp);
}

/** Whether every message has a `task-sent`, and everything that a worker reports of it comes after its `task-received`. */
function isComplete(events: readonly TaskEvent[]): boolean {
  return events.every((event) => {
    const sent = sentBefore(event, events);
    if (event.type === "task-sent") return true;
    if (event.type === "task-received") return sent?.retries === event.retries;
    return events.some(
      ({ type, hostname, timestamp }) =>
        type === "task-received" &&
        hostname === event.hostname &&
        timestamp <= event.timestamp &&
        timestamp > (sent?.timestamp ?? Infinity),
    );
  });
}

/** Counts complete events by their type alone, under the queue of the last message sent before. Of two failures within a second, the first. */
function counted(events: readonly TaskEvent[]): string[] {
  const isRepeated = ({ type, hostname, timestamp }: TaskEvent): boolean =>
    type === "task-failed" &&
    events.some(
      (other) => other.type === type && other.hostname === hostname && other.timestamp < timestamp && timestamp - other.timestamp < 1,
    );
  return events
    .filter((event) => !isRepeated(event))
    .map((event) => `${event.type.slice(5)} shop.cart.total ${sentBefore(event, events)?.queue}`)
    .toSorted();
}

it("agrees with counting one by one, if the events are complete", () => {
  let compared = 0;
  fc.assert(
    fc.property(histories, ({ events }) => {
      fc.pre(isComplete(events));
      compared += 1;
      expect(shown(tallyOf(...events))).toEqual(counted(events));
    }),
    { numRuns: 1_000, maxSkipsPerRun: 1_000 },
  );
  expect(compared).toBe(1_000);
});

/** At most one event of each kind, at any time, with or without names, queues, an ETA and the mark of a filter. */
const oneOfEach: fc.Arbitrary<TaskEvent[]> = fc
  .record({
    sent: maybe(fc.tuple(fc.record({ ...when(), name: aName(), queue: aName(), excluded: fc.boolean() }), anEta())),
    received: maybe(fc.tuple(fc.record({ ...when(), ...where(), name: aName(), excluded: fc.boolean() }), anEta())),
    started: maybe(fc.record({ ...when(), ...where() })),
    end: maybe(
      fc.tuple(
        fc.constantFrom(taskSucceeded, taskFailed, taskNotRegistered, taskRevoked, taskRejected),
        fc.record({ ...when(), ...where() }),
      ),
    ),
  })
  .map(({ sent, received, started, end }) => [
    ...(sent === undefined ? [] : [taskSent({ ...sent[0], ...sent[1] })]),
    ...(received === undefined ? [] : [taskReceived({ ...received[0], ...received[1] })]),
    ...(started === undefined ? [] : [taskStarted(started)]),
    ...(end === undefined ? [] : [end[0](end[1])]),
  ]);

function maybe<T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> {
  return fc.option(arbitrary, { nil: undefined, freq: 5 });
}

function when(): { timestamp: fc.Arbitrary<number> } {
  return { timestamp: fc.integer({ min: 0, max: 3 }).map((seconds) => SENT_AT + seconds) };
}

function where(): { hostname: fc.Arbitrary<string> } {
  return { hostname: fc.constantFrom("w1@host-a", "w1@host-a", "w1@host-a", "w2@host-b") };
}

function aName(): fc.Arbitrary<string> {
  return fc.constantFrom("shop.cart.total", "shop.cart.total", "shop.other", "");
}

function anEta(): fc.Arbitrary<{ eta?: number }> {
  return fc.constantFrom({}, {}, { eta: SENT_AT + 2 });
}

it("is the same with and without the shortcut for plain tasks", () => {
  let plain = 0;
  fc.assert(
    fc.property(oneOfEach, (events) => {
      const task = taskOf(...events);
      if (isPlain(task.facts)) plain += 1;
      expect(tally(task)).toEqual(tallyAny(task));
    }),
    { numRuns: 3_000 },
  );
  expect(plain).toBeGreaterThan(300);
});
