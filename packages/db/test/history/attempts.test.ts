import { randomBatches, seededRandom, shuffled, scaled } from "@celery-metrics-exporter/testkit";
import {
  SENT_AT,
  TASK_ID,
  corpusNames,
  deliveries,
  readCorpus,
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
import { type CeleryEvent, type TaskEvent, isTaskEvent } from "@celery-metrics-exporter/celery";
import { sql } from "drizzle-orm";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { type Attempt, readAttempts, toAttempts } from "../../src/history/attempts.ts";
import { type HistoryMode, toTaskEventRows } from "../../src/history/task-events.ts";
import { toTaskRows, upsertTasks } from "../../src/merge/upsert.ts";
import { type Database, query } from "../../src/tables/database.ts";
import { celeryTaskEvent, celeryTaskMinuteDirty } from "../../src/tables/schema.ts";
import { mergeListened, mergeWorkerEvents } from "../../src/workers/merge-workers.ts";
import { clear, readRows, useTaskTable } from "../task-table.ts";

const table = useTaskTable();
const at = (seconds: number) => ({ timestamp: SENT_AT + seconds });
const other = { hostname: "w2@host-b" };

async function attemptsOf(database: Database, ids: Iterable<string>): Promise<Record<string, Attempt[] | undefined>> {
  const found: Record<string, Attempt[] | undefined> = {};
  for (const id of new Set(ids)) found[id] = await readAttempts(database, id);
  return found;
}

function idsOf(events: readonly CeleryEvent[]): string[] {
  return events.filter(isTaskEvent).map(({ uuid }) => uuid);
}

/** Short: `worker queue outcome`, and the seconds of its instants. */
function brief({ worker, queue, outcome, received_at, started_at, ended_at, exception }: Attempt): string {
  const times = [received_at, started_at, ended_at].map((instant) => (instant === null ? "-" : instant.slice(17, -1)));
  return [worker ?? "-", queue ?? "-", outcome, ...times, ...(exception === null ? [] : [exception])].join(" ");
}

test.each<HistoryMode>(["unusual", "all"])(
  "any order, split and repetition leads to the same attempts, and none of the starts is missing (%s)",
  async (mode) => {
    await fc.assert(
      fc.asyncProperty(deliveries, async ({ history, batches }) => {
        await clear(table.database);
        await upsertTasks(table.database, history, mode);
        const expected = await attemptsOf(table.database, idsOf(history));
        await clear(table.database);
        for (const batch of batches) await upsertTasks(table.database, batch, mode);
        expect(await attemptsOf(table.database, idsOf(history))).toEqual(expected);
        for (const [id, attempts = []] of Object.entries(expected)) {
          const started = attempts
            .filter(({ started_at }) => started_at !== null)
            .map(({ worker, started_at }) => `${worker} ${started_at}`);
          expect(started.sort()).toEqual(startsOf(history, id));
        }
      }),
      { numRuns: scaled(20, 80) },
    );
  },
  180_000,
);

function startsOf(history: readonly TaskEvent[], id: string): string[] {
  const starts = history
    .filter(({ type, uuid }) => type === "task-started" && uuid === id)
    .map(({ hostname, timestamp }) => {
      const microseconds = Math.round(timestamp * 1e6);
      const iso = new Date(Math.floor(microseconds / 1e3)).toISOString();
      return `${hostname} ${iso.replace("Z", `${String(microseconds % 1e3).padStart(3, "0")}Z`)}`;
    });
  return [...new Set(starts)].sort();
}

describe.each(corpusNames)("the attempts in %s", (name) => {
  const { events } = readCorpus(name);
  const expected = Object.fromEntries(
    toTaskRows(events).map((row) => [
      row.task_id,
      toAttempts(
        row,
        toTaskEventRows(events, "unusual").filter(({ task_id }) => task_id === row.task_id),
      ),
    ]),
  );

  test("do not depend on how they were stored: in order, shuffled, split and doubled", async () => {
    for (const seed of scaled([0, 1], [0, 1, 2])) {
      const random = seededRandom(seed);
      const delivered = seed === 0 ? events : shuffled([...events, ...events], random);
      await clear(table.database);
      for (const batch of randomBatches(delivered, 30, random)) await upsertTasks(table.database, batch);
      expect(await attemptsOf(table.database, idsOf(events))).toEqual(expected);
    }
  }, 60_000);
});

test("PGlite leads to the same rows and attempts", async () => {
  const { events } = readCorpus("celery-5.6-endings-amqp");
  const database = await connectDatabase({ url: "pglite:memory" });
  try {
    await upsertTasks(table.database, events);
    for (const batch of randomBatches(shuffled(events, seededRandom(5)), 60, seededRandom(5))) await upsertTasks(database, batch);
    expect(await readRows(database)).toEqual(await table.rows());
    expect(await attemptsOf(database, idsOf(events))).toEqual(await attemptsOf(table.database, idsOf(events)));
  } finally {
    await database.close();
  }
}, 120_000);

const recorded = async (corpus: (typeof corpusNames)[number], id: string): Promise<string[]> => {
  await upsertTasks(table.database, readCorpus(corpus).events);
  return ((await readAttempts(table.database, id)) ?? []).map(brief);
};

describe("the recorded attempts of a task that", () => {
  test("was retried three times and failed", async () => {
    expect(await recorded("celery-5.6-amqp", "2b021914-ac9e-4a76-86ab-1f0ce7e7fce9")).toEqual([
      "w2@host-b mail retry 19.982815 19.989230 20.018254 ConnectionError('smtp down 0')",
      "w1@host-a mail retry 20.011959 20.103101 20.133033 ConnectionError('smtp down 1')",
      "w2@host-b mail retry 20.110857 20.239076 20.265548 ConnectionError('smtp down 2')",
      "w2@host-b mail failure 20.243002 20.360856 20.377426 ConnectionError('smtp down 3')",
    ]);
  });

  test("was retried into another queue", async () => {
    expect(await recorded("celery-5.6-endings-amqp", "1558b971-265e-4323-849d-677ae073aa80")).toEqual([
      "w1@host-a first retry 33.585383 33.651055 33.835364 ValueError('again')",
      "w1@host-a second success 33.836121 33.953004 34.053739",
    ]);
  });

  test("was replaced", async () => {
    expect(await recorded("celery-5.6-endings-amqp", "cf0e4a94-7451-4685-b1c3-cc21959e1fd0")).toEqual([
      "w1@host-a first replaced 33.393340 33.528897 -",
      "w1@host-a second success 33.647933 33.837691 34.138523",
    ]);
  });

  test("was put back by the worker whose process was killed", async () => {
    expect(await recorded("celery-5.6-endings-amqp", "dcc1a86d-0641-4c4d-b7f4-9ce8076a2e9f")).toEqual([
      "w1@host-a first rejected 33.531539 33.640111 33.774027",
      "w1@host-a first success - 33.838270 33.938947",
    ]);
  });

  test.each([
    ["was terminated", "a61d69b6-6527-4bf7-b85c-a0dba1035df8", "w1@host-a first revoked 31.833935 31.835427 33.340796"],
    ["was revoked before it ran", "883527e4-7b96-4510-9e3c-12df666777ce", "w1@host-a first revoked - - 33.639791"],
    ["expired", "9a193b2f-b9ed-478c-b6c6-7e76b9731de4", "w1@host-a first revoked 33.640765 - 35.363745"],
    ["is not registered", "63b35b39-d233-40ef-b011-8a1bd8a7c2d6", "w1@host-a first failure - - 33.636314 NotRegistered('endings.nothing')"],
    ["was ignored", "85a24061-606c-49b1-9146-62af76c126b5", "w1@host-a first running 33.394054 33.529904 -"],
  ])("%s", async (_what, id, attempt) => {
    expect(await recorded("celery-5.6-endings-amqp", id)).toEqual([attempt]);
  });

  test("was retried, and lost the start of an attempt", async () => {
    expect(await recorded("celery-5.6-threads-redis", "377cfdfc-14e8-4630-82c8-e39e085ec317")).toEqual([
      "w1@host-a first retry 53.113576 - 53.216732 ValueError('in vain')",
      "w1@host-a first failure 53.215759 53.415964 53.517168 ValueError('in vain')",
    ]);
  });
});

describe("the attempts of a task that", () => {
  const sent = taskSent({ ...at(0), queue: "q" });
  const first = [sent, taskReceived(at(1)), taskStarted(at(2))];
  const start = "2026-11-22T06:28:";
  const second = (events: TaskEvent[]) => [
    ...first,
    taskReceived({ ...at(10), ...other }),
    taskStarted({ ...at(11), ...other }),
    ...events,
  ];

  test.each<readonly [string, TaskEvent[], readonly string[]]>([
    ["was only sent", [sent], ["- waiting"]],
    ["was received", first.slice(0, 2), ["w1 waiting"]],
    ["runs", first, ["w1 running"]],
    ["is about to be retried", [...first, taskRetried(at(3))], ["w1 retry", "- waiting"]],
    [
      "was received again for its retry",
      [...first, taskRetried(at(3)), taskReceived({ ...at(4), ...other, retries: 1 })],
      ["w1 retry", "w2 waiting"],
    ],
    ["was delivered again, and both may run", second([]), ["w1 running", "w2 running"]],
    ["was delivered again, and the second run ended", second([taskSucceeded({ ...at(12), ...other })]), ["w1 lost", "w2 success"]],
    ["ran twice", second([taskSucceeded({ ...at(12), ...other }), taskSucceeded(at(20))]), ["w1 success", "w2 success"]],
    ["failed and then succeeded", second([taskFailed(at(9)), taskSucceeded({ ...at(12), ...other })]), ["w1 failure", "w2 success"]],
    ["ran while a copy expired", [...first, taskRevoked({ ...at(9), ...other, expired: true })], ["w1 running", "w2 revoked"]],
    ["failed twice at once", [...first, taskFailed(at(9)), taskFailed({ ...at(9.01), exception: "B()" })], ["w1 failure"]],
    ["failed and was rejected", [...first, taskFailed(at(9)), taskRejected(at(9))], ["w1 failure"]],
    [
      "exited after its termination",
      [...first, taskRevoked({ ...at(5), terminated: true }), taskFailed({ ...at(30), exception: "SystemExit(-241)", exited: true })],
      ["w1 revoked"],
    ],
    ["succeeded in spite of a signal", [...first, taskRevoked({ ...at(5), terminated: true }), taskSucceeded(at(6))], ["w1 success"]],
    ["started three times", [...second([]), taskStarted(at(20)), taskSucceeded(at(21))], ["w1 lost", "w2 lost", "w1 success"]],
    ["ran twice on one worker", [...first, taskStarted(at(5)), taskSucceeded(at(7)), taskSucceeded(at(7.5))], ["w1 success", "w1 success"]],
    [
      "was retried, although the event is missing",
      [
        ...first,
        taskSent({ ...at(4), retries: 1, again: true }),
        taskStarted({ ...at(5), ...other }),
        taskSucceeded({ ...at(6), ...other }),
      ],
      ["w1 retry", "w2 success"],
    ],
  ])("%s", async (_what, events, expected) => {
    for (const order of [events, events.toReversed()]) {
      await clear(table.database);
      for (const event of order) await upsertTasks(table.database, [event]);
      const attempts = (await readAttempts(table.database, TASK_ID)) ?? [];
      expect(attempts.map(({ worker, outcome }) => `${worker?.slice(0, 2) ?? "-"} ${outcome}`)).toEqual(expected);
      expect(attempts.map(({ number }) => number)).toEqual(expected.map((_attempt, index) => index + 1));
    }
  });

  test("is lost, if its worker is known to be gone", async () => {
    await upsertTasks(table.database, second([]));
    const outcomes = async () => (await readAttempts(table.database, TASK_ID))?.map(({ outcome }) => outcome);
    const now = Date.now() / 1_000;
    await mergeWorkerEvents(table.database, [workerHeartbeat({ timestamp: now - 40 })], now - 40);
    await mergeWorkerEvents(table.database, [workerHeartbeat({ ...other, timestamp: now - 1 })], now - 1);
    expect(await outcomes(), "no receiver listened").toEqual(["running", "running"]);
    await mergeListened(table.database, [{ type: "listened", source: "broker", since: now - 600, timestamp: now }]);
    expect(await outcomes()).toEqual(["lost", "running"]);
    await mergeWorkerEvents(table.database, [workerHeartbeat({ timestamp: now })], now);
    expect(await outcomes()).toEqual(["running", "running"]);
    await mergeWorkerEvents(table.database, [workerHeartbeat({ type: "worker-online", timestamp: now } as never)], now);
    expect(await outcomes()).toEqual(["lost", "running"]);
  });

  test("does not exist", async () => {
    expect(await readAttempts(table.database, "no such task")).toBeUndefined();
  });

  test("has one attempt with everything", async () => {
    await upsertTasks(table.database, [...first, taskFailed({ ...at(3.000_001), exception: "E()", traceback: "T" })]);
    expect(await readAttempts(table.database, TASK_ID)).toEqual([
      {
        number: 1,
        worker: taskStarted().hostname,
        queue: "q",
        received_at: expect.stringContaining(start) as string,
        started_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/) as string,
        ended_at: expect.stringMatching(/01Z$/) as string,
        outcome: "failure",
        exception: "E()",
        traceback: "T",
      },
    ]);
  });
});

