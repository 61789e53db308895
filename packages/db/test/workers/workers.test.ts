import { scaled } from "@celery-metrics-exporter/testkit";
import { type CeleryEvent, type Listened, type WorkerEvent, type WorkersObserved } from "@celery-metrics-exporter/celery";
import {
  LISTENING_CASES,
  LISTENING_HEARD_AGO,
  LISTENING_LIMIT_SECONDS,
  SENT_AT,
  doubled,
  reportsOf,
  shuffled,
  split,
  taskReceived,
  taskStarted,
  taskSucceeded,
  workerHeartbeat,
  workersObserved,
} from "@celery-metrics-exporter/celery/testing";
import { sql } from "drizzle-orm";
import * as fc from "fast-check";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { upsertTasks } from "../../src/merge/upsert.ts";
import { rollUp } from "../../src/rollups/roll-up.ts";
import { query } from "../../src/tables/database.ts";
import { celeryListening, celeryRollup, celeryTaskMinute, celeryTaskMinuteDirty, celeryWorker } from "../../src/tables/schema.ts";
import {
  MOST_WORKERS,
  deleteSilentWorkers,
  mergeListened,
  mergeObservedWorkers,
  mergeWorkerEvents,
} from "../../src/workers/merge-workers.ts";
import {
  STUCK,
  type UsualRuntime,
  WORKER_LOST_AFTER_SECONDS,
  listenedUntil,
  lostRows,
  receiversNow,
  stuckAfterSeconds,
  usualRuntimesStatement,
  workerState,
} from "../../src/workers/worker-state.ts";
import { useTaskTable } from "../task-table.ts";

const table = useTaskTable();
beforeEach(() =>
  query(table.database, sql`truncate ${celeryWorker}, ${celeryTaskMinute}, ${celeryTaskMinuteDirty}, ${celeryRollup}, ${celeryListening}`),
);

const HOSTNAME = "w1@host-a";
const online = (fields: Partial<WorkerEvent> = {}) => workerHeartbeat({ ...fields, type: "worker-online" } as WorkerEvent);
const offline = (fields: Partial<WorkerEvent> = {}) => workerHeartbeat({ ...fields, type: "worker-offline" } as WorkerEvent);
const heartbeat = workerHeartbeat;
/** An answer to a broadcast. */
const answer = (fields: Partial<WorkerEvent> = {}): WorkerEvent => {
  const { active: _active, processed: _processed, ...rest } = workerHeartbeat({ ...fields, freq: 5 });
  return rest;
};
const merge = (events: readonly CeleryEvent[], heardAt?: number) => mergeWorkerEvents(table.database, events, heardAt);
const seconds = (column: string) => sql.raw(`date_part('epoch', ${column}) as ${column}`);

interface StoredWorker {
  readonly [column: string]: unknown;
}

async function workers(): Promise<readonly StoredWorker[]> {
  return query<StoredWorker>(
    table.database,
    sql`select hostname, last_event_type, freq, active, processed::float8, loadavg, pid, sw_ver, queues, pool, concurrency, prefetch_count,
          ${sql.join(["heard_at", "last_event_at", "online_at", "heartbeat_at", "first_seen_at", "queues_at", "stats_at", "started_at", "observed_at"].map(seconds), sql`, `)}
        from ${celeryWorker} order by hostname`,
  );
}

async function onlyWorker(): Promise<StoredWorker> {
  const [worker, ...others] = await workers();
  expect(others).toEqual([]);
  return worker ?? {};
}

// Whatever arrives, in whatever order.

type Delivered = { readonly event: WorkerEvent; readonly heardAt: number } | { readonly observation: WorkersObserved };

