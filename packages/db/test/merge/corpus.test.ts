import { randomBatches, scaled, seededRandom, shuffled } from "@celery-metrics-exporter/testkit";
import { corpusNames, readCorpus, type Corpus } from "@celery-metrics-exporter/celery/testing";
import { toMicroseconds, type CeleryEvent } from "@celery-metrics-exporter/celery";
import { describe, expect, test } from "vitest";
import type { Database } from "../../src/tables/database.ts";
import { upsertTasks } from "../../src/merge/upsert.ts";
import { useTaskTable, type StoredRow } from "../task-table.ts";

const INSTANTS: ReadonlySet<string> = new Set(["eta", "expires", "sent_at", "received_at", "started_at", "finished_at"]);

/** Frames per statement. The finest splits are in upsert-tasks.test.ts. */
const FRAMES = 4;

type Fields = Record<string, Record<string, unknown>>;

/** For each row, the fields listed in the file; all fields of an unlisted row. */
function namedFields(rows: Readonly<Record<string, StoredRow>>, expected: Corpus["expected"]): Fields {
  const missing = Object.keys(expected).filter((id) => rows[id] === undefined);
  expect(missing).toEqual([]);
  return mapValues(rows, (row, id) => {
    const all: Record<string, unknown> = { ...row };
    const named = expected[id];
    return named === undefined ? all : mapValues({ ...named }, (_value, field) => all[field] ?? null);
  });
}

/** The rows as in the table: instants with microseconds. */
function inMicroseconds(expected: Corpus["expected"]): Fields {
  return mapValues(expected, (row) =>
    mapValues({ ...row }, (value, field) => (INSTANTS.has(field) && typeof value === "number" ? toMicroseconds(value) : value)),
  );
}

function mapValues<V, W>(object: Readonly<Record<string, V>>, change: (value: V, key: string) => W): Record<string, W> {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value, key)]));
}

/** Stores batches concurrently over several connections. */
async function storeConcurrently(database: Database, batches: readonly (readonly CeleryEvent[])[]): Promise<void> {
  const waiting = [...batches];
  const lane = async (): Promise<void> => {
    for (let batch = waiting.pop(); batch !== undefined; batch = waiting.pop()) await upsertTasks(database, batch);
  };
  await Promise.all(Array.from({ length: 6 }, lane));
}

describe.each(corpusNames)("the rows of %s", (name) => {
  const table = useTaskTable();
  const corpus = readCorpus(name);
  const { frames, events, expected } = corpus;

  test("are as expected when a few frames at a time are stored as recorded", async () => {
    for (let from = 0; from < frames.length; from += FRAMES) {
      const batch = frames.slice(from, from + FRAMES).flatMap((frame) => corpus.decode(frame).events);
      await upsertTasks(table.database, batch);
    }
    expect(namedFields(await table.rows(), expected)).toEqual(inMicroseconds(expected));
  });

  test("are as expected when everything is one batch", async () => {
    await upsertTasks(table.database, events);
    expect(namedFields(await table.rows(), expected)).toEqual(inMicroseconds(expected));
  });

  test.each(scaled([1], [1, 2, 3]))(
    "are as expected when shuffled, doubled and stored by concurrent connections (seed %i)",
    async (seed) => {
      const random = seededRandom(seed);
      const doubled = shuffled([...events, ...events], random);
      await storeConcurrently(table.database, randomBatches(doubled, 40, random));
      expect(namedFields(await table.rows(), expected)).toEqual(inMicroseconds(expected));
    },
  );
});
