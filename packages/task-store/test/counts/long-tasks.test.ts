/** Tasks with hundreds of attempts: everything counts once, and only the latest part stays in Redis. */
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import {
  SENT_AT,
  shuffled,
  taskReceived,
  taskRetried,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import * as fc from "fast-check";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { CountsHarness } from "./counts-harness.ts";

const ATTEMPTS = 200;
/** More fields than a long task keeps while none of its events comes very late. */
const MOST_FIELDS = 1_200;

let harness: CountsHarness;
beforeAll(async () => {
  harness = await CountsHarness.start();
});
beforeEach(() => harness.clear());
afterAll(() => harness.close());

/** An attempt that is retried, or the last, `seconds` after the one before it. */
function attempt(retries: number, seconds: number, isSent: boolean): TaskEvent[] {
  const at = (offset: number): { uuid: string; timestamp: number } => ({ uuid: "t", timestamp: SENT_AT + (retries + offset) * seconds });
  const sent = isSent ? [taskSent({ ...at(0), retries, queue: "mail" })] : [];
  const isLast = retries === ATTEMPTS - 1;
  return [
    ...sent,
    taskReceived({ ...at(0.1), retries }),
    taskStarted(at(0.2)),
    isLast ? taskSucceeded({ ...at(0.9), runtime: 0.7 * seconds }) : taskRetried(at(0.9)),
  ];
}

function attempts(seconds: number, isSent = true): TaskEvent[] {
  return Array.from({ length: ATTEMPTS }, (_, retries) => attempt(retries, seconds, isSent)).flat();
}

function inBatchesOf<T>(size: number, events: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(events.length / size) }, (_, index) => events.slice(index * size, (index + 1) * size));
}

/** By kind, whatever the labels. */
async function byKind(): Promise<Record<string, number>> {
  const kinds: Record<string, number> = {};
  for (const [field, count] of Object.entries(await harness.counts())) {
    const kind = field.slice(field.lastIndexOf(".") + 1);
    kinds[kind] = (kinds[kind] ?? 0) + count;
  }
  return kinds;
}

const ALL = { sent: ATTEMPTS, received: ATTEMPTS, started: ATTEMPTS, retried: ATTEMPTS - 1, succeeded: 1 };

it.each([
  ["one batch", 2_000, 0.1],
  ["batches of 500", 500, 0.1],
  ["batches of 100", 100, 0.1],
  ["batches of 20", 20, 0.1],
  ["batches of 7, over hours", 7, 60],
  ["batches of 3, over hours", 3, 60],
] as const)("counts every event once under its own labels, in %s", async (_, size, seconds) => {
  const events = attempts(seconds);
  for (const batch of inBatchesOf(size, events)) await harness.process().add(batch);
  const wait = Math.round(0.2 * seconds * 1e6) * ATTEMPTS;
  const runtime = Math.round(0.7 * seconds * 1e6);
  const expected = Object.fromEntries(
    Object.entries({ ...ALL, T: runtime }).map(([kind, count]) => [`shop/cart/total@mail.${kind}`, count]),
  );
  const { "shop/cart/total@mail.W": waited, ...counts } = await harness.counts();
  expect(counts).toEqual(expected);
  // To a microsecond for each wait.
  expect(Math.abs((waited ?? 0) - wait)).toBeLessThan(ATTEMPTS);
  expect(Object.keys(await harness.hash("t")).length).toBeLessThan(MOST_FIELDS);
});

it("keeps few fields of events that are older than those that may still come", async () => {
  const counts = harness.process();
  for (const batch of inBatchesOf(40, attempts(10))) {
    await counts.add(batch);
    expect(Object.keys(await harness.hash("t")).length).toBeLessThan(250);
  }
});

it("keeps a bounded number of fields of a task that repeats itself without end in an instant", async () => {
  const counts = harness.process();
  for (const batch of inBatchesOf(100, attempts(0.000_01))) {
    await counts.add(batch);
    expect(Object.keys(await harness.hash("t")).length).toBeLessThan(MOST_FIELDS);
  }
});

it("does not count old events again", async () => {
  const events = attempts(10);
  const [one, other] = [harness.process(), harness.process()];
  for (const batch of inBatchesOf(50, events)) await one.add(batch);
  const counts = await harness.counts();
  for (const batch of inBatchesOf(200, events)) await other.add(batch);
  await one.add(events.slice(0, 300));
  expect(await harness.counts()).toEqual(counts);
});

it("does not count again what lost its message, once that is given up", async () => {
  const counts = harness.process();
  for (const batch of inBatchesOf(10, attempts(10))) {
    for (const id of await counts.add(batch)) await harness.process().giveUpWaiting([id]);
    await harness.process().giveUpWaiting(["t"]);
  }
  expect(await byKind()).toMatchObject(ALL);
});

it("does not count again what lost its message, if that is given up at the end", async () => {
  const counts = harness.process();
  for (const batch of inBatchesOf(10, attempts(10))) await counts.add(batch);
  await harness.process().giveUpWaiting(["t"]);
  expect(await byKind()).toMatchObject(ALL);
});

it("counts everything of a task without any task-sent", async () => {
  const counts = harness.process();
  for (const batch of inBatchesOf(30, attempts(10, false))) await counts.add(batch);
  await counts.giveUpWaiting(["t"]);
  const { sent: _, ...others } = ALL;
  expect(await byKind()).toEqual({ ...others, T: 7e6 });
});

it("loses nothing of a quick task whose batches come in any order to several processes at once", async () => {
  const batches = inBatchesOf(60, attempts(0.05).slice(0, 780));
  await fc.assert(
    fc.asyncProperty(shuffled(batches), shuffled(batches), async (some, others) => {
      await harness.clear();
      const run = async (own: readonly TaskEvent[][]): Promise<void> => {
        const counts = harness.connected();
        for (const batch of own) await counts.add(batch);
      };
      await Promise.all([run(some), run(others)]);
      const { sent, received, started, retried } = await byKind();
      expect({ sent, received, started, retried }).toEqual({ sent: 195, received: 195, started: 195, retried: 195 });
    }),
    { numRuns: 4 },
  );
});