const moment = fc.integer({ min: 0, max: 5 }).map((step) => SENT_AT - 1_000_000 + step * 20);
const hostname = fc.constantFrom("w1@host-a", "w2@host-b");
const values = fc.record(
  {
    active: fc.integer({ min: 0, max: 3 }),
    processed: fc.integer({ min: 0, max: 3 }),
    freq: fc.constantFrom(2, 5),
    pid: fc.constantFrom(1, 2),
    loadavg: fc.constantFrom([1], [1, 2, 3], [0.5, 2]),
    sw_ver: fc.constantFrom("5.6.3", "5.3.0", "B", "a"),
    sw_ident: fc.constantFrom("py-celery", "other"),
    sw_sys: fc.constantFrom("Linux", "Darwin"),
  },
  { requiredKeys: [] },
);
const deliveredEvent = fc
  .record({
    type: fc.constantFrom("worker-online", "worker-heartbeat", "worker-offline"),
    hostname,
    timestamp: moment,
    values,
    heardAt: moment,
  })
  .map(({ values: told, heardAt, ...event }): Delivered => ({ event: { ...event, ...told } as WorkerEvent, heardAt }));
const observedWorker = fc.record(
  {
    hostname,
    queues: fc.constantFrom(["celery"], ["mail", "celery"], []),
    uptime: fc.integer({ min: 0, max: 3 }),
    pool: fc.constantFrom("prefork", "threads"),
    concurrency: fc.integer({ min: 1, max: 3 }),
    prefetchCount: fc.integer({ min: 1, max: 3 }),
  },
  { requiredKeys: ["hostname"] },
);
const deliveredObservation = fc
  .record({ timestamp: moment, workers: fc.array(observedWorker, { maxLength: 2 }) })
  .map((fields): Delivered => ({ observation: { type: "workers-observed", ...fields } }));
const histories = fc.array(fc.oneof(deliveredEvent, deliveredObservation), { minLength: 1, maxLength: 15 });
const twice = histories.chain((history) =>
  fc.tuple(
    fc.constant(history.map((one) => [one])),
    doubled(history)
      .chain((all) => shuffled(all))
      .chain((all) => split(all)),
  ),
);

/** A batch has one time of receipt, so events with the same one go together. */
async function deliver(batch: readonly Delivered[]): Promise<void> {
  const byTime = new Map<number, WorkerEvent[]>();
  for (const one of batch) if ("event" in one) byTime.set(one.heardAt, [...(byTime.get(one.heardAt) ?? []), one.event]);
  for (const [heardAt, events] of byTime) await merge(events, heardAt);
  await mergeObservedWorkers(
    table.database,
    batch.flatMap((one) => ("observation" in one ? [one.observation] : [])),
  );
}

test("any order, split and repetition of events and observations leads to the same rows", async () => {
  await fc.assert(
    fc.asyncProperty(twice, async (deliveries) => {
      const pictures: unknown[] = [];
      for (const batches of deliveries) {
        await query(table.database, sql`truncate ${celeryWorker}`);
        for (const batch of batches) await deliver(batch);
        pictures.push(await workers());
      }
      expect(pictures[1]).toEqual(pictures[0]);
    }),
    { numRuns: scaled(40, 150) },
  );
}, 120_000);

