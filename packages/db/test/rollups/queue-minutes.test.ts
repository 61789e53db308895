import { scaled } from "@celery-metrics-exporter/testkit";
import type { QueuesObserved } from "@celery-metrics-exporter/celery";
import { doubled, queuesObserved, shuffled, split } from "@celery-metrics-exporter/celery/testing";
import { sql } from "drizzle-orm";
import * as fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { mergeQueueMinutes } from "../../src/rollups/queue-minutes.ts";
import { query } from "../../src/tables/database.ts";
import { celeryQueueMinute } from "../../src/tables/schema.ts";
import { useTaskTable } from "../task-table.ts";

const table = useTaskTable();
const clear = () => query(table.database, sql`truncate ${celeryQueueMinute}`);
beforeEach(clear);

function stored(): Promise<readonly Record<string, unknown>[]> {
  return query<Record<string, unknown>>(
    table.database,
    sql`select date_part('epoch', minute) as minute, queue, date_part('epoch', observed_at) as observed_at, messages::float8, messages_max::float8, consumers,
          unacked::float8, unacked_max::float8, date_part('epoch', oldest_at) as oldest_at
        from ${celeryQueueMinute} order by 1, 2`,
  );
}

const MINUTE = 1_700_000_040;
const observation: fc.Arbitrary<QueuesObserved> = fc
  .record({
    timestamp: fc.integer({ min: 0, max: 12 }).map((step) => MINUTE + step * 10),
    queues: fc.uniqueArray(
      fc.record(
        { name: fc.constantFrom("celery", "mail", "q'; --"), messages: fc.nat(3), consumers: fc.nat(2) },
        { requiredKeys: ["name", "messages"] },
      ),
      { selector: ({ name }) => name },
    ),
    unacked: fc.option(
      fc.record({ messages: fc.nat(3), oldestAt: fc.constantFrom(MINUTE - 1, MINUTE - 2) }, { requiredKeys: ["messages"] }),
    ),
  })
  .map(({ unacked, ...rest }) => queuesObserved({ ...rest, ...(unacked === null ? { queues: rest.queues } : { unacked }) }));

test("any order, split and repetition of observations leads to the same rows", async () => {
  const deliveries = fc.array(observation, { minLength: 1, maxLength: 12 }).chain((history) =>
    fc.tuple(
      fc.constant(history.map((one) => [one])),
      doubled(history)
        .chain((all) => shuffled(all))
        .chain((all) => split(all)),
    ),
  );
  await fc.assert(
    fc.asyncProperty(deliveries, async (both) => {
      const pictures: unknown[] = [];
      for (const batches of both) {
        await clear();
        for (const batch of batches) await mergeQueueMinutes(table.database, batch);
        pictures.push(await stored());
      }
      expect(pictures[1]).toEqual(pictures[0]);
    }),
    { numRuns: scaled(20, 60) },
  );
}, 120_000);

describe("a minute of a queue", () => {
  test("has the latest length and the largest", async () => {
    const at = (offset: number, messages: number) =>
      queuesObserved({
        timestamp: MINUTE + offset,
        broker: "rabbitmq",
        queues: [{ name: "celery", messages, consumers: Math.floor(offset) }],
      });
    await mergeQueueMinutes(table.database, [at(10, 5), at(20, 9)]);
    await mergeQueueMinutes(table.database, [at(59.9, 2), at(60, 1)]);
    expect((await stored()).filter(({ queue }) => queue === "celery")).toEqual([
      expect.objectContaining({ minute: MINUTE, messages: 2, messages_max: 9, observed_at: MINUTE + 59.9 }),
      expect.objectContaining({ minute: MINUTE + 60, messages: 1, messages_max: 1, consumers: 60 }),
    ]);
  });

  test("has what only Redis tells of all queues together under the empty name", async () => {
    await mergeQueueMinutes(table.database, [queuesObserved({ timestamp: MINUTE, unacked: { messages: 8, oldestAt: MINUTE - 30 } })]);
    expect(await stored()).toMatchObject([
      { queue: "", messages: null, unacked: 8, unacked_max: 8, oldest_at: MINUTE - 30 },
      { queue: "celery", messages: 12, consumers: null, unacked: null },
      { queue: "mail", messages: 0 },
    ]);
  });

  test("is at most now, if the monitor's clock is ahead", async () => {
    await mergeQueueMinutes(table.database, [queuesObserved({ timestamp: Date.now() / 1_000 + 5_000 })]);
    for (const { observed_at } of await stored()) expect(observed_at).toBeLessThan(Date.now() / 1_000 + 60);
  });
});
