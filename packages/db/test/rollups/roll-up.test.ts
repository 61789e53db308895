import { scaled } from "@celery-metrics-exporter/testkit";
import { TASK_EVENT_TYPES, type CeleryEvent, type TaskEvent } from "@celery-metrics-exporter/celery";
import { deliveries, taskFailed, taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { sql } from "drizzle-orm";
import * as fc from "fast-check";
import { Client } from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { upsertTasks } from "../../src/merge/upsert.ts";
import { ADVISORY_LOCKS } from "../../src/migrate/locks.ts";
import { BOUNDS_SECONDS } from "../../src/rollups/histogram.ts";
import { deleteOldRollUps, rollUp, sealRollUps } from "../../src/rollups/roll-up.ts";
import { type Segment, type StatisticsOptions, readStatistics, segmentsOf } from "../../src/rollups/statistics.ts";
import { type Database, query } from "../../src/tables/database.ts";
import { deleteOldTasks, deleteTasks } from "../../src/tables/delete-tasks.ts";
import { celeryRollup, celeryTask, celeryTaskMinute, celeryTaskMinuteDirty, celeryTaskPeriod } from "../../src/tables/schema.ts";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { useTaskTable } from "../task-table.ts";

const table = useTaskTable();
const DAY = 86_400;
const now = () => Date.now() / 1_000;

async function clear(database: Database = table.database): Promise<void> {
  await query(database, sql`truncate ${celeryTask}, ${celeryTaskMinute}, ${celeryTaskMinuteDirty}, ${celeryTaskPeriod}, ${celeryRollup}`);
}
beforeEach(() => clear());

const store = (...events: CeleryEvent[]) => upsertTasks(table.database, events);
const settle = (database: Database = table.database) => rollUp(database, { all: true });
const statistics = async (options: StatisticsOptions) =>
  (await readStatistics((statement) => query(table.database, statement), options)).items;
const notes = async (): Promise<number> => (await query(table.database, sql`select 1 from ${celeryTaskMinuteDirty}`)).length;

interface Counted {
  readonly minute: string;
  readonly name: string;
  readonly queue: string;
  readonly status: string;
  readonly n: number;
  readonly runtime_sum: number;
  readonly runtime_hist: string;
  readonly wait_sum: number;
  readonly wait_hist: string;
  readonly runtime_max: number | null;
  readonly slowest_id: string | null;
  readonly last_failed_id: string | null;
}

function counted(database: Database = table.database): Promise<readonly Counted[]> {
  return query<Counted>(
    database,
    sql`select minute::text, name, queue, status, n, runtime_sum, runtime_hist, wait_sum, wait_hist, runtime_max, slowest_id, last_failed_id
        from ${celeryTaskMinute} order by minute, name, queue, status`,
  );
}

interface Task {
  readonly minute: string;
  readonly name: string;
  readonly queue: string;
  readonly status: string;
  readonly task_id: string;
  readonly duration: number | null;
  readonly wait_time: number | null;
  readonly ended: string;
}

/** Counts the rows of the table in another way. */
async function expected(database: Database = table.database): Promise<Counted[]> {
  const rows = await query<Task>(
    database,
    sql`select date_trunc('minute', seen_at, 'UTC')::text as minute, coalesce(name, '') as name, coalesce(queue, '') as queue, status, task_id, duration, wait_time, state_at::text as ended
        from ${celeryTask} order by date_trunc('minute', seen_at, 'UTC'), coalesce(name, '') collate "C", coalesce(queue, '') collate "C", status collate "C"`,
  );
  const groups = new Map<string, Task[]>();
  for (const task of rows) {
    const key = JSON.stringify([task.minute, task.name, task.queue, task.status]);
    groups.set(key, [...(groups.get(key) ?? []), task]);
  }
  return [...groups.values()].map((tasks) => {
    const [{ minute, name, queue, status }] = tasks as [Task];
    const runtimes = tasks.flatMap(({ duration }) => duration ?? []);
    const waits = tasks.flatMap(({ wait_time }) => wait_time ?? []);
    const slowest = tasks
      .filter(({ duration }) => duration !== null)
      .toSorted((a, b) => (b.duration ?? 0) - (a.duration ?? 0) || (a.task_id < b.task_id ? 1 : -1));
    const failed = tasks.filter(() => status === "FAILURE").toSorted((a, b) => (a.ended + a.task_id < b.ended + b.task_id ? 1 : -1));
    return {
      minute,
      name,
      queue,
      status,
      n: tasks.length,
      runtime_sum: expect.closeTo(sum(runtimes), 6) as number,
      runtime_hist: histogramOf(runtimes),
      wait_sum: expect.closeTo(sum(waits), 6) as number,
      wait_hist: histogramOf(waits),
      runtime_max: runtimes.length === 0 ? null : Math.max(...runtimes),
      slowest_id: slowest[0]?.task_id ?? null,
      last_failed_id: failed[0]?.task_id ?? null,
    };
  });
}

type Summed = Pick<Counted, "name" | "queue" | "status" | "n" | "runtime_hist" | "runtime_max" | "slowest_id"> & {
  readonly width: number;
  readonly at: string;
};

/** Sums the minutes in another way: all periods that are over, and totals of minutes. */
async function expectedPeriods(database: Database = table.database): Promise<readonly Summed[]> {
  const all = await counted(database);
  const nowMs = Date.now();
  const cells = new Map<string, Counted[]>();
  const add = (key: readonly [width: number, at: string, name: string, queue: string], row: Counted): void => {
    const text = JSON.stringify([...key, row.status]);
    cells.set(text, [...(cells.get(text) ?? []), row]);
  };
  for (const row of all) {
    const minute = Date.parse(row.minute);
    for (const width of [1, 60, 1_440]) {
      const widthMs = width * 60_000;
      const begins = Math.floor(minute / widthMs) * widthMs;
      if (width > 1 && begins >= Math.floor((nowMs - 120_000) / widthMs) * widthMs) continue;
      const at = new Date(begins).toISOString();
      if (width > 1) add([width, at, row.name, row.queue], row);
      add([width, at, "(all)", row.queue], row);
      add([width, at, "(all)", "(all)"], row);
    }
  }
  return [...cells]
    .map(([key, rows]) => {
      const [width, at, name, queue, status] = JSON.parse(key) as [number, string, string, string, string];
      const slowest = rows
        .filter((row) => row.runtime_max !== null)
        .toSorted((a, b) => (b.runtime_max ?? 0) - (a.runtime_max ?? 0) || ((a.slowest_id ?? "") < (b.slowest_id ?? "") ? 1 : -1))[0];
      return {
        width,
        at,
        name,
        queue,
        status,
        n: sum(rows.map(({ n }) => n)),
        runtime_hist: String(rows.reduce((total, row) => total + BigInt(row.runtime_hist), 0n)),
        runtime_max: slowest?.runtime_max ?? null,
        slowest_id: slowest?.slowest_id ?? null,
      };
    })
    .toSorted(byKey);
}

const keyOf = ({ width, at, name, queue, status }: Summed): string => JSON.stringify([width, at, name, queue, status]);
const byKey = (a: Summed, b: Summed): number => (keyOf(a) < keyOf(b) ? -1 : 1);

async function periods(database: Database = table.database): Promise<readonly Summed[]> {
  const rows = await query<Summed>(
    database,
    sql`select width, at, name, queue, status, n, runtime_hist, runtime_max, slowest_id from ${celeryTaskPeriod}`,
  );
  return rows.map((row) => ({ ...row, at: new Date(row.at).toISOString() })).toSorted(byKey);
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** As it is stored: twelve digits for each bucket. */
function histogramOf(values: readonly number[]): string {
  const buckets = values.map((value) => BOUNDS_SECONDS.filter((bound) => value >= bound).length);
  return String(buckets.reduce((total, bucket) => total + 10n ** BigInt(12 * bucket), 0n));
}

/** The same events, some of them hours or minutes apart, so that tasks move between minutes. */
const spread = fc
  .tuple(deliveries, fc.array(fc.constantFrom(0, 0, 37, 61, 400, 4_000), { minLength: 1, maxLength: 5 }))
  .map(([{ batches }, offsets]) =>
    batches.map((batch) =>
      batch.map((event) => {
        const key = TASK_EVENT_TYPES.indexOf(event.type) + (event.uuid.codePointAt(event.uuid.length - 1) ?? 0);
        return { ...event, timestamp: event.timestamp + (offsets[key % offsets.length] ?? 0) };
      }),
    ),
  );

/** Now and then with a roll-up, or a filter that excludes some of the tasks. */
async function write(database: Database, batches: readonly (readonly TaskEvent[])[]): Promise<void> {
  for (const [index, batch] of batches.entries()) {
    await upsertTasks(database, batch);
    if (index % 3 === 0) await rollUp(database);
    if (index % 5 === 4)
      await deleteTasks(
        database,
        batch.map(({ uuid }) => uuid),
      );
  }
}

describe("the roll-up", () => {
  test("equals a count of the table after any load by two writers, once all notes are taken", async () => {
    const other = await connectDatabase({ url: table.url, poolSize: 2 });
    try {
      await fc.assert(
        fc.asyncProperty(spread, async (batches) => {
          await clear();
          const half = Math.ceil(batches.length / 2);
          await Promise.all([write(table.database, batches.slice(0, half)), write(other, batches.slice(half)), settle(other)]);
          await settle();
          expect(await counted()).toEqual(await expected());
          expect(await periods()).toEqual(await expectedPeriods());
          expect(await notes()).toBe(0);
        }),
        { numRuns: scaled(20, 60) },
      );
    } finally {
      await other.close();
    }
  }, 180_000);

  test("counts names and queues by how frequent they are, and the rest together", async () => {
    const at = { timestamp: now() - 3_600 };
    await store(
      ...Array.from({ length: 250 }, (_, index) =>
        taskSent({ uuid: `a-${index}`, name: `name-${index}`, queue: `queue-${index % 120}`, ...at }),
      ),
      ...Array.from({ length: 5 }, (_, index) => taskSent({ uuid: `b-${index}`, name: "zzz", queue: "zzz", ...at })),
    );
    await settle();
    const rows = await counted();
    expect(new Set(rows.map(({ name }) => name)).size).toBe(201);
    expect(new Set(rows.map(({ queue }) => queue)).size).toBe(101);
    expect(sum(rows.map(({ n }) => n))).toBe(255);
    expect(sum(rows.filter(({ name }) => name === "(other)").map(({ n }) => n))).toBe(51);
    expect(rows.find(({ name }) => name === "zzz")).toMatchObject({ queue: "zzz", n: 5 });
  });

  test("knows the slowest task and the last that failed", async () => {
    const at = now() - 3_600;
    const run = (uuid: string, runtime: number) => [
      taskReceived({ uuid, name: "a", timestamp: at }),
      taskSucceeded({ uuid, timestamp: at + 1, runtime }),
    ];
    await store(...run("quick", 0.5), ...run("slow", 70_000), ...run("medium", 9.5));
    for (const [uuid, after] of [
      ["first", 1],
      ["last", 9],
      ["second", 2],
    ] as const)
      await store(taskReceived({ uuid, name: "a", timestamp: at }), taskFailed({ uuid, timestamp: at + after }));
    await settle();
    expect(await counted()).toMatchObject([
      { status: "FAILURE", n: 3, last_failed_id: "last", slowest_id: null },
      { status: "SUCCESS", n: 3, slowest_id: "slow", runtime_max: 70_000, last_failed_id: null },
    ]);
  });

  test("does not write what has not changed", async () => {
    const version = () => query(table.database, sql`select ctid::text, xmin::text from ${celeryTaskMinute}`);
    await store(taskSent({ timestamp: now() }));
    await rollUp(table.database);
    const before = await version();
    expect(before).toHaveLength(1);
    await query(table.database, sql`insert into ${celeryTaskMinuteDirty} (minute) select minute from ${celeryTaskMinute}`);
    await rollUp(table.database);
    expect(await version()).toEqual(before);
  });

  test("of an old minute waits for a tenth of its age, and of a new one for nothing", async () => {
    const [old, late] = [now() - 3_600, now() - 3_000];
    await store(taskSent({ uuid: "old", timestamp: old }), taskSent({ uuid: "new", timestamp: now() }));
    expect(await rollUp(table.database), "never counted before").toBe(2);
    await store(
      taskStarted({ uuid: "old", timestamp: old + 1 }),
      taskStarted({ uuid: "new", timestamp: now() }),
      taskSent({ uuid: "late", timestamp: late }),
    );
    expect(await rollUp(table.database), "the new one and the one that was never counted").toBe(2);
    expect(await notes()).toBe(1);
    await query(table.database, sql`update ${celeryTaskMinuteDirty} set noted_at = now() - interval '370 seconds'`);
    expect(await rollUp(table.database)).toBe(1);
    expect(await counted()).toEqual(await expected());
  });

  test("is the work of one process at a time", async () => {
    await store(taskSent({ timestamp: now() }));
    const other = new Client(table.url);
    await other.connect();
    try {
      await other.query("begin");
      await other.query("select pg_advisory_xact_lock($1, 'celery_task_minute'::regclass::oid::int)", [ADVISORY_LOCKS.rollUp]);
      expect(await rollUp(table.database)).toBe(0);
      expect(await notes()).toBe(1);
      await other.query("rollback");
      expect(await rollUp(table.database)).toBe(1);
    } finally {
      await other.end();
    }
  });

  test("counts thousands of minutes, such as those of a table that was there before", async () => {
    const events = Array.from({ length: 3_000 }, (_, index) => taskSent({ uuid: `task-${index}`, timestamp: now() - index * 60 }));
    await store(...events);
    expect(await rollUp(table.database)).toBeGreaterThanOrEqual(2_999);
    expect(await counted()).toEqual(await expected());
  });
});

/** It has summer time. Europe changed the clocks on these days. */
const ZONE = "Europe/Berlin";

describe("where the server's time zone has summer time", () => {
  let there: Database;
  beforeAll(async () => {
    await query(table.database, sql.raw(`alter database "${new URL(table.url).pathname.slice(1)}" set timezone = '${ZONE}'`));
    there = await connectDatabase({ url: table.url, poolSize: 1 });
  });
  afterAll(async () => {
    await there.close();
    await query(table.database, sql.raw(`alter database "${new URL(table.url).pathname.slice(1)}" reset timezone`));
  });

  test.each(["2026-03-29", "2026-10-25"])("the day %s has 24 hours", async (day) => {
    expect(await query(there, sql`show timezone`)).toEqual([{ TimeZone: ZONE }]);
    const begin = Date.parse(`${day}T00:00:00Z`) / 1_000;
    const hours = Array.from({ length: 72 }, (_, hour) => taskSent({ uuid: `task-${hour}`, timestamp: begin + (hour - 24) * 3_600 }));
    await upsertTasks(there, hours);
    await settle(there);
    expect(await periods()).toEqual(await expectedPeriods());
  });

  test("days that ended while nothing was counted begin at midnight in UTC", async () => {
    await query(
      there,
      sql`insert into ${celeryRollup} (name, hours_before, days_before) values ('celery_task_minute', '2026-03-28T00:00Z', '2026-03-28T00:00Z')`,
    );
    const at = Date.parse("2026-03-30T12:00:00Z") / 1_000;
    await upsertTasks(there, [taskSent({ timestamp: at })]);
    await settle(there);
    await query(there, sql`delete from ${celeryTaskPeriod} where width = 1440`);
    await query(there, sql`update ${celeryRollup} set days_before = '2026-03-28T00:00Z'`);
    await settle(there);
    expect(await periods()).toEqual(await expectedPeriods());
  });
});

describe("deletions", () => {
  test("of excluded tasks are counted", async () => {
    await store(...["a", "b"].map((uuid) => taskReceived({ uuid, timestamp: now() - 7_200 })));
    await settle();
    await deleteTasks(table.database, ["a", "unknown"]);
    await settle();
    expect(await counted()).toMatchObject([{ n: 1 }]);
    await deleteTasks(table.database, ["b"]);
    await settle();
    expect(await counted()).toEqual([]);
  });

  test("by retention never change what was counted, whatever comes later and whatever is set", async () => {
    const seen = now() - 9 * DAY;
    const old = Array.from({ length: 20 }, (_, index) => taskSent({ uuid: `old-${index}`, timestamp: seen }));
    await store(...old, taskSent({ uuid: "running", timestamp: seen }), taskStarted({ uuid: "running", timestamp: now() - DAY }));
    await query(table.database, sql`update ${celeryTask} set created_at = seen_at`);
    await sealRollUps(table.database, 7);
    const before = await counted();
    expect(before).toMatchObject([{ n: 20 }, { n: 1 }]);
    expect(await deleteOldTasks(table.database, { olderThanDays: 7 })).toBe(20);
    await store(taskSucceeded({ uuid: "running", timestamp: now() }));
    await settle();
    expect(await counted()).toEqual(before);
    await sealRollUps(table.database, 30);
    await store(taskFailed({ uuid: "running", timestamp: now() + 1 }));
    await settle();
    expect(await counted()).toEqual(before);
    expect(await notes()).toBe(0);
  });

  test("by retention stop at the seal, so that no minute is counted after some of it is gone", async () => {
    await store(taskSent({ uuid: "a", timestamp: now() - 9 * DAY }), taskSent({ uuid: "b", timestamp: now() - 5 * DAY }));
    await query(table.database, sql`update ${celeryTask} set created_at = seen_at`);
    await sealRollUps(table.database, 7);
    expect(await deleteOldTasks(table.database, { olderThanDays: 1 })).toBe(1);
    await sealRollUps(table.database, 1);
    expect(await deleteOldTasks(table.database, { olderThanDays: 1 })).toBe(1);
  });

  test("of old counts", async () => {
    await store(taskSent({ uuid: "a", timestamp: now() - 9 * DAY }), taskSent({ uuid: "b", timestamp: now() - 5 * DAY }));
    await settle();
    expect(await deleteOldRollUps(table.database, { minutes: 0, all: 7 })).toBe(1 + 2 + 3 + 3);
    expect(await counted()).toHaveLength(1);
  });

  test("of old minutes leave hours and days as they are, whatever comes later", async () => {
    const seen = now() - 9 * DAY;
    await store(
      taskSent({ uuid: "a", timestamp: seen }),
      taskSent({ uuid: "b", timestamp: seen + 60 }),
      taskSent({ uuid: "c", timestamp: now() - 5 * DAY }),
    );
    await settle();
    const before = (await periods()).filter(({ width }) => width > 1);
    expect(await deleteOldRollUps(table.database, { minutes: 7, all: 0 })).toBe(2 + 2 * 2);
    expect(await counted()).toHaveLength(1);
    await store(taskStarted({ uuid: "a", timestamp: seen + 1 }));
    await settle();
    expect((await periods()).filter(({ width }) => width > 1)).toEqual(before);
    const range = { from: new Date((seen - 3_600) * 1_000), to: new Date((seen + 3_600) * 1_000) };
    expect(await statistics({ ...range, step: 5 }), "hours instead of minutes").toMatchObject([{ n: 2 }]);
    expect(await notes()).toBe(0);
  });
});

/** Many questions. */
async function answers(): Promise<unknown[][]> {
  const all = [];
  for (const by of [[], ["status"], ["queue"], ["name", "status"]] as const)
    for (const step of [undefined, "day", "hour", 120] as const)
      for (const names of [undefined, ["b"], ["(all)"]])
        all.push(await statistics({ from: new Date("2026-02-27T11:30Z"), to: new Date("2026-03-02T12:31Z"), step, by, names }));
  // Sums of seconds depend on their order, in the last digit.
  return JSON.parse(
    JSON.stringify(all, (_key, value: unknown) => (typeof value === "number" ? Number(value.toPrecision(12)) : value)),
  ) as unknown[][];
}

describe("statistics", () => {
  const start = Date.parse("2026-03-01T12:00:00Z") / 1_000;
  const range = { from: new Date("2026-03-01T00:00Z"), to: new Date("2026-03-02T00:00Z") };

  beforeEach(async () => {
    const runs = Array.from({ length: 100 }, (_, index) => {
      const common = { uuid: `task-${index}`, name: index % 4 === 0 ? "b" : "a" };
      const timestamp = start + (index % 3) * 1_800;
      return [
        taskSent({ ...common, queue: "celery", timestamp }),
        taskStarted({ ...common, timestamp: timestamp + index / 10 }),
        taskSucceeded({ ...common, timestamp: timestamp + 100, runtime: (index + 1) / 10 }),
      ];
    });
    await store(...runs.flat(), taskFailed({ uuid: "failed", timestamp: start }));
    await settle();
  });

  test("have counts and percentiles that are at most a quarter off", async () => {
    const [all, ...others] = await statistics({ ...range, statuses: ["SUCCESS"] });
    expect(others).toEqual([]);
    expect(all).toMatchObject({ at: undefined, n: 100, slowest: 10, slowestId: "task-99", runtime: { count: 100 }, wait: { count: 100 } });
    expect(all?.runtime.sum).toBeCloseTo(505, 6);
    for (const [share, exact] of [
      ["p50", 5],
      ["p95", 9.5],
      ["p99", 9.9],
    ] as const) {
      expect(all?.runtime[share]).toBeGreaterThan(exact / 1.27);
      expect(all?.runtime[share]).toBeLessThan(exact * 1.27);
    }
  });

  test("by time, name, queue and status", async () => {
    expect(await statistics({ ...range, step: "hour", by: ["status"] })).toMatchObject([
      { at: expect.stringMatching(/^2026-03-01T12:00:00/) as string, status: "SUCCESS", n: 67 },
      { at: expect.stringMatching(/12:00:00/) as string, status: "FAILURE", n: 1, lastFailedId: "failed" },
      { at: expect.stringMatching(/13:00:00/) as string, status: "SUCCESS", n: 33 },
    ]);
    expect(await statistics({ ...range, step: "day", by: ["name", "queue"] })).toMatchObject([
      { name: "a", queue: "celery", n: 75 },
      { name: "b", queue: "celery", n: 25 },
      { name: "", queue: "", n: 1 },
    ]);
    expect(await statistics({ ...range, names: ["b", "'; drop table x; --"], step: "minute" })).toHaveLength(3);
    expect(await statistics({ ...range, names: [] })).toMatchObject([]);
    expect(await statistics({ ...range, queues: [""], by: ["name"] })).toMatchObject([{ name: "", n: 1 }]);
    expect(await statistics({ from: new Date("2026-03-01T12:30:30Z"), to: new Date("2026-03-01T12:31Z") })).toMatchObject([{ n: 33 }]);
  });

  test("from hours and days are those from minutes", async () => {
    const fromPeriods = await answers();
    expect((await periods()).some(({ width }) => width === DAY / 60)).toBe(true);
    // Without them, everything comes from minutes.
    await query(table.database, sql`update ${celeryRollup} set hours_before = null, days_before = null`);
    await query(table.database, sql`delete from ${celeryTaskPeriod} where width > 1`);
    expect(fromPeriods).toEqual(await answers());
    expect(fromPeriods.flat().length).toBeGreaterThan(40);
  });
});

const onMarch = (text: string): number => Date.parse(`2026-03-${text}Z`);

describe("the parts of a range", () => {
  const instants = fc.integer({ min: 0, max: 40 * DAY }).map((seconds) => seconds * 1_000);

  test("cover it once, with the widest counts that there are", () => {
    fc.assert(
      fc.property(
        fc.tuple(instants, instants).map((both) => both.toSorted((a, b) => a - b)),
        fc.constantFrom(undefined, "minute" as const, "hour" as const, "day" as const, 5, 60, 90, 120, 1_440, 2_880),
        fc.tuple(instants, instants),
        ([from = 0, to = 0], step, [hours, days]) => {
          const hoursBefore = Math.floor(hours / 3_600_000) * 3_600_000;
          const daysBefore = Math.floor(Math.min(days, hours) / (DAY * 1_000)) * DAY * 1_000;
          const parts = segmentsOf({ from: new Date(from), to: new Date(to), step }, { hoursBefore, daysBefore, minutesSince: undefined });
          const stepMinutes = { minute: 1, hour: 60, day: 1_440 }[String(step)] ?? (step as number | undefined) ?? 1_440;
          const wide = parts.filter(({ width }) => width > 1);
          // From the beginning to the end, without a gap.
          const bounds = [Math.floor(from / 60_000) * 60_000, ...parts.map((part) => part.to)];
          expect([...parts.map((part) => part.from), bounds.at(-1)]).toEqual(bounds);
          expect(parts.length === 0 || bounds.at(-1) === to).toBe(true);
          expect(parts.every(({ width }) => stepMinutes % width === 0)).toBe(true);
          expect(wide.every((part) => part.from % (part.width * 60_000) === 0 && part.to % (part.width * 60_000) === 0)).toBe(true);
          expect(wide.every((part) => part.to <= (part.width === 60 ? hoursBefore : daysBefore))).toBe(true);
          const longest = (width: number): number =>
            Math.max(0, ...parts.filter((part) => part.width === width).map((part) => part.to - part.from));
          // Nearly two hours, or days, may contain no whole one.
          expect(stepMinutes % 60 !== 0 || to > hoursBefore || longest(1) < 2 * 3_600_000).toBe(true);
          expect(stepMinutes % 1_440 !== 0 || to > daysBefore || longest(60) < 2 * DAY * 1_000).toBe(true);
        },
      ),
    );
  });

  test("begin with a whole hour where minutes have been deleted", () => {
    const parts = segmentsOf(
      { from: new Date("2026-03-01T10:20Z"), to: new Date("2026-03-03T12:10Z"), step: 5 },
      { hoursBefore: onMarch("03T12:00"), daysBefore: onMarch("03T00:00"), minutesSince: onMarch("03T00:00") },
    );
    expect(parts).toEqual([
      { width: 60, from: onMarch("01T10:00"), to: onMarch("03T00:00") },
      { width: 1, from: onMarch("03T00:00"), to: onMarch("03T12:10") },
    ] satisfies Segment[]);
  });
});
