import { corpusNames, readCorpus, type ExpectedRow } from "@celery-metrics-exporter/events/testing";
import { toMicroseconds, type CeleryEvent } from "@celery-metrics-exporter/events";
import { describe, expect, test } from "vitest";
import { connectDatabase } from "../src/connect-database.ts";
import type { Database } from "../src/database.ts";
import { upsertTasks } from "../src/upsert-tasks.ts";
import { createRandom, randomBatches, shuffled } from "./random.ts";
import { readRows, useTaskTable, type StoredRow } from "./task-table.ts";

const INSTANTS: ReadonlySet<string> = new Set(["eta", "expires", "sent_at", "received_at", "started_at", "finished_at"]);

/** Every field that the file names, to the microsecond. */
function expectRows(rows: Readonly<Record<string, StoredRow>>, expected: Readonly<Record<string, ExpectedRow>>): void {
  const wanted = Object.entries(expected);
  const got = wanted.map(([id, row]) => [id, Object.fromEntries(Object.keys(row).map((field) => [field, fieldOf(rows[id], field)]))]);
  expect(got).toEqual(
    wanted.map(([id, row]) => [
      id,
      Object.fromEntries(
        Object.entries(row).map(([field, value]) => [
          field,
          INSTANTS.has(field) && typeof value === "number" ? toMicroseconds(value) : value,
        ]),
      ),
    ]),
  );
  expect(Object.keys(rows).sort()).toEqual(Object.keys(expected).sort());
}

function fieldOf(row: StoredRow | undefined, field: string): unknown {
  return (row as Record<string, unknown> | undefined)?.[field] ?? null;
}

/** Batches at the same time over several connections. */
async function storeConcurrently(database: Database, batches: readonly (readonly CeleryEvent[])[]): Promise<void> {
  const waiting = [...batches];
  const lane = async (): Promise<void> => {
    for (let batch = waiting.pop(); batch !== undefined; batch = waiting.pop()) await upsertTasks(database, batch);
  };
  await Promise.all(Array.from({ length: 6 }, lane));
}

describe.each(corpusNames)("the rows of %s", (name) => {
  const table = useTaskTable();
  const { frames, events, expected, decode } = readCorpus(name);

  test("are as expected when every frame is stored as it was recorded", async () => {
    for (const frame of frames) await upsertTasks(table.database, decode(frame).events);
    expectRows(await table.rows(), expected);
  });

  test("are as expected when all is one batch", async () => {
    await upsertTasks(table.database, events);
    expectRows(await table.rows(), expected);
  });

  test.each([1, 2, 3])("are as expected when shuffled, doubled and stored by concurrent connections (seed %i)", async (seed) => {
    const random = createRandom(seed);
    const doubled = shuffled([...events, ...events], random);
    await storeConcurrently(table.database, randomBatches(doubled, 40, random));
    expectRows(await table.rows(), expected);
  });
});

test("PGlite keeps the same rows", async () => {
  const { events, expected } = readCorpus("celery-5.6-redis");
  const database = await connectDatabase({ url: "pglite:memory" });
  try {
    for (const batch of randomBatches(events, 60, createRandom(4))) await upsertTasks(database, batch);
    expectRows(await readRows(database), expected);
  } finally {
    await database.close();
  }
});
