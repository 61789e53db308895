import { scaled } from "@celery-metrics-exporter/testkit";
import {
  SENT_AT,
  TASK_ID,
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
} from "@celery-metrics-exporter/celery/testing";
import { toMicroseconds, type CeleryEvent, type TaskEvent } from "@celery-metrics-exporter/celery";
import { getTableColumns, sql } from "drizzle-orm";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { query } from "../../src/tables/database.ts";
import { MERGE_GROUPS } from "../../src/merge/merge-rows.ts";
import { celeryTask } from "../../src/tables/schema.ts";
import type { TaskRow } from "../../src/merge/task-row.ts";
import { toTaskRows, upsertTasks } from "../../src/merge/upsert.ts";
import { clear, useTaskTable, withoutAbsent, type StoredRow } from "../task-table.ts";

const table = useTaskTable();
const store = (...events: CeleryEvent[]) => upsertTasks(table.database, events);
const at = (seconds: number) => ({ timestamp: SENT_AT + seconds });

async function onlyRow(): Promise<StoredRow> {
  const [row, ...others] = Object.values(await table.rows());
  expect(others).toEqual([]);
  if (row === undefined) throw new Error("there is no row");
  return row;
}

function without<E extends TaskEvent>(event: E, field: keyof E): TaskEvent {
  return Object.fromEntries(Object.entries(event).filter(([name]) => name !== field)) as unknown as TaskEvent;
}

/** The version of each row. */
const version = () => query(table.database, sql`select ctid::text, xmin::text, updated_at::text from ${celeryTask}`);

function times(): Promise<readonly { created: string; updated: string }[]> {
  return query(table.database, sql`select created_at::text as created, updated_at::text as updated from ${celeryTask}`);
}

/** The expected row: from the merge in memory, with the columns that Postgres computes. */
function expectedRows(events: readonly CeleryEvent[]): Record<string, unknown> {
  return Object.fromEntries(
    toTaskRows(events).map((row) => {
      const finished_at = row.state_precedence >= 2 ? row.state_at : undefined;
      const seen_at = row.sent_at ?? row.received_at ?? row.started_at ?? row.state_at;
      const problem = PROBLEMS.has(row.status) ? row.status : undefined;
      return [row.task_id, withoutAbsent({ ...row, finished_at, wait_time: waitTimeOf(row), duration: durationOf(row), seen_at, problem })];
    }),
  );
}

const PROBLEMS: ReadonlySet<string> = new Set(["FAILURE", "RETRY", "REVOKED", "REJECTED"]);

function waitTimeOf(row: TaskRow): number | undefined {
  const { started_at, run_started_at = 0, retries = 0 } = row;
  const ready = Math.max(row.sent_at ?? -Infinity, row.eta ?? -Infinity);
  if (started_at === undefined || ready === -Infinity) return undefined;
  const first = row.sent_at ?? row.received_at ?? -Infinity;
  if (started_at < first && row.name_at === first && (retries > 0 || run_started_at > started_at)) return undefined;
  return Math.max(started_at - ready, 0) / 1e6;
}

function durationOf(row: TaskRow): number | undefined {
  if (row.runtime !== undefined) return row.runtime;
  const ran = row.status !== "REVOKED" || row.revoked_by?.startsWith("terminated") === true;
  if (row.state_precedence < 2 || !ran || row.run_hostname !== row.state_hostname) return undefined;
  const start = row.run_started_at ?? Number.POSITIVE_INFINITY;
  const { name_at = 0 } = row;
  if (name_at > (row.sent_at ?? row.received_at ?? 0) && name_at > start) return undefined;
  if (row.exception?.startsWith("NotRegistered(") === true) return undefined;
  return start <= row.state_at ? (row.state_at - start) / 1e6 : undefined;
}

