import { describe, expect, it } from "vitest";
import { TASK_EVENT_TYPES, isTaskEvent, type TaskEvent } from "../../src/model/event.ts";
import { MAX_TIMESTAMP, toMicroseconds } from "../../src/model/time.ts";
import { STATE_RANK, isFinal, orderingTimestamp, precedenceOf, reportsExit, stateOf } from "../../src/model/task-state.ts";
import {
  customEvent,
  taskFailed,
  taskReceived,
  taskRejected,
  taskRetried,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
  workerHeartbeat,
} from "../../src/testing/builders.ts";

const rows: readonly (readonly [event: TaskEvent, state: string, precedence: number, isFinal: boolean])[] = [
  [taskSent(), "PENDING", 0, false],
  [taskReceived(), "RECEIVED", 1, false],
  [taskStarted(), "STARTED", 1, false],
  [taskRetried(), "RETRY", 1, false],
  [taskRejected({ requeue: true }), "REJECTED", 1, false],
  [taskRejected({ requeue: false }), "REJECTED", 2, true],
  [{ type: "task-rejected", hostname: "h", timestamp: 1, uuid: "a" }, "REJECTED", 2, true],
  [taskRevoked(), "REVOKED", 3, true],
  [taskFailed(), "FAILURE", 3, true],
  [taskSucceeded(), "SUCCESS", 3, true],
];

describe("the state of an event", () => {
  it.each(rows)("$type", (event, state, precedence, final) => {
    expect([stateOf(event), precedenceOf(event), isFinal(event)]).toEqual([state, precedence, final]);
  });

  it("ranks states as celery/states.py does", () => {
    const strongestFirst = Object.entries(STATE_RANK).sort(([, a], [, b]) => b - a);
    expect(strongestFirst.map(([state]) => state)).toEqual([
      "SUCCESS",
      "FAILURE",
      "REVOKED",
      "STARTED",
      "RECEIVED",
      "REJECTED",
      "RETRY",
      "PENDING",
    ]);
  });

  it("covers every type of task event, and no other event", () => {
    expect(new Set(rows.map(([event]) => event.type))).toEqual(new Set(TASK_EVENT_TYPES));
    expect(rows.every(([event]) => isTaskEvent(event))).toBe(true);
    expect([customEvent(), workerHeartbeat(), customEvent({ type: "task-cancelled" })].some((event) => isTaskEvent(event))).toBe(false);
  });
});

describe("a failure that reports an exit", () => {
  it.each(["SystemExit(-241)", "SystemExit(-255)", "SystemExit(-192)", "SystemExit('-241')"])("%s yields for ten seconds", (exception) => {
    const event = taskFailed({ timestamp: 100, exception });
    expect([reportsExit(event), orderingTimestamp(event)]).toEqual([true, 90]);
  });

  it("is recognized by its mark if redaction hides the exception", () => {
    expect(reportsExit({ type: "task-failed", hostname: "h", timestamp: 1, uuid: "a", exited: true })).toBe(true);
  });

  it("never counts as earlier than 1970", () => {
    expect(orderingTimestamp(taskFailed({ timestamp: 3, exception: "SystemExit(-241)" }))).toBe(0);
  });

  it.each([
    taskFailed({ timestamp: 100, exception: "ValueError('SystemExit(-241)')" }),
    taskFailed({ timestamp: 100, exception: "SystemExit(3)" }),
    taskFailed({ timestamp: 100, exception: "SystemExit(-1)" }),
    taskFailed({ timestamp: 100, exception: "SystemExit(-2410)" }),
    taskFailed({ timestamp: 100, exception: "WorkerLostError('signal 15 (SIGTERM)')" }),
    taskFailed({ timestamp: 100, exception: "SoftTimeLimitExceeded()" }),
    taskRetried({ timestamp: 100, exception: "SystemExit(-241)" }),
    taskRevoked({ timestamp: 100, terminated: true }),
    taskSucceeded({ timestamp: 100, result: "SystemExit(-241)" }),
  ])("is not any other event: $type $exception", (event) => {
    expect([reportsExit(event), orderingTimestamp(event)]).toEqual([false, 100]);
  });
});

describe("toMicroseconds", () => {
  it.each([
    [0, 0],
    [1_795_328_908.522675, 1_795_328_908_522_675],
    [0.000001, 1],
    [MAX_TIMESTAMP, 4_000_000_000_000_000],
  ])("of %d is %d", (seconds, microseconds) => {
    expect(toMicroseconds(seconds)).toBe(microseconds);
  });

  it("is exact, and so is its double, up to the latest instant accepted", () => {
    expect(Number.isSafeInteger(toMicroseconds(MAX_TIMESTAMP) * 2)).toBe(true);
  });
});
