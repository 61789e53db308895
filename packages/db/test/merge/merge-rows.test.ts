import type { TaskEvent } from "@celery-metrics-exporter/celery";
import {
  SENT_AT,
  customEvent,
  deliveries,
  taskFailed,
  taskReceived,
  taskRejected,
  taskRetried,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
  workerHeartbeat,
} from "@celery-metrics-exporter/celery/testing";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mergeRows } from "../../src/merge/merge-rows.ts";
import { toTaskRow, type TaskRow } from "../../src/merge/task-row.ts";
import { toTaskRows } from "../../src/merge/upsert.ts";

/** The row of one task, which must be the same in every order of its events. */
function rowOf(...events: TaskEvent[]): Partial<TaskRow> {
  const [row] = toTaskRows(events);
  for (const order of permutations(events)) expect(toTaskRows(order)).toEqual([row]);
  return row ?? {};
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]];
  return items.flatMap((item, index) => permutations([...items.slice(0, index), ...items.slice(index + 1)]).map((rest) => [item, ...rest]));
}

function rowsOf(events: readonly TaskEvent[]): TaskRow[] {
  return events.map(toTaskRow).filter((row) => row !== undefined);
}

function sorted(rows: readonly TaskRow[]): TaskRow[] {
  return rows.toSorted((a, b) => (a.task_id < b.task_id ? -1 : 1));
}

const at = (seconds: number) => ({ timestamp: SENT_AT + seconds });
const micros = (seconds: number) => Math.round((SENT_AT + seconds) * 1e6);

