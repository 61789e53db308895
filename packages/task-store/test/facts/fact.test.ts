import { MAX_TIMESTAMP, type TaskEvent } from "@celery-metrics-exporter/celery";
import {
  taskFailed,
  taskNotRegistered,
  taskReceived,
  taskRejected,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import { describe, expect, it } from "vitest";
import { exceptionClass } from "../../src/facts/exception-class.ts";
import { detailsOf, factOf } from "../../src/facts/fact.ts";
import { parseTaskEntry } from "../../src/facts/task-entry.ts";
import { required } from "../required.ts";

const PLAIN = { keepWorker: false, keepException: false };
const DETAILED = { keepWorker: true, keepException: true };
const AT = 1_795_328_900.123456;

describe("a fact", () => {
  it.each<[string, TaskEvent, object]>([
    ["sent", taskSent({ timestamp: AT }), { sent: [{ at: 1_795_328_900_123_456, retries: 0 }] }],
    ["sent", taskSent({ timestamp: AT, retries: 40, eta: 2e9 }), { sent: [{ retries: 40, eta: 2e15 }] }],
    ["sent", taskSent({ timestamp: AT, retries: 0, eta: 2e9 }), { sent: [{ retries: 0, eta: 2e15 }] }],
    ["sent", taskSent({ timestamp: 0, eta: MAX_TIMESTAMP * 3 }), { sent: [{ at: 0, eta: MAX_TIMESTAMP * 1e6 }] }],
    [
      "received",
      taskReceived({ timestamp: AT, retries: 2, eta: 2e9 }),
      { received: [{ at: 1_795_328_900_123_456, retries: 2, eta: 2e15 }] },
    ],
    ["started", taskStarted({ timestamp: AT }), { started: [{ at: 1_795_328_900_123_456 }] }],
    ["finals", taskSucceeded({ timestamp: AT, runtime: 0.000000017 }), { finals: [{ state: "SUCCESS", runtime: 1.7e-8 }] }],
    ["finals", taskSucceeded({ timestamp: AT, runtime: 86_400.25 }), { finals: [{ state: "SUCCESS", runtime: 86_400.25 }] }],
    ["finals", taskFailed({ timestamp: AT, exception: "ValueError('x')" }), { finals: [{ state: "FAILURE", unbegun: false }] }],
    ["finals", taskNotRegistered({ timestamp: AT }), { finals: [{ state: "FAILURE", unbegun: true, terminated: false }] }],
    ["finals", taskRevoked({ timestamp: AT }), { finals: [{ state: "REVOKED", unbegun: true }] }],
    ["finals", taskRevoked({ timestamp: AT, terminated: true }), { finals: [{ state: "REVOKED", unbegun: false, terminated: true }] }],
    ["finals", taskRejected({ timestamp: AT }), { finals: [{ state: "REJECTED" }] }],
  ])("of kind %s survives being written and read", (kind, event, expected) => {
    const field = required(factOf(event));
    expect(Buffer.byteLength(field)).toBeLessThanOrEqual(64);
    const facts = parseTaskEntry([field, ""]).facts;
    expect(facts).toMatchObject(expected);
    expect(
      Object.entries(facts)
        .filter(([, of]) => of.length > 0)
        .map(([name]) => name),
    ).toEqual([kind]);
  });

  it("has worker and exception in its value, and only if they are enabled", () => {
    const event = taskFailed({ exception: "ValueError('a|b')", hostname: "w|1@host" });
    expect(detailsOf(event, PLAIN)).toBe("");
    const field = required(factOf(event));
    const value = detailsOf(event, DETAILED);
    const told = { worker: "w_1@host", exception: "ValueError" };
    expect(parseTaskEntry([field, value]).facts.finals).toMatchObject([{ ...told, reported: false }]);
    expect(parseTaskEntry([field, value, "o", "9s"]).facts.finals).toMatchObject([{ ...told, reported: true }]);
    expect(parseTaskEntry([field, `0${value}`, "o", "9s:5:6:1"]).facts.finals).toMatchObject([{ ...told, reported: false }]);
    expect(detailsOf(taskSent(), DETAILED)).toBe("");
  });

  it("is the same for the same hostname, and differs for other hostnames", () => {
    const hostnames = Array.from({ length: 500 }, (_, index) => taskStarted({ hostname: `celery@worker-${index}` }));
    expect(new Set(hostnames.map((event) => factOf(event))).size).toBe(500);
    expect(factOf(taskStarted())).toBe(factOf(taskStarted()));
  });

  it("does not exist for events that neither begin nor end an attempt", () => {
    expect(factOf(taskRejected({ requeue: true }))).toBeUndefined();
  });

  it("is ignored if its kind or state is unknown", () => {
    expect(parseTaskEntry(["zabc", "", "fabc.x.Q12", "", "n", "name", "c", "1:2"]).facts).toEqual({
      sent: [],
      received: [],
      started: [],
      finals: [],
      repeats: [],
    });
  });
});

describe("an exception's class", () => {
  it.each([
    ["ValueError('x')", "ValueError"],
    ["sqlalchemy.exc.OperationalError('(gone)')", "sqlalchemy.exc.OperationalError"],
    ["Terminated(15,)", "Terminated"],
    ["SoftTimeLimitExceeded()", "SoftTimeLimitExceeded"],
    ["<ExceptionInfo: X('y')>", undefined],
    ["", undefined],
    ["E".repeat(150), "E".repeat(100)],
  ])("%s is %s", (repr, name) => {
    expect(exceptionClass(repr)).toBe(name);
  });
});