const stored = () =>
  query<{ type: string; n: number }>(table.database, sql`select type, count(*)::int as n from ${celeryTaskEvent} group by 1 order by 1`);

describe("celery_task_event", () => {
  const ordinary = [taskSent(at(0)), taskReceived(at(1)), taskStarted(at(2)), taskSucceeded(at(3))];

  test("contains nothing of an ordinary task, whatever its end, in any order", async () => {
    for (const events of [ordinary, ordinary.toReversed(), [...ordinary, ...ordinary]]) {
      for (const event of events) await upsertTasks(table.database, [event]);
    }
    await upsertTasks(table.database, [...ordinary, ...ordinary]);
    await upsertTasks(table.database, [taskStarted({ uuid: "b" }), taskFailed({ uuid: "b" }), taskRevoked({ uuid: "c" })]);
    expect(await stored()).toEqual([]);
  });

  test("contains every event of a task once, if all are stored, and nothing if none is", async () => {
    await upsertTasks(table.database, [...ordinary, ...ordinary], "off");
    expect(await stored()).toEqual([]);
    for (const events of [ordinary, ordinary]) await upsertTasks(table.database, events, "all");
    expect(await stored()).toEqual(["task-received", "task-sent", "task-started", "task-succeeded"].map((type) => ({ type, n: 1 })));
  });

  test("has text without NUL and half characters, and the greater of two events with the same key", async () => {
    for (const exception of ["a('\0')", "b('\ud83c')", "a('z')"]) {
      await upsertTasks(table.database, [taskRetried({ ...at(3), uuid: "id\0", hostname: "w\0@h", exception }), ...ordinary]);
    }
    const rows = await query(table.database, sql`select task_id, hostname, exception from ${celeryTaskEvent}`);
    expect(rows).toEqual([{ task_id: "id", hostname: "w@h", exception: "b('\ufffd')" }]);
  });
});

const minute = (seconds: number): number => Math.floor((SENT_AT + seconds) / 60) * 60;
/** Stores the events, and returns the minutes that are noted for the roll-up. */
async function store(...events: TaskEvent[]): Promise<readonly number[]> {
  await query(table.database, sql`delete from ${celeryTaskMinuteDirty}`);
  await upsertTasks(table.database, events);
  const noted = await query<{ minute: number }>(
    table.database,
    sql`select extract(epoch from minute)::float8 as minute from ${celeryTaskMinuteDirty} order by 1`,
  );
  return noted.map((row) => row.minute);
}

describe("the minutes of a batch", () => {
  test("are those in which the written tasks were and are seen", async () => {
    expect(await store(taskStarted(at(600)), taskStarted({ ...at(601), uuid: "b" }))).toEqual([minute(600)]);
    expect(await store(taskStarted(at(600)))).toEqual([]);
    expect(await store(taskSent(at(0)), taskSent({ ...at(1), uuid: "c" }))).toEqual([minute(0), minute(600)]);
    expect(await store(taskSucceeded(at(900)))).toEqual([minute(0)]);
  });
});