describe("the state", () => {
  test("comes from the latest worker event while none is final", () => {
    expect(rowOf(taskSent(), taskReceived(), taskStarted())).toMatchObject({ status: "STARTED", state_precedence: 1 });
    expect(rowOf(taskReceived(at(1)), taskRetried(at(2)), taskReceived(at(3)))).toMatchObject({ status: "RECEIVED" });
  });

  test("is PENDING only if nothing but task-sent is known, however far ahead the client's clock is", () => {
    expect(rowOf(taskSent())).toMatchObject({ status: "PENDING", worker: undefined });
    expect(rowOf(taskSent(at(99)), taskReceived())).toMatchObject({ status: "RECEIVED" });
  });

  test("stays final after any non-final event, regardless of timestamps", () => {
    expect(rowOf(taskSucceeded(at(1)), taskStarted(at(5)), taskRetried(at(9)))).toMatchObject({ status: "SUCCESS" });
  });

  test("comes from the later of two final events, with all its values", () => {
    const row = rowOf(taskSucceeded(at(1)), taskFailed({ ...at(2), exception: "E()" }));
    expect(row).toMatchObject({ status: "FAILURE", exception: "E()", result: undefined, runtime: undefined });
  });

  test("is REJECTED only if there is no other final state", () => {
    expect(rowOf(taskStarted(), taskRejected(at(1)))).toMatchObject({ status: "REJECTED", state_precedence: 2 });
    expect(rowOf(taskFailed(at(1)), taskRejected(at(2)))).toMatchObject({ status: "FAILURE" });
    expect(rowOf(taskRejected({ ...at(1), requeue: true }), taskStarted(at(2)))).toMatchObject({ status: "STARTED" });
  });

  test("is REVOKED if a running task is terminated, although its process then exits, and keeps its instant", () => {
    const revoked = taskRevoked({ ...at(1), terminated: true, signum: "15" });
    const exit = taskFailed({ ...at(1.005), exception: "SystemExit(-241)" });
    expect(rowOf(taskStarted(), revoked, exit)).toMatchObject({
      status: "REVOKED",
      revoked_by: "terminated (SIGTERM)",
      state_at: micros(1),
      exception: undefined,
    });
    const { exception: _hidden, ...redacted } = { ...exit, exited: true };
    expect(rowOf(taskStarted(), revoked, redacted)).toMatchObject({ status: "REVOKED" });
  });

  test("comes from a run after the terminated one, however it ends", () => {
    const terminated = [taskRevoked({ ...at(1), terminated: true }), taskFailed({ ...at(1.005), exception: "SystemExit(-241)" })];
    expect(rowOf(...terminated, taskSucceeded(at(3)))).toMatchObject({ status: "SUCCESS" });
    expect(rowOf(...terminated, taskFailed(at(3)))).toMatchObject({ status: "FAILURE", exception: "ValueError('no stock')" });
    const exit = taskFailed({ ...at(2), exception: "SystemExit(3)" });
    expect(rowOf(...terminated, exit)).toMatchObject({ status: "FAILURE", exception: "SystemExit(3)", state_at: micros(2) });
    const signalled = taskFailed({ ...at(60), exception: "SystemExit(-255)" });
    expect(rowOf(...terminated, signalled)).toMatchObject({ status: "FAILURE", exception: "SystemExit(-255)", state_at: micros(60) });
  });

  describe("after a revocation that ended no run", () => {
    const revoked = taskRevoked({ ...at(5), expired: true, terminated: false, hostname: "w2@b" });
    const { terminated: _terminated, ...unknown } = revoked;

    test("is REVOKED if no end is known, also between two attempts", () => {
      const state = { status: "REVOKED", revoked_by: "expired", state_at: micros(5) };
      expect(rowOf(taskSent(), revoked)).toMatchObject(state);
      expect(rowOf(taskSent(), taskReceived(at(9)), revoked)).toMatchObject(state);
      expect(rowOf(taskStarted(at(1)), taskRetried(at(2)), revoked)).toMatchObject(state);
      expect(rowOf(revoked, taskRevoked({ ...at(4), hostname: "w9@z" }))).toMatchObject(state);
      // Until its run ends, as in Celery's result backend.
      expect(rowOf(taskStarted(at(1)), revoked, taskStarted(at(9)))).toMatchObject(state);
    });

    test.each([
      ["SUCCESS", taskSucceeded({ ...at(2), runtime: 1, result: "'r'" }), { runtime: 1, result: "'r'" }],
      ["SUCCESS", taskSucceeded({ ...at(9), runtime: 1 }), { runtime: 1 }],
      ["FAILURE", taskFailed({ ...at(2), exception: "E()" }), { exception: "E()" }],
      ["FAILURE", taskFailed({ ...at(2), exception: "SystemExit(-241)" }), { exception: "SystemExit(-241)" }],
      ["REJECTED", taskRejected(at(2)), {}],
      ["REJECTED", taskRejected(at(9)), {}],
      ["REVOKED", taskRevoked({ ...at(2), terminated: true, signum: "9" }), { revoked_by: "terminated (SIGKILL)" }],
    ])("is %s if a run ends so, before or after", (status, end, values) => {
      for (const revocation of [revoked, unknown]) {
        expect(rowOf(taskStarted(at(1)), end, revocation)).toMatchObject({
          status,
          revoked_by: undefined,
          state_at: micros(end.timestamp - SENT_AT),
          ...values,
        });
      }
    });
  });

  test("is FAILURE if the process of an unrevoked task gets a signal", () => {
    expect(rowOf(taskStarted(), taskFailed({ ...at(2), exception: "SystemExit(-241)" }))).toMatchObject({
      status: "FAILURE",
      state_at: micros(2),
    });
  });

  test.each([
    [{ expired: true, terminated: false }, "expired"],
    [{ expired: false, terminated: false }, "request"],
    [{ terminated: false }, "request"],
    [{ expired: false }, "request"],
    [{}, undefined],
    [{ terminated: true, signum: "9" }, "terminated (SIGKILL)"],
    [{ terminated: true, signum: "SIGUSR1" }, "terminated (SIGUSR1)"],
    [{ terminated: true, signum: "-3" }, "terminated (-3)"],
    [{ terminated: true }, "terminated"],
    [{ terminated: true, signum: "constructor" }, "terminated (constructor)"],
    [{ terminated: true, signum: "__proto__" }, "terminated (__proto__)"],
  ])("contains the reason for REVOKED: %o", (fields, reason) => {
    const { terminated: _terminated, expired: _expired, ...revoked } = taskRevoked();
    expect(rowOf(taskSent(), { ...revoked, ...fields })).toMatchObject({ status: "REVOKED", revoked_by: reason });
    expect(rowOf({ ...revoked, ...fields }, taskSucceeded(at(9)))).toMatchObject({ status: "SUCCESS", revoked_by: undefined });
  });

  test("keeps the exception of a retry until the next attempt starts", () => {
    expect(rowOf(taskStarted(at(1)), taskRetried({ ...at(2), exception: "E()" }))).toMatchObject({ status: "RETRY", exception: "E()" });
    expect(rowOf(taskRetried({ ...at(2), exception: "E()" }), taskStarted(at(3)))).toMatchObject({
      status: "STARTED",
      exception: undefined,
    });
  });

  test("is decided by rank, then hostname, then the greater value, if timestamps are equal", () => {
    expect(rowOf(taskRevoked(at(1)), taskFailed(at(1)))).toMatchObject({ status: "FAILURE" });
    expect(rowOf(taskFailed({ ...at(1), hostname: "w1@a" }), taskFailed({ ...at(1), hostname: "w2@a" }))).toMatchObject({
      state_hostname: "w2@a",
    });
    expect(rowOf(taskFailed({ ...at(1), exception: "A" }), taskFailed({ ...at(1), exception: "B" }))).toMatchObject({ exception: "B" });
  });

  test("compares text by UTF-8 bytes, like Postgres", () => {
    const low = taskFailed({ ...at(1), exception: "\uff5e" });
    const high = taskFailed({ ...at(1), exception: "🎉" }); // lower than U+FF5E in UTF-16
    expect(rowOf(low, high)).toMatchObject({ exception: "🎉" });
  });
});