test("any order, split and repetition of a history leads to the same rows as the merge in memory", async () => {
  await fc.assert(
    fc.asyncProperty(deliveries, async ({ history, batches }) => {
      await clear(table.database);
      for (const batch of batches) await store(...batch);
      const rows = await table.rows();
      for (const row of Object.values(rows)) expect(row.wait_time ?? 0).toBeGreaterThanOrEqual(0);
      expect(rows).toEqual(expectedRows(history));
    }),
    { numRuns: scaled(20, 60) },
  );
}, 120_000);

test("concurrent batches of the same tasks do not deadlock, and none is lost", async () => {
  const ids = Array.from({ length: 200 }, (_, index) => `task-${index}`);
  const steps = [taskSent, taskReceived, taskStarted, taskSucceeded];
  const histories = steps.map((step) => ids.map((uuid) => step({ uuid })));
  const batches = [
    ...histories,
    ...histories.map((events) => events.toReversed()),
    ...histories,
    ...histories.map((events) => events.toReversed()),
  ];
  await Promise.all(batches.map((batch) => store(...batch)));
  expect(await table.rows()).toEqual(expectedRows(histories.flat()));
});

test.each([
  ["capitals before small letters", "B('')", "a('')"],
  ["accents after z", "z", "é"],
  ["characters beyond U+FFFF last", "\uff5e", "🎉"],
])("text decides between equal keys by its UTF-8 bytes, regardless of the database's collation: %s", async (_name, lesser, greater) => {
  const events = [lesser, greater].map((text) => taskFailed({ exception: text }));
  for (const order of [events, events.toReversed()]) {
    await clear(table.database);
    for (const event of order) await store(event);
    expect((await onlyRow()).exception).toBe(greater);
    expect(toTaskRows(order)[0]?.exception).toBe(greater);
  }
});

describe("an upsert that changes nothing", () => {
  const history = [taskSent(), taskReceived(), taskStarted(), taskSucceeded()];

  test.each([
    ["the same batch", history],
    ["each event alone", [history[1], history[3], history[0], history[2]]],
    ["a late event that loses in every group", [taskReceived(at(0.75))]],
  ])("writes no row: %s", async (_name, again) => {
    await store(...history);
    const before = await version();
    for (const event of again) if (event !== undefined) await store(event);
    await store(...history, ...again.filter((event) => event !== undefined));
    expect(await version()).toEqual(before);
  });

  test("keeps updated_at, and one that changes something updates it", async () => {
    await store(...history);
    const [before] = await times();
    await store(...history);
    expect(await times()).toEqual([before]);
    await store(taskFailed(at(7)));
    const [after] = await times();
    expect(after?.created).toBe(before?.created);
    expect(after?.updated).not.toBe(before?.updated);
  });
});

