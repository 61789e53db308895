/** However events arrive, the counts are the sum of what each task contributes. */
import type { CeleryEvent, TaskEvent } from "@celery-metrics-exporter/celery";
import {
  SENT_AT,
  deliveries,
  split,
  shuffled,
  taskHistories,
  taskReceived,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import { mastersOf } from "@celery-metrics-exporter/runtime";
import { startRedisCluster, scaled } from "@celery-metrics-exporter/testkit";
import * as fc from "fast-check";
import { Cluster } from "ioredis";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { factOf } from "../../src/facts/fact.ts";
import { histories } from "../lives.ts";
import { CountsHarness, ENDED_EXPIRY_SECONDS, TASK_EXPIRY_SECONDS, createCounts, expectedOf, sorted, totalsOf } from "./counts-harness.ts";

let harness: CountsHarness;
beforeAll(async () => {
  harness = await CountsHarness.start();
});
beforeEach(() => harness.clear());
afterAll(() => harness.close());

const PROCESSES = 3;

/** The whole life of a task. */
function life(uuid: string, fields: { readonly name?: string; readonly queue?: string } = {}): TaskEvent[] {
  const { name = "shop.cart.total", queue = "celery" } = fields;
  return [taskSent({ uuid, name, queue }), taskReceived({ uuid, name }), taskStarted({ uuid }), taskSucceeded({ uuid })];
}

/** Each process gets its own batches: together all events, and some of them at several processes. */
const overlapping: fc.Arbitrary<{ history: readonly CeleryEvent[]; processes: readonly (readonly (readonly CeleryEvent[])[])[] }> = fc
  .oneof(
    taskHistories,
    histories.map(({ events }) => [...events]),
  )
  .chain((history) =>
    fc
      .array(fc.nat({ max: PROCESSES - 1 }), { minLength: history.length, maxLength: history.length })
      .chain((owners) => {
        const one = (process: number): fc.Arbitrary<CeleryEvent[][]> =>
          fc
            .subarray([...history])
            .chain((more) => shuffled([...history.filter((_, index) => owners[index] === process), ...more]))
            .chain((events) => split(events));
        return fc.tuple(...Array.from({ length: PROCESSES }, (_, process) => one(process)));
      })
      .map((processes) => ({ history, processes })),
  );

/** In any order and split, each event once: one that comes before and after a loss is not counted again by a process that remembers it. */
const withoutRepetition = taskHistories.chain((history) =>
  shuffled([...new Map(history.map((event) => [`${event.uuid} ${factOf(event, { everyEvent: true })}`, event])).values()]).chain((events) =>
    split(events),
  ),
);

describe("counts are the sum of what each task contributes", () => {
  it("in any order and split, repeated, by one process or by a new one for each batch", async () => {
    await fc.assert(
      fc.asyncProperty(deliveries, fc.boolean(), async ({ history, batches }, isNewEachTime) => {
        await harness.clear();
        const one = harness.process();
        for (const batch of batches) await (isNewEachTime ? harness.process() : one).add(batch);
        expect(await harness.counts()).toEqual(await expectedOf(history));
      }),
      { numRuns: scaled(20, 60) },
    );
  });

  it("by several processes at once with overlapping batches", async () => {
    await fc.assert(
      fc.asyncProperty(overlapping, async ({ history, processes }) => {
        await harness.clear();
        await Promise.all(
          processes.map(async (batches) => {
            const counts = harness.connected();
            for (const batch of batches) await counts.add(batch);
          }),
        );
        expect(await harness.counts()).toEqual(await expectedOf(history));
      }),
      { numRuns: scaled(20, 50) },
    );
  });

  it("also of what lacks a name or queue, once it is not waited for", async () => {
    await fc.assert(
      fc.asyncProperty(deliveries, fc.nat(), async ({ history, batches }, when) => {
        await harness.clear();
        const processes = [harness.process(), harness.process()] as const;
        const ids = new Set(history.map(({ uuid }) => uuid));
        for (const [index, batch] of batches.entries()) {
          await processes[index % 2 === 0 ? 0 : 1].add(batch);
          if (index === when % batches.length) await processes[0].giveUpWaiting(ids);
        }
        expect(await processes[1].giveUpWaiting(ids)).toBe(ids.size);
        expect(await harness.counts()).toEqual(await expectedOf(history, true));
        await processes[0].add(history);
        expect(await harness.counts()).toEqual(await expectedOf(history, true));
      }),
      { numRuns: scaled(20, 50) },
    );
  });

  it("of many tasks, more than a process remembers", async () => {
    const counts = harness.process();
    const ids = Array.from({ length: 20_500 }, (_, index) => `task-${index}`);
    const begun = ids.flatMap((uuid) => life(uuid).slice(0, 2));
    const all = ids.flatMap((uuid) => life(uuid));
    await counts.add(begun);
    await counts.add(all);
    expect(await harness.counts()).toEqual(await expectedOf(all));
  }, 300_000);

  it("of a batch with many tasks that lack their queue", async () => {
    const counts = harness.process();
    const ids = Array.from({ length: 1_100 }, (_, index) => `task-${index}`);
    const all = ids.flatMap((uuid) => life(uuid).slice(1));
    expect((await counts.add(all)).toSorted()).toEqual(ids.toSorted());
    expect(await counts.giveUpWaiting(ids)).toBe(ids.length);
    expect(await harness.counts()).toEqual(await expectedOf(all, true));
  });
});

it("reads no task that it remembers", async () => {
  await harness.redis.config("RESETSTAT");
  const counts = harness.process();
  const all = ["a", "b", "c"].flatMap((uuid) => life(uuid));
  for (const event of all) await counts.add([event]);
  const stats = await harness.redis.info("commandstats");
  expect(await harness.counts()).toEqual(await expectedOf(all));
  expect(stats).toContain("cmdstat_hset:");
  expect(stats).not.toContain("cmdstat_hgetall:");
});

describe("what Redis lost", () => {
  it("is counted anew: only what comes after a FLUSHALL, whatever a process remembers", async () => {
    const [one, other] = [harness.process(), harness.process()];
    const [sent, received, started, succeeded] = life("t") as [TaskEvent, TaskEvent, TaskEvent, TaskEvent];
    await one.add([sent, received]);
    await other.add([started]);
    await harness.clear();
    await one.add([started]);
    await other.add([succeeded]);
    expect(await harness.counts()).toEqual(await expectedOf([started, succeeded]));
    await one.giveUpWaiting(["t"]);
    expect(await harness.counts()).toEqual(await expectedOf([started, succeeded], true));
  });

  it("is not taken for what another process stored since", async () => {
    const [one, other] = [harness.process(), harness.process()];
    const [sent, received, started] = life("t") as [TaskEvent, TaskEvent, TaskEvent];
    await one.add([sent]);
    await harness.clear();
    await other.add([received]);
    await one.add([received, started]);
    await one.giveUpWaiting(["t"]);
    expect(await harness.counts()).toEqual(await expectedOf([received, started], true));
  });

  it("never makes a count negative, nor counts anything twice afterwards", async () => {
    await fc.assert(
      fc.asyncProperty(withoutRepetition, fc.nat(), async (batches, when) => {
        await harness.clear();
        const processes = [harness.process(), harness.process()] as const;
        const at = when % batches.length;
        for (const [index, batch] of batches.entries()) {
          if (index === at) await harness.clear();
          await processes[index % 2 === 0 ? 0 : 1].add(batch);
        }
        expect(await harness.counts()).toEqual(await expectedOf(batches.slice(at).flat()));
      }),
      { numRuns: scaled(20, 60) },
    );
  });
});

describe("giving up and forgetting", () => {
  it("leaves nothing of tasks that nobody knows", async () => {
    expect(await harness.process().giveUpWaiting(["a", "b"])).toBe(0);
    expect(await harness.process().forget(["a", "b"])).toBe(0);
    expect(await harness.redis.keys("*")).toEqual([]);
  });

  it("gives up waiting for a task that another process knows", async () => {
    const [, received, started] = life("t") as [TaskEvent, TaskEvent, TaskEvent];
    const [one, other] = [harness.process(), harness.process()];
    expect(await one.add([received, started])).toEqual(["t"]);
    expect(await harness.counts()).toEqual({});
    expect(await other.giveUpWaiting(["t", "nobody's"])).toBe(1);
    expect(await harness.counts()).toEqual(await expectedOf([received, started], true));
    // Remembered by the first process without the final look.
    expect(await one.add([taskSucceeded({ uuid: "t" })])).toEqual([]);
    expect(await harness.counts()).toEqual(await expectedOf([received, started, taskSucceeded({ uuid: "t" })], true));
  });

  it("forgets tasks without a task-sent, with what they contributed, whichever process knows them", async () => {
    const unsent = life("unsent").slice(1);
    const [one, other] = [harness.process(), harness.process()];
    await one.add([...unsent, ...life("sent")]);
    await one.giveUpWaiting(["unsent", "sent"]);
    expect(await other.forget(["unsent", "sent", "nobody's"])).toBe(1);
    expect(await harness.counts()).toEqual(await expectedOf(life("sent")));
    expect(await harness.hash("unsent")).toEqual({});
    await one.add([taskStarted({ uuid: "unsent", timestamp: SENT_AT + 9 })]);
    expect(await harness.counts()).toEqual(await expectedOf(life("sent")));
  });
});

/** In whole seconds, of which the test takes some. */
async function expectTtl(id: string, seconds: number): Promise<void> {
  const ttl = await harness.ttlSeconds(id);
  expect(ttl).toBeGreaterThan(seconds - 30);
  expect(ttl).toBeLessThanOrEqual(seconds + 1);
}

describe("expiry", () => {
  it("is long for an open task and short for one that has ended", async () => {
    const counts = harness.process();
    await counts.add(life("open").slice(0, 3));
    await counts.add(life("ended"));
    await expectTtl("open", TASK_EXPIRY_SECONDS);
    await expectTtl("ended", ENDED_EXPIRY_SECONDS);
    await counts.add(life("open"));
    await expectTtl("open", ENDED_EXPIRY_SECONDS);
  });

  it("is renewed once a seventh of it is over", async () => {
    const [sent, received, started] = life("t") as [TaskEvent, TaskEvent, TaskEvent];
    await harness.process().add([sent]);
    await harness.redis.expire((await harness.redis.keys("*:task:t"))[0] ?? "", 1_000);
    await harness.process().add([received]);
    await expectTtl("t", TASK_EXPIRY_SECONDS);
    const counts = harness.process();
    await counts.add([started]);
    await harness.redis.expire((await harness.redis.keys("*:task:t"))[0] ?? "", TASK_EXPIRY_SECONDS - 100);
    await counts.add([taskStarted({ uuid: "t", timestamp: SENT_AT + 3 })]);
    await expectTtl("t", TASK_EXPIRY_SECONDS - 100);
  });

  it("begins only at the ETA, however far that is", async () => {
    const eta = Math.ceil(Date.now() / 1_000) + 3 * TASK_EXPIRY_SECONDS;
    await harness.process().add([taskSent({ uuid: "t", eta })]);
    await expectTtl("t", 4 * TASK_EXPIRY_SECONDS);
  });

  it("is long while another run of the task goes on", async () => {
    const counts = harness.process();
    const second = { uuid: "t", hostname: "w2@host-b" };
    await counts.add([
      ...life("t"),
      taskReceived({ ...second, timestamp: SENT_AT + 0.7 }),
      taskStarted({ ...second, timestamp: SENT_AT + 0.8 }),
    ]);
    await expectTtl("t", TASK_EXPIRY_SECONDS);
    await counts.add([taskSucceeded({ ...second, timestamp: SENT_AT + 5 })]);
    await expectTtl("t", ENDED_EXPIRY_SECONDS);
  });
});

it("counts on a Redis Cluster, also after a node lost its scripts", async () => {
  const cluster = await startRedisCluster();
  const redis = new Cluster(cluster.masters.map(({ port }) => ({ host: "127.0.0.1", port })));
  try {
    const [one, other] = [createCounts(redis), createCounts(redis)];
    const all = Array.from({ length: 200 }, (_, index) => life(`task-${index}`)).flat();
    await one.add(all.filter((_, index) => index % 3 !== 0));
    await Promise.all(mastersOf(redis).map((master) => master.script("FLUSH")));
    await Promise.all([one.add(all), other.add(all)]);
    expect(sorted(await totalsOf(other))).toEqual(await expectedOf(all));
  } finally {
    redis.disconnect();
    await cluster.stop();
  }
});