describe("the description", () => {
  test("comes from the earliest task-sent as a whole: a later attempt's ETA is not the first's", () => {
    const first = taskSent(at(0));
    const retry = taskSent({ ...at(5), retries: 1, eta: SENT_AT + 8, args: "(2,)" });
    const received = taskReceived({ ...at(6), retries: 1, eta: SENT_AT + 8, expires: SENT_AT + 9 });
    expect(rowOf(first, retry, received)).toMatchObject({
      args: first.args,
      eta: undefined,
      expires: undefined,
      retries: 1,
      sent_at: micros(0),
    });
  });

  test("comes from the earliest task-received if there is no task-sent", () => {
    expect(rowOf(taskReceived({ ...at(1), name: "a", eta: SENT_AT + 9 }), taskReceived({ ...at(2), name: "b" }))).toMatchObject({
      first_name: "a",
      eta: micros(9),
      queue: undefined,
    });
  });

  test("does not depend on a task-received if two task-sent at the same instant differ", () => {
    expect(rowOf(taskSent({ name: "a" }), taskSent({ name: "b" }), taskReceived({ name: "c" }))).toMatchObject({ name: "b" });
  });

  test("takes root and parent from any event that has them", () => {
    const { root_id: _root, ...protocol1 } = taskSent();
    expect(rowOf(protocol1, taskReceived({ root_id: "root", parent_id: "parent" }))).toMatchObject({
      root_id: "root",
      parent_id: "parent",
    });
  });

  test("has args and kwargs as JSON if they are complete literals", () => {
    expect(rowOf(taskSent({ args: "(1, 'a')", kwargs: "{'k': [None, True]}" }))).toMatchObject({
      args_json: [1, "a"],
      kwargs_json: { k: [null, true] },
    });
    expect(rowOf(taskSent({ args: "(<Foo object>,)", kwargs: "{...}" }))).toMatchObject({ args_json: undefined, kwargs_json: undefined });
  });
});

describe("name and queue", () => {
  const first = [taskSent({ ...at(0), name: "wrapper", queue: "q1" }), taskReceived({ ...at(1), name: "wrapper" })];

  test("belong to the latest attempt if a task is replaced, and the first ones are kept", () => {
    const replaced = [taskSent({ ...at(3), name: "real", queue: "q2" }), taskReceived({ ...at(4), name: "real" })];
    expect(rowOf(...first, ...replaced)).toMatchObject({ name: "real", queue: "q2", first_name: "wrapper", first_queue: "q1" });
  });

  test("belong to the latest attempt if a task is retried into another queue", () => {
    const retry = taskSent({ ...at(3), name: "wrapper", queue: "q2", retries: 1 });
    expect(rowOf(...first, retry)).toMatchObject({ name: "wrapper", queue: "q2", first_name: "wrapper", first_queue: "q1" });
  });

  test("equal the first ones if there is one attempt", () => {
    expect(rowOf(...first)).toMatchObject({ name: "wrapper", queue: "q1", first_name: "wrapper", first_queue: "q1" });
  });

  test("come from task-sent, because a task-received contains a shadow name, however late it is", () => {
    expect(rowOf(...first, taskReceived({ ...at(9), name: "My Report" }))).toMatchObject({ name: "wrapper", queue: "q1" });
  });

  test("come from the latest task-received if there is no task-sent", () => {
    const events = [taskReceived({ ...at(1), name: "wrapper" }), taskReceived({ ...at(2), name: "real" })];
    expect(rowOf(...events)).toMatchObject({ name: "real", queue: undefined, first_name: "wrapper", first_queue: undefined });
  });
});

describe("the other columns", () => {
  test("contain the first sending, receipt and start, the last event, and the worker of the latest worker event", () => {
    const row = rowOf(
      taskSent(at(0)),
      taskReceived({ ...at(1), hostname: "w1@a" }),
      taskStarted(at(4)),
      taskStarted({ ...at(3), hostname: "w2@b" }),
      taskRetried({ ...at(5), hostname: "w3@c" }),
    );
    expect(row).toMatchObject({
      sent_at: micros(0),
      received_at: micros(1),
      started_at: micros(3),
      last_event_at: micros(5),
      worker: "w3@c",
      run_started_at: micros(4),
      run_hostname: taskStarted().hostname,
    });
  });
});

test("only the events that describe a task have the time of its name", () => {
  expect([taskSent(), taskReceived()].map((event) => toTaskRow(event)?.name_at)).not.toContain(undefined);
  expect([taskStarted(), taskSucceeded()].map((event) => toTaskRow(event)?.name_at)).toEqual([undefined, undefined]);
});

describe("events without a task's state", () => {
  test.each([
    ["custom", customEvent()],
    ["cancelled", { ...customEvent(), type: "task-cancelled" }],
    ["heartbeat", workerHeartbeat()],
  ])("make no row: %s", (_name, event) => {
    expect(toTaskRow(event)).toBeUndefined();
    expect(toTaskRows([event])).toEqual([]);
    expect(toTaskRows([taskSent(), event])).toEqual(toTaskRows([taskSent()]));
  });
});

test("any order, split or repetition of a history merges into the same rows", () => {
  fc.assert(
    fc.property(deliveries, ({ history, batches }) => {
      const merged = mergeRows(batches.flatMap((batch) => mergeRows(rowsOf(batch))));
      expect(sorted(merged)).toEqual(sorted(mergeRows(rowsOf(history))));
    }),
    { numRuns: 500 },
  );
});