describe("a worker's row", () => {
  test.each<Partial<WorkerEvent>>([
    { sw_ver: "5.6.3" },
    { sw_ident: "a" },
    { sw_sys: "Linux" },
    { loadavg: [2] },
    { pid: 3 },
    { freq: 9 },
    { processed: 99 },
    { active: 9 },
  ])("is the same in any order if two heartbeats of one instant differ only in %o", async (fields) => {
    const events = [{}, fields].map((own) => heartbeat({ loadavg: [1], pid: 1, sw_ver: "5", sw_sys: "", ...own }));
    const pictures: unknown[] = [];
    for (const order of [events, events.toReversed()]) {
      await query(table.database, sql`truncate ${celeryWorker}`);
      for (const event of order) await merge([event], SENT_AT);
      pictures.push(await query(table.database, sql`select * from ${celeryWorker}`));
    }
    expect(pictures[1]).toEqual(pictures[0]);
  });

  test("has the values of its latest heartbeat, and when a receiver heard it", async () => {
    const late = SENT_AT - 50_000;
    await merge(
      [
        online({ timestamp: late, sw_ver: "5.6.3" }),
        heartbeat({ timestamp: late + 2, active: 3, processed: 40, loadavg: [1, 2, 3], sw_ver: "5.6.3", pid: 7 }),
      ],
      late + 5,
    );
    expect(await onlyWorker()).toMatchObject({
      hostname: HOSTNAME,
      heard_at: late + 5,
      first_seen_at: late + 5,
      online_at: late,
      last_event_type: "worker-heartbeat",
      last_event_at: late + 2,
      heartbeat_at: late + 2,
      active: 3,
      processed: 40,
      loadavg: [1, 2, 3],
      sw_ver: "5.6.3",
      pid: 7,
    });
  });

  test("keeps what an answer to a broadcast lacks", async () => {
    await merge([heartbeat({ timestamp: SENT_AT - 100, active: 3, processed: 40 })], SENT_AT - 100);
    await merge([answer({ timestamp: SENT_AT - 90 })], SENT_AT - 90);
    expect(await onlyWorker()).toMatchObject({ active: 3, processed: 40, freq: 2, last_event_at: SENT_AT - 90, heard_at: SENT_AT - 90 });
  });

  test("is not written by heartbeats that come again", async () => {
    const version = () => query(table.database, sql`select ctid::text, xmin::text from ${celeryWorker}`);
    await merge([online({ timestamp: SENT_AT - 9 }), heartbeat({ timestamp: SENT_AT - 8 })], SENT_AT - 8);
    await mergeObservedWorkers(table.database, [workersObserved({ timestamp: SENT_AT - 5 })]);
    const before = await version();
    await merge([heartbeat({ timestamp: SENT_AT - 8 })], SENT_AT - 8);
    await mergeObservedWorkers(table.database, [workersObserved({ timestamp: SENT_AT - 5 })]);
    expect(await version()).toEqual(before);
  });

  test("cannot be ahead of its time by more than a minute", async () => {
    const now = Date.now() / 1_000;
    await merge([heartbeat({ timestamp: now + 40_000 })], now);
    await merge([offline({ timestamp: now + 61 })], now);
    expect(await onlyWorker()).toMatchObject({ last_event_type: "worker-offline" });
    await merge([heartbeat({ hostname: "w2", timestamp: now })], now + 9_999);
    const [, second] = await workers();
    expect(second?.["heard_at"]).toBeLessThan(now + 60);
  });

  test("cannot be ahead of its time either if an event is replayed, for which no time of a receiver is known", async () => {
    const now = Date.now() / 1_000;
    await mergeWorkerEvents(table.database, [offline({ timestamp: now + 40_000 })]);
    await merge([heartbeat({ timestamp: now + 70 })], now + 70);
    expect(await onlyWorker()).toMatchObject({ last_event_type: "worker-heartbeat" });
  });

  test("stays offline if an earlier heartbeat comes again, although the database's clock is minutes behind", async () => {
    const now = Date.now() / 1_000;
    await merge([offline({ timestamp: now + 200 })], now + 200);
    await merge([heartbeat({ timestamp: now + 190 })], now + 190);
    expect(await onlyWorker()).toMatchObject({ last_event_type: "worker-offline" });
  });

  test("does not come alive if only its offline event is known, or comes first", async () => {
    await merge([offline({ timestamp: SENT_AT })], SENT_AT);
    expect(await onlyWorker()).toMatchObject({ heard_at: null, observed_at: null });
    await merge([heartbeat({ timestamp: SENT_AT - 2 })], SENT_AT);
    expect(await onlyWorker()).toMatchObject({ last_event_type: "worker-offline" });
  });

  test("can have any name, and any numbers that an event can have", async () => {
    const names = ["'; drop table celery_worker; --", "ünï✓🎉", "<b>w</b>", "__proto__", "nul\0", "x".repeat(512)];
    await merge(names.map((name) => heartbeat({ hostname: name, active: 1.5, processed: 4e9, pid: 2_147_483_647 })));
    expect((await workers()).map((worker) => worker["hostname"])).toEqual(
      expect.arrayContaining(names.map((name) => name.replace("\0", ""))),
    );
    expect((await workers())[0]).toMatchObject({ active: 1, processed: 4e9 });
  });

  test("says what the worker answered, each from its latest answer", async () => {
    const worker = { hostname: HOSTNAME, queues: ["mail", "celery"], pool: "prefork", concurrency: 4, prefetchCount: 16, uptime: 100 };
    await mergeObservedWorkers(table.database, [
      { type: "workers-observed", timestamp: 1_700_000_000, workers: [worker] },
      {
        type: "workers-observed",
        timestamp: 1_700_000_060,
        workers: [{ hostname: HOSTNAME, queues: ["celery"] }, { hostname: "silent@host" }],
      },
    ]);
    expect((await workers())[1]).toMatchObject({
      queues: ["celery"],
      pool: "prefork",
      concurrency: 4,
      prefetch_count: 16,
      started_at: 1_699_999_900,
      stats_at: 1_700_000_000,
      observed_at: 1_700_000_060,
    });
  });
});