describe("the stored row", () => {
  test("has timestamps with microseconds, also for distant ETAs", async () => {
    const timestamp = 1_795_328_913.763_817;
    await store(taskReceived({ timestamp, eta: 32_503_680_000.25 }), taskStarted({ timestamp: 3_999_999_999.999_999 }));
    expect(await onlyRow()).toMatchObject({
      received_at: 1_795_328_913_763_817,
      eta: toMicroseconds(32_503_680_000.25),
      started_at: 3_999_999_999_999_999,
    });
    const [row] = await query<{ text: string }>(
      table.database,
      sql`select to_char(received_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as text from ${celeryTask}`,
    );
    expect(row?.text).toBe("2026-11-22 06:28:33.763817");
  });

  test("has the exact instant of every revocation, so that storing one again writes nothing", async () => {
    const revocations = Array.from({ length: 1_000 }, (_, index) =>
      taskRevoked({ uuid: `task-${index}`, timestamp: 1_795_328_900 + index * 1_000_000.000_371 }),
    );
    await store(...revocations);
    const before = await version();
    await store(...revocations);
    expect(await version()).toEqual(before);
    expect(await table.rows()).toEqual(expectedRows(revocations));
  });

  test.each([
    ["from sent to started", [taskSent(at(0)), taskStarted(at(1.5))], 1.5],
    ["from the ETA, if that is later", [taskSent({ ...at(0), eta: SENT_AT + 1 }), taskStarted(at(1.5))], 0.5],
    ["never below 0, if clocks differ", [taskSent(at(0)), taskStarted(at(-3))], 0],
    ["unknown if only a later attempt's sending is known", [taskStarted(at(1)), taskSent(at(5)), taskStarted(at(6))], undefined],
    ["unknown if only a retry's sending is known", [taskStarted(at(1)), taskSent({ ...at(5), retries: 1, eta: SENT_AT + 9 })], undefined],
    [
      "unknown if only a later attempt's ETA is known",
      [taskStarted(at(1)), taskReceived({ ...at(5), retries: 1, eta: SENT_AT + 9 })],
      undefined,
    ],
    [
      "never below 0, if both attempts' sendings are known",
      [taskSent(at(0)), taskStarted(at(-1)), taskSent({ ...at(5), retries: 1 }), taskStarted(at(6))],
      0,
    ],
    ["unknown without a start", [taskSent(at(0)), taskReceived(at(1))], undefined],
    ["unknown without a task-sent or an ETA", [taskReceived(at(0)), taskStarted(at(1))], undefined],
  ])("has the wait time %s", async (_name, events, seconds) => {
    await store(...events);
    expect((await onlyRow()).wait_time).toBe(seconds);
  });

  const other = { hostname: "w2@host-b" };
  test.each<readonly [string, TaskEvent[], number | undefined]>([
    ["measured by the worker, for a success", [taskStarted(at(1)), taskSucceeded({ ...at(9), runtime: 2 })], 2],
    ["from start to end, for a success without a measurement", [taskStarted(at(1)), without(taskSucceeded(at(9)), "runtime")], 8],
    ["from start to end, for a failure", [taskSent(at(0)), taskReceived(at(0)), taskStarted(at(1)), taskFailed(at(3.5))], 2.5],
    ["of the last attempt", [taskStarted(at(1)), taskRetried(at(2)), taskStarted(at(60)), taskFailed(at(61))], 1],
    ["of the run that ended", [taskStarted(at(1)), taskStarted({ ...at(60), ...other }), taskFailed({ ...at(61), ...other })], 1],
    ["until a rejection", [taskStarted(at(1)), taskRejected(at(3))], 2],
    ["until its termination", [taskStarted(at(1)), taskRevoked({ ...at(3), terminated: true })], 2],
    ["unknown if it was revoked before its next attempt", [taskStarted(at(1)), taskRetried(at(2)), taskRevoked(at(3))], undefined],
    [
      "unknown if it failed before its next attempt started",
      [taskSent(at(0)), taskStarted(at(1)), taskRetried(at(2)), taskSent({ ...at(3), retries: 1 }), taskFailed(at(9))],
      undefined,
    ],
    [
      "unknown if it failed before it started again, as only task-received shows",
      [taskReceived(at(0)), taskStarted(at(1)), taskReceived({ ...at(3), retries: 1 }), taskFailed(at(9))],
      undefined,
    ],
    [
      "unknown if it is not registered",
      [taskSent(at(0)), taskStarted(at(1)), taskFailed({ ...at(1.99), exception: "NotRegistered('a')" })],
      undefined,
    ],
    [
      "of the only attempt, although its client's clock is ahead",
      [taskSent(at(60)), taskReceived(at(1)), taskStarted(at(1)), taskFailed(at(3))],
      2,
    ],
    [
      "of the next attempt, once that has started",
      [taskSent(at(0)), taskStarted(at(1)), taskSent({ ...at(3), retries: 1 }), taskStarted(at(4)), taskFailed(at(9))],
      5,
    ],
    ["unknown before its end", [taskStarted(at(1))], undefined],
    ["unknown without a start", [taskReceived(at(1)), taskFailed(at(3))], undefined],
    ["unknown if the start is on another worker", [taskStarted({ ...at(1), ...other }), taskFailed(at(3))], undefined],
    ["never below 0", [taskStarted(at(3)), taskFailed(at(1))], undefined],
  ])("has the duration %s", async (_name, events, seconds) => {
    await store(...events);
    expect((await onlyRow()).duration).toBe(seconds);
  });

  test("has the latest name and queue in rows older than `name_at`", async () => {
    await store(taskSent({ ...at(0), name: "a", queue: "q1" }));
    await query(table.database, sql`update ${celeryTask} set name_at = null, first_name = null, first_queue = null`);
    await store(taskReceived({ ...at(1), name: "shadow" }));
    expect(await onlyRow()).toMatchObject({ name: "a", queue: "q1" });
    await store(taskSent({ ...at(2), name: "b", queue: "q2" }));
    expect(await onlyRow()).toMatchObject({ name: "b", queue: "q2" });
  });

  test("has no NUL and no half characters in any field", async () => {
    await store(
      taskSent({ args: '("a\\x00b",)', kwargs: "{'k\0': '\ud83c'}", name: "shop\0.cart", queue: "\0", uuid: "id\0" }),
      taskFailed({ exception: "E('\0')", traceback: "\0", hostname: "w\0@h", uuid: "id" }),
    );
    const row = await onlyRow();
    expect(row).toMatchObject({
      task_id: "id",
      args: '("a\\x00b",)',
      kwargs: "{'k': '\ufffd'}",
      kwargs_json: { k: "\ufffd" },
      name: "shop.cart",
      exception: "E('')",
      worker: "w@h",
    });
    expect([row.args_json, row.queue, row.traceback]).toEqual([undefined, undefined, undefined]);
  });

  test("has args, kwargs and result verbatim, in any script", async () => {
    const texts = { args: `("it's \\"quoted\\"", '日本語 🎉 ✓')`, kwargs: "{'path': 'C:\\\\dir\\n'}" };
    await store(taskSent(texts), taskSucceeded({ result: "{'\u2028': \"\\\\\"}" }));
    expect(await onlyRow()).toMatchObject({ ...texts, result: "{'\u2028': \"\\\\\"}", args_json: [`it's "quoted"`, "日本語 🎉 ✓"] });
  });

  test("has a NULL if args are not a literal", async () => {
    await store(taskSent({ args: "(<Order 7>,)", kwargs: "{...}" }));
    const row = await onlyRow();
    expect([row.args, row.args_json, row.kwargs_json]).toEqual(["(<Order 7>,)", undefined, undefined]);
  });

  test("does not exist for custom events and task-cancelled, alone or with others", async () => {
    await store(customEvent(), { ...customEvent(), type: "task-cancelled" });
    expect(await table.rows()).toEqual({});
    await store(taskSent(), customEvent({ uuid: TASK_ID, ...at(50) }));
    expect(await table.rows()).toEqual(expectedRows([taskSent()]));
  });

  test("can have any kind of id", async () => {
    const ids = ["3ce907e3-796a-4b51-97cf-7cef1b946f91", "not a uuid", "'; drop table celery_task; --", "ünï✓🎉", "$1", "\\"];
    await store(...ids.map((uuid) => taskSent({ uuid })));
    expect(Object.keys(await table.rows()).sort()).toEqual([...ids].sort());
  });
});

test("every column is either written by the merge or computed by Postgres", () => {
  const moved = new Set<string>(MERGE_GROUPS.flatMap(({ moves }) => moves));
  const others = Object.values(getTableColumns(celeryTask))
    .map(({ name }) => name)
    .filter((name) => !moved.has(name));
  expect(others.sort()).toEqual([
    "created_at",
    "duration",
    "finished_at",
    "left_out",
    "problem",
    "seen_at",
    "seen_before",
    "task_id",
    "updated_at",
    "wait_time",
  ]);
  expect(MERGE_GROUPS.flatMap(({ moves }) => moves)).toHaveLength(moved.size);
});