describe("the number of workers", () => {
  test("is bounded, and old ones make room", async () => {
    await query(
      table.database,
      sql`insert into ${celeryWorker} (hostname, heard_at, first_seen_at) select 'old-' || i, now() - interval '2 hours', now() from generate_series(1, ${MOST_WORKERS - 1}) i`,
    );
    await merge([
      heartbeat({ hostname: "a@new", timestamp: Date.now() / 1_000 }),
      heartbeat({ hostname: "b@new" }),
      heartbeat({ hostname: "old-1", timestamp: Date.now() / 1_000 }),
    ]);
    const count = async () => (await query(table.database, sql`select 1 from ${celeryWorker}`)).length;
    expect(await count()).toBe(MOST_WORKERS);
    expect(await deleteSilentWorkers(table.database, 30)).toBe(MOST_WORKERS - 2);
    expect((await workers()).map((worker) => worker["hostname"])).toEqual(["a@new", "old-1"]);
  });

  test("shrinks when workers have been silent for days", async () => {
    const now = Date.now() / 1_000;
    await merge([heartbeat({ hostname: "recent" })], now - 2 * 86_400);
    await merge([heartbeat({ hostname: "gone" })], now - 4 * 86_400);
    await merge([offline({ hostname: "never heard" })], now - 4 * 86_400);
    await merge([heartbeat({ hostname: "answers" })], now - 4 * 86_400);
    await mergeObservedWorkers(table.database, [workersObserved({ timestamp: now - 60, workers: [{ hostname: "answers", queues: [] }] })]);
    expect(await deleteSilentWorkers(table.database, 3)).toBe(2);
    expect((await workers()).map((worker) => worker["hostname"])).toEqual(["answers", "recent"]);
  });
});

describe("the state of a worker", () => {
  test.each([
    ["up", { lastEventType: "worker-heartbeat", heardAt: 970, observedAt: undefined }, 1_000],
    ["lost", { lastEventType: "worker-heartbeat", heardAt: 969, observedAt: undefined }, 1_000],
    ["up", { lastEventType: "worker-online", heardAt: 1, observedAt: 980 }, 1_000],
    ["offline", { lastEventType: "worker-offline", heardAt: 999, observedAt: 999 }, 1_000],
    ["up", { lastEventType: undefined, heardAt: undefined, observedAt: 980 }, 1_000],
    ["up", { lastEventType: undefined, heardAt: undefined, observedAt: 911 }, 1_000],
    ["unknown", { lastEventType: undefined, heardAt: undefined, observedAt: 909 }, 1_000],
    ["up", { lastEventType: "worker-heartbeat", heardAt: 910, observedAt: undefined }, 930],
    ["unknown", { lastEventType: "worker-heartbeat", heardAt: 909, observedAt: undefined }, 930],
    ["unknown", { lastEventType: "worker-heartbeat", heardAt: 909, observedAt: undefined }, undefined],
  ] as const)("is %s: %o, listened until %s", (state, signs, until) => {
    expect(workerState(signs, until, 1_000)).toBe(state);
  });
});

const unixNow = () => Date.now() / 1_000;

describe("the clock by which workers are unknown", () => {
  test.each([
    ["ours without a receiver", [], 0],
    ["that of the receiver", [[1_000, 60]], 60],
    [
      "that of the receiver that is most behind",
      [
        [1_000, 10, "another"],
        [1_000, 60],
      ],
      60,
    ],
    ["not that of one whose events are processed late", [[1_000, 900]], 300],
  ] as readonly [string, readonly (readonly [number, number, string?])[], number][])("is %s", async (_, times, behind) => {
    for (const time of times) await listened(...time);
    const [row] = await query<{ behind: number }>(
      table.database,
      sql`select date_part('epoch', clock_timestamp() - ${receiversNow()}) as behind`,
    );
    expect(row?.behind).toBeGreaterThan(behind - 1);
    expect(row?.behind).toBeLessThan(behind + 5);
  });
});

test("what receivers report leads to the same row in any order, repeated, and in any batches", async () => {
  const now = Math.floor(unixNow());
  const report = fc
    .record({
      since: fc.integer({ min: 0, max: 2_000 }),
      lasted: fc.integer({ min: -5, max: 700 }),
      source: fc.constantFrom("a", "b", "c"),
    })
    .map(({ since, lasted, source }): Listened => ({
      type: "listened",
      source,
      since: now - since,
      timestamp: Math.min(now - since + lasted, now),
    }));
  const delivery = fc.array(report, { maxLength: 8 }).chain((reports) =>
    fc.record({
      reports: fc.constant(reports),
      batches: doubled(reports).chain(shuffled).chain(split),
      silentFor: fc.constantFrom(0, 40, 400, 1_000),
    }),
  );
  await strand(["w1@host-a", "w2@host-b"], 1_000);
  const stored = async (batches: readonly (readonly Listened[])[], silentFor: number) => {
    await query(table.database, sql`truncate ${celeryListening}`);
    await query(table.database, sql`update ${celeryWorker} set heard_at = to_timestamp(${now - silentFor}::float8)`);
    for (const batch of batches) await mergeListened(table.database, batch);
    const rows = await query(
      table.database,
      sql`select to_jsonb(listening) - 'stored_at' as row from ${celeryListening} listening order by source`,
    );
    return { rows, until: await query(table.database, sql`select ${listenedUntil()} as until`) };
  };
  await fc.assert(
    fc.asyncProperty(delivery, async ({ reports, batches, silentFor }) => {
      expect(await stored(batches, silentFor)).toEqual(
        await stored(
          reports.map((each) => [each]),
          silentFor,
        ),
      );
    }),
    { numRuns: scaled(40, 200) },
  );
});

test("a source of which nothing comes for a day is forgotten", async () => {
  await listened(90_000, 86_500, "old");
  await listened(90_000, 86_000, "another");
  await listened(100, 0);
  const stored = await query<{ source: string }>(table.database, sql`select source from ${celeryListening} order by source`);
  expect(stored.map(({ source }) => source)).toEqual(["another", "broker"]);
});

const ids = async () =>
  (await query<{ task_id: string }>(table.database, sql`select task_id from (${lostRows()}) lost order by seen_at desc`)).map(
    ({ task_id }) => task_id,
  );

const listened = (sinceAgo: number, untilAgo: number, source = "broker") =>
  mergeListened(table.database, [{ type: "listened", source, since: unixNow() - sinceAgo, timestamp: unixNow() - untilAgo }]);

/** Workers that fell silent so many seconds ago, and a task of the first. */
async function strand(names = ["w1@host-a"], silentFor = 40): Promise<void> {
  const now = unixNow();
  for (const name of names) await merge([heartbeat({ hostname: name, timestamp: now - silentFor })], now - silentFor);
  await upsertTasks(table.database, [taskStarted({ uuid: "lost", hostname: names[0] ?? "", timestamp: now - silentFor - 1 })]);
}

describe("lost tasks", () => {
  test("are those of a silent worker, until another worker finishes them", async () => {
    const [w1, w2] = ["w1@host-a", "w2@host-b"].map((name) => ({ hostname: name }));
    await listened(1_000, 0);
    await merge([heartbeat(w1), heartbeat(w2)], unixNow() - 40);
    await merge([heartbeat({ ...w2, timestamp: unixNow() - 1 })], unixNow() - 1);
    await upsertTasks(table.database, [
      taskReceived({ uuid: "running", ...w1, timestamp: unixNow() - 60 }),
      taskStarted({ uuid: "running", ...w1, timestamp: unixNow() - 59 }),
      taskReceived({ uuid: "waiting", ...w1, timestamp: unixNow() - 58 }),
      taskStarted({ uuid: "done", ...w1, timestamp: unixNow() - 57 }),
      taskSucceeded({ uuid: "done", ...w1, timestamp: unixNow() - 56 }),
      taskStarted({ uuid: "elsewhere", ...w2, timestamp: unixNow() - 55 }),
      taskStarted({ uuid: "unknown worker", hostname: "w3@host-c", timestamp: unixNow() - 55 }),
    ]);
    expect(await ids()).toEqual(["waiting", "running"]);
    await rollUp(table.database);
    expect(await ids()).toEqual(["waiting", "running"]);
    await upsertTasks(table.database, [taskSucceeded({ uuid: "running", ...w2, timestamp: unixNow() })]);
    expect(await ids()).toEqual(["waiting"]);
    await rollUp(table.database, { all: true });
    await upsertTasks(table.database, [taskReceived({ uuid: "waiting", ...w2, timestamp: unixNow() })]);
    expect(await ids()).toEqual([]);
  });

  test("are those of a worker that has restarted since, and not those that it took afterwards", async () => {
    await merge([heartbeat({ timestamp: unixNow() - 100 }), online({ timestamp: unixNow() - 20 })], unixNow());
    await upsertTasks(table.database, [
      taskStarted({ uuid: "before", timestamp: unixNow() - 50 }),
      taskStarted({ uuid: "after", timestamp: unixNow() - 10 }),
    ]);
    expect(await ids()).toEqual(["before"]);
  });

  test.each(LISTENING_CASES)("are known only if the receivers would have heard the worker: $name", async (listening) => {
    expect(WORKER_LOST_AFTER_SECONDS).toBe(LISTENING_LIMIT_SECONDS);
    await strand(["w1@host-a"], LISTENING_HEARD_AGO);
    const now = Math.floor(unixNow());
    // Exactly so long ago.
    await query(table.database, sql`update ${celeryWorker} set heard_at = to_timestamp(${now - LISTENING_HEARD_AGO}::float8)`);
    for (const report of reportsOf(listening, now)) await mergeListened(table.database, [report]);
    expect(await ids()).toEqual(listening.isGone ? ["lost"] : []);
  });

  describe("wait for minutes if all workers fell silent together, because the broker may be at fault", () => {
    const BOTH = ["w1@host-a", "w2@host-b"];

    test.each([
      { name: "for up to five minutes", silentFor: 295, listenedFor: 1_000, expected: [] },
      { name: "not for longer", silentFor: 305, listenedFor: 1_000, expected: ["lost"] },
      { name: "which begin when a receiver listens again", silentFor: 2_000, listenedFor: 295, expected: [] },
      { name: "and end then", silentFor: 2_000, listenedFor: 305, expected: ["lost"] },
      { name: "not of a single one", workers: ["w1@host-a"], silentFor: 40, listenedFor: 1_000, expected: ["lost"] },
    ])("$name", async ({ workers: names = BOTH, silentFor, listenedFor, expected }) => {
      await strand(names, silentFor);
      await listened(listenedFor, 0);
      expect(await ids()).toEqual(expected);
    });

    test.each([
      ["another is up", 0],
      ["they fell silent one after the other", 33],
    ])("unless %s", async (_, silentFor) => {
      await strand(["w1@host-a"], 45);
      await merge([heartbeat({ hostname: "w2@host-b" })], unixNow() - silentFor);
      await listened(100, 0);
      expect(await ids()).toEqual(["lost"]);
    });

    test("from when the first of them is silent", async () => {
      await strand(["w1@host-a"], 32);
      await merge([heartbeat({ hostname: "w2@host-b" })], unixNow() - 25);
      await listened(100, 0);
      expect(await ids()).toEqual([]);
    });

    test("and stay lost while receivers are restarted", async () => {
      await strand(BOTH, 400);
      await listened(1_000, 70);
      expect(await ids()).toEqual(["lost"]);
      for (const [since, until] of [
        [69, 35],
        [34, 0],
        [3, 0],
      ] as const) {
        await listened(since, until);
        expect(await ids(), `a receiver listens since ${since} s ago`).toEqual(["lost"]);
      }
    });

    test.each([
      ["a minute more once the first of them is heard again", 50, []],
      ["not longer", 65, ["lost"]],
    ])("%s", async (_, heardAgo, expected) => {
      await strand(BOTH, 150);
      await listened(1_000, heardAgo + 2);
      expect(await ids()).toEqual([]);
      await merge([heartbeat({ hostname: "w2@host-b" })], unixNow() - heardAgo);
      await listened(1_000, heardAgo - 5);
      expect(await ids(), "the first is heard again").toEqual([]);
      await merge([heartbeat({ hostname: "w2@host-b", timestamp: unixNow() })], unixNow());
      await listened(1_000, 0);
      expect(await ids()).toEqual(expected);
    });

    test("but not of one that fell silent before the others", async () => {
      await strand(["w0@host-a"], 190);
      for (const name of BOTH) await merge([heartbeat({ hostname: name })], unixNow() - 150);
      await listened(1_000, 52);
      await merge([heartbeat({ hostname: "w2@host-b" })], unixNow() - 50);
      await listened(1_000, 0);
      expect(await ids()).toEqual(["lost"]);
    });

    test("while others said goodbye before", async () => {
      await strand(BOTH, 40);
      await merge([heartbeat({ hostname: "w3@host-c" }), offline({ hostname: "w3@host-c" })], unixNow() - 1);
      await listened(100, 0);
      expect(await ids()).toEqual([]);
    });
  });

  test("are none if the clock of one of the processes that store events is behind", async () => {
    const now = unixNow();
    await upsertTasks(table.database, [taskStarted({ uuid: "running", timestamp: now - 50 })]);
    const clock = vi.spyOn(Date, "now").mockReturnValue((now - 35) * 1_000);
    try {
      await merge([heartbeat({ timestamp: now })], now);
    } finally {
      clock.mockRestore();
    }
    await mergeListened(table.database, [{ type: "listened", source: "broker", since: now - 1_000, timestamp: now }]);
    expect(await ids()).toEqual([]);
  });

  test("are found by the index, without reading the table", async () => {
    await query(
      table.database,
      sql`insert into celery_task (task_id, name, status, sent_at, last_event_at, state_precedence, state_rank, state_at, state_hostname)
          select 'task-' || i, 'a', 'SUCCESS', at, at, 3, 7, at, 'w' from generate_series(1, 20000) i cross join lateral (select now() - i * interval '10 seconds' as at) x`,
    );
    await query(
      table.database,
      sql`insert into ${celeryTaskMinuteDirty} select distinct date_trunc('minute', seen_at, 'UTC') from celery_task`,
    );
    await listened(1_000, 0);
    await merge([heartbeat()], unixNow() - 40);
    await upsertTasks(table.database, [taskStarted({ uuid: "lost", timestamp: unixNow() - 50_000 })]);
    await rollUp(table.database, { all: true });
    await query(table.database, sql`analyze`);
    const plan = await query<{ "QUERY PLAN": string }>(table.database, sql`explain (analyze, costs off, timing off) ${lostRows()}`);
    const text = plan.map((line) => line["QUERY PLAN"]).join("\n");
    expect(text).toContain("celery_task_seen_at_idx");
    expect(text).toContain("celery_task_minute_running_idx");
    expect(text).not.toMatch(/Seq Scan on celery_task\b(?!_)/);
    expect(await ids()).toEqual(["lost"]);
  });
});

/** All in the bucket from 79 to 127 s. */
const histogramOf = (n: number) => `${n}${"0".repeat(25 * 12)}`;

describe("stuck tasks", () => {
  test("run for several times as long as tasks of their name usually do", async () => {
    const now = Date.now() / 1_000;
    const finished = Array.from({ length: 30 }, (_, index) => {
      const common = { uuid: `done-${index}`, timestamp: now - 3_600 };
      return [taskReceived({ ...common, name: "quick" }), taskSucceeded({ ...common, runtime: 2 + index / 30 })];
    });
    const running = ["quick", "rare"].flatMap((name) => [
      taskReceived({ uuid: `${name}-old`, name, timestamp: now - 300 }),
      taskStarted({ uuid: `${name}-old`, timestamp: now - 300 }),
    ]);
    const young = [taskReceived({ uuid: "young", name: "quick", timestamp: now - 61 }), taskStarted({ uuid: "young", timestamp: now - 5 })];
    await upsertTasks(table.database, [...finished.flat(), ...running, ...young]);
    await rollUp(table.database, { all: true });
    const usual = await query<UsualRuntime>(table.database, usualRuntimesStatement(["quick", "rare", "unknown"]));
    const after = Object.fromEntries(usual.map(({ name, histogram }) => [name, stuckAfterSeconds(histogram)]));
    expect(after).toEqual({ quick: STUCK.atLeastSeconds, rare: undefined, unknown: undefined });
  });

  test("are judged by days, hours and minutes, each task once", async () => {
    const now = Date.now() / 1_000;
    const ofName = (name: string, ages: readonly number[]) =>
      ages.flatMap((age, index) => {
        const common = { uuid: `${name}-${index}`, timestamp: now - age };
        return [taskReceived({ ...common, name }), taskSucceeded({ ...common, runtime: 40 })];
      });
    const ages = [
      ...Array<number>(7).fill(3 * 86_400),
      ...Array<number>(6).fill(26 * 3_600),
      ...Array<number>(3).fill(3 * 3_600),
      5,
      5,
      5,
      5,
    ];
    await upsertTasks(table.database, [
      ...ofName("enough", ages),
      ...ofName("few", ages.slice(1)),
      ...ofName(
        "old",
        ages.map((age) => age + 9 * 86_400),
      ),
    ]);
    await rollUp(table.database, { all: true });
    const usual = await query<UsualRuntime>(table.database, usualRuntimesStatement(["enough", "few", "old"]));
    const known = usual.flatMap(({ name, histogram }) => (stuckAfterSeconds(histogram) === undefined ? [] : [name]));
    expect(known).toEqual(["enough"]);
  });

  test("are judged by 99 % of the finished ones, if there are enough", () => {
    const after = stuckAfterSeconds(histogramOf(STUCK.samples)) ?? 0;
    expect(after).toBeGreaterThan(79 * STUCK.times);
    expect(after).toBeLessThan(127 * STUCK.times);
    expect(stuckAfterSeconds(histogramOf(STUCK.samples - 1))).toBeUndefined();
  });
});
