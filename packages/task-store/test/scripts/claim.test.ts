import { scaled } from "@celery-metrics-exporter/testkit";
import {
  deliveries,
  taskFailed,
  taskReceived,
  taskRetried,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { setTimeout as sleep } from "node:timers/promises";
import * as fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { NOTHING_TO_FORGET } from "../../src/completions/forget.ts";
import { summarise, summariseRetries, type Settlement } from "../../src/completions/summarise.ts";
import { retriesOf } from "../../src/keys.ts";
import { type TaskEntry, parseTaskEntry } from "../../src/facts/task-entry.ts";
import type { Claim } from "../../src/task-store.ts";
import { required } from "../required.ts";
import { SENT_EXPIRY_SECONDS, StoreHarness, TASK_EXPIRY_SECONDS } from "../store-harness.ts";

let harness: StoreHarness;
beforeAll(async () => {
  harness = await StoreHarness.start({ leaseMs: 2_000 });
});
beforeEach(() => harness.clear());
afterAll(() => harness.close());

const DONE = [taskSent({ uuid: "t" }), taskReceived({ uuid: "t" }), taskStarted({ uuid: "t" }), taskSucceeded({ uuid: "t" })];

async function claim(jobId: string, id = "t"): Promise<Claim> {
  return required((await harness.store.claim(jobId, [id])).get(id));
}

function entryOf(claimed: Claim): TaskEntry {
  if (claimed.outcome !== "claimed") throw new Error(`the claim is ${claimed.outcome}`);
  return claimed.entry;
}

function settlement(...fields: string[]): Settlement {
  return { fields, forgotten: NOTHING_TO_FORGET };
}

/** What a job would report. Marks it as reported. */
async function sendAs(jobId: string, id = "t"): Promise<ReturnType<typeof summarise>> {
  const summary = summarise(entryOf(await claim(jobId, id)));
  await harness.store.settle(jobId, new Map([[id, summary]]));
  return summary;
}

/** Rounded up to a 64th of the time, and never less. */
async function expectExpiry(seconds: number): Promise<void> {
  const ttl = await harness.ttlSeconds("t");
  expect(ttl).toBeGreaterThanOrEqual(seconds - 2);
  expect(ttl).toBeLessThanOrEqual(seconds + TASK_EXPIRY_SECONDS / 64 + 2);
}

describe("apply", () => {
  it("reports a task for each batch that holds a final of it until that final was sent", async () => {
    expect(await harness.store.apply(DONE.slice(0, 3))).toEqual([]);
    expect(await harness.store.apply(DONE.slice(3))).toEqual(["t"]);
    expect(await harness.store.apply(DONE.slice(0, 3))).toEqual([]);
    expect(await harness.store.apply(DONE)).toEqual(["t"]);
    await sendAs("1");
    expect(await harness.store.apply(DONE)).toEqual([]);
  });

  it("keeps an entry 7 days, or its ETA and 7 days, and never less than it had", async () => {
    const soon = Date.now() / 1000 + 50_000;
    await harness.store.apply([taskStarted({ uuid: "t" })]);
    await expectExpiry(TASK_EXPIRY_SECONDS);
    await harness.store.apply([taskSent({ uuid: "t", eta: soon })]);
    await expectExpiry(TASK_EXPIRY_SECONDS + 50_000);
    await harness.store.apply([taskReceived({ uuid: "t" }), taskSent({ uuid: "t", eta: 1_000, timestamp: 900 })]);
    await expectExpiry(TASK_EXPIRY_SECONDS + 50_000);
  });
});

describe("a retry", () => {
  const RETRIED = [...DONE.slice(0, 3), taskRetried({ uuid: "t" })];

  it("is reported by itself, for each batch that holds it until it was sent", async () => {
    const id = retriesOf("t");
    expect(await harness.store.apply(RETRIED)).toEqual([id]);
    expect(await harness.store.apply(RETRIED)).toEqual([id]);
    expect(await harness.store.apply(RETRIED.slice(0, 3))).toEqual([]);
    const summary = summariseRetries(entryOf(await claim("1", id)));
    expect(summary).toMatchObject({
      completions: [],
      waits: [],
      retries: [{ name: "shop.cart.total", queue: "celery" }],
      lacks: undefined,
    });
    await harness.store.settle("1", new Map([[id, summary]]));
    expect(await harness.store.apply(RETRIED)).toEqual([]);
    expect(await claim("1", id)).toEqual({ outcome: "reported" });
    expect(await harness.store.apply(DONE)).toEqual(["t"]);
    expect(await sendAs("2")).toMatchObject({ completions: [{}], waits: [{}], retries: [] });
  });

  it("is reported with the task's end, and alone where it comes after that", async () => {
    expect(await harness.store.apply([...RETRIED, ...DONE])).toEqual(["t"]);
    expect((await sendAs("1")).retries).toHaveLength(1);
    const late = [taskRetried({ uuid: "t", timestamp: 1_000 })];
    expect(await harness.store.apply(late)).toEqual([retriesOf("t")]);
    expect(await harness.store.claim("2", [retriesOf("t"), "t"])).toEqual(
      new Map([["t", expect.objectContaining({ outcome: "claimed" })]]),
    );
    expect((await sendAs("2")).retries).toHaveLength(1);
    expect(await harness.store.apply(late)).toEqual([]);
    expect(await harness.ttlSeconds("t")).toBeLessThanOrEqual(SENT_EXPIRY_SECONDS);
  });
});

describe("claim", () => {
  it("finds nothing to send of a task that is not known, not finished, or sent", async () => {
    await harness.store.apply([...DONE, taskStarted({ uuid: "running" })]);
    await sendAs("1");
    const claims = await harness.store.claim("2", ["nobody", "running", "t"]);
    expect([...claims.values()].map(({ outcome }) => outcome)).toEqual(["reported", "reported", "reported"]);
    expect(await harness.redis.keys("*:task:*")).toHaveLength(2);
  });

  it("is busy for other jobs until the lease ends, and free for its own job at once", async () => {
    await harness.store.apply(DONE);
    expect(await claim("1")).toMatchObject({ outcome: "claimed" });
    const busy = await claim("2");
    expect(busy).toMatchObject({ outcome: "busy" });
    const freeInMs = busy.outcome === "busy" ? busy.freeInMs : 0;
    expect(freeInMs).toBeGreaterThan(1_000);
    expect(freeInMs).toBeLessThanOrEqual(2_000);
    expect(await claim("1")).toMatchObject({ outcome: "claimed" });

    await sleep(2_050);
    expect(await claim("2")).toMatchObject({ outcome: "claimed" });
    expect(await claim("1")).toMatchObject({ outcome: "busy" });
  });

  it("is free after a release, and counts the wait from the first claim", async () => {
    await harness.store.apply(DONE);
    expect(await claim("1")).toMatchObject({ waitedMs: 0 });
    await sleep(120);
    await harness.store.release("2", ["t"]);
    expect(await claim("2")).toMatchObject({ outcome: "busy" });
    await harness.store.release("1", ["t"]);
    const again = await claim("2");
    expect(again.outcome === "claimed" ? again.waitedMs : 0).toBeGreaterThanOrEqual(120);
  });

  it("lasts as long as it is renewed, and renewing returns the lost leases", async () => {
    await harness.store.apply([...DONE, ...DONE.map((event) => ({ ...event, uuid: "u" }))]);
    await harness.store.claim("1", ["t", "u"]);
    await harness.store.release("1", ["u"]);
    for (let renewals = 0; renewals < 4; renewals++) {
      await sleep(700);
      expect(await harness.store.renew("1", ["t", "u", "nobody"])).toEqual(["u", "nobody"]);
    }
    expect(await claim("2")).toMatchObject({ outcome: "busy" });
    expect(await claim("2", "u")).toMatchObject({ outcome: "claimed" });

    await sleep(2_050);
    // Expired, but no other job has taken it.
    expect(await harness.store.renew("1", ["t"])).toEqual([]);
    expect(await claim("2")).toMatchObject({ outcome: "busy" });
    await sleep(2_050);
    expect(await claim("2")).toMatchObject({ outcome: "claimed" });
    expect(await harness.store.renew("1", ["t"])).toEqual(["t"]);
    expect(await claim("1")).toMatchObject({ outcome: "busy" });
    expect((await harness.store.renew("1", [])).length + (await harness.hash("nobody")).size).toBe(0);
  });

  it("serves the same job again after a crash between claim and mark", async () => {
    await harness.store.apply(DONE);
    const first = await claim("1");
    const again = await claim("1");
    expect(entryOf(again).facts).toEqual(entryOf(first).facts);
  });
});

describe("settle", () => {
  it("leaves a tombstone of an hour that no late or repeated event changes", async () => {
    await harness.store.apply(DONE);
    await sendAs("1");
    expect(await harness.ttlSeconds("t")).toBeCloseTo(SENT_EXPIRY_SECONDS, -1);
    const tombstone = await harness.hash("t");
    expect(await harness.state("t")).toBe("t");
    expect(await harness.store.apply(DONE)).toEqual([]);
    expect(await harness.store.apply([taskReceived({ uuid: "t", hostname: "late@host" })])).toEqual([]);
    expect(await harness.ttlSeconds("t")).toBeLessThanOrEqual(SENT_EXPIRY_SECONDS);
    for (const [field, value] of tombstone) expect((await harness.hash("t")).get(field)).toBe(value);
  });

  it("leaves what arrived since the claim unsent", async () => {
    await harness.store.apply(DONE);
    const summary = summarise(entryOf(await claim("1")));
    const secondRun = taskFailed({ uuid: "t", hostname: "w2@host-b" });
    await harness.store.apply([secondRun]);
    await harness.store.settle("1", new Map([["t", summary]]));
    await expectExpiry(TASK_EXPIRY_SECONDS);
    expect(await harness.store.apply([secondRun])).toEqual(["t"]);
    expect((await sendAs("2")).completions).toMatchObject([{ state: "FAILURE" }]);
    expect(await harness.ttlSeconds("t")).toBeCloseTo(SENT_EXPIRY_SECONDS, -1);
  });

  it("does not give up another job's lease", async () => {
    await harness.store.apply(DONE);
    await claim("1");
    await harness.store.settle("2", new Map([["t", settlement()]]));
    expect(await claim("2")).toMatchObject({ outcome: "busy" });
  });

  it("does not bring back a task that is gone", async () => {
    await harness.store.settle("1", new Map([["t", settlement("fabc.x.S")]]));
    expect(await harness.redis.dbsize()).toBe(0);
  });
});

/** What two jobs do between two batches: claim everything that was reported, and then settle what they claimed, perhaps too late. */
const doings = fc.array(
  fc.record({ job: fc.constantFrom("1", "2"), does: fc.constantFrom("claim", "claim", "settle", "settle", "renew", "release") }),
  { minLength: 1, maxLength: 4 },
);

/** What an entry holds, and whether it expires late, without what depends on the time of the test, and without marks: not both ways need them. */
async function contentOf(id: string, owner: string): Promise<unknown[]> {
  const [state = "", hash, ttl] = await Promise.all([harness.state(id, owner), harness.hash(id, owner), harness.ttlSeconds(id, owner)]);
  const { facts } = parseTaskEntry([...hash, ["o", state] as const].flat());
  return [id, facts, [...hash.keys()].toSorted(), state.replaceAll(/\d+/g, ""), state.split(":").at(-1), ttl > SENT_EXPIRY_SECONDS];
}

describe("settling an entry as the job has read it", () => {
  it("leaves what reading it again leaves, whatever has happened since the claim", async () => {
    let shortcuts = 0;
    await fc.assert(
      fc.asyncProperty(deliveries, fc.array(doings, { minLength: 8, maxLength: 8 }), async ({ history, batches }, done) => {
        await harness.clear();
        const ids = new Set(history.map(({ uuid }) => uuid));
        /** What the entries hold after each step. */
        const states = async (owner: string, isWhole: boolean): Promise<unknown[]> => {
          const store = harness.another({ owner, leaseMs: 60_000 });
          const claimed = new Map<string, Map<string, Settlement>>();
          const seen: unknown[] = [];
          for (const [index, batch] of batches.entries()) {
            await store.apply(batch);
            for (const { job, does } of done[index % done.length] ?? []) {
              if (does === "claim") {
                const summaries = new Map<string, Settlement>();
                for (const [id, answer] of await store.claim(job, [...ids])) {
                  if (answer.outcome !== "claimed") continue;
                  const { lastOf, ...rest } = summarise(answer.entry);
                  if (isWhole && lastOf !== undefined) shortcuts += 1;
                  summaries.set(id, isWhole ? { ...rest, lastOf } : rest);
                }
                claimed.set(job, summaries);
              } else if (does === "settle") await store.settle(job, claimed.get(job) ?? new Map());
              else await store[does](job, [...ids]);
              seen.push(does, await store.sweep(), await Promise.all([...ids].map((id) => contentOf(id, owner))));
            }
          }
          return seen;
        };
        const [whole, again] = await Promise.all([states("whole", true), states("again", false)]);
        expect(whole).toEqual(again);
      }),
      { numRuns: scaled(8, 20) },
    );
    expect(shortcuts).toBeGreaterThan(10);
  });
});

describe("a tombstone", () => {
  it("lives on for a further run: its start or its final keeps it again for 7 days", async () => {
    await harness.store.apply(DONE);
    await sendAs("1");
    await harness.store.apply([taskStarted({ uuid: "t", hostname: "w2@host-b" })]);
    await expectExpiry(TASK_EXPIRY_SECONDS);
    expect(await harness.state("t")).toMatch(/^\d+s$/);

    expect(await harness.store.apply([taskFailed({ uuid: "t", hostname: "w2@host-b" })])).toEqual(["t"]);
    const summary = await sendAs("2");
    expect(summary.completions).toMatchObject([{ state: "FAILURE", runTime: 0.5 }]);
    expect(summary.waits).toHaveLength(1);
    expect(await harness.ttlSeconds("t")).toBeCloseTo(SENT_EXPIRY_SECONDS, -1);
  });

  it("sends nothing again for a repeated final of the same run, and marks it", async () => {
    await harness.store.apply([taskStarted({ uuid: "t" }), taskFailed({ uuid: "t", timestamp: 2e9 })]);
    await sendAs("1");
    expect(await harness.store.apply([taskFailed({ uuid: "t", timestamp: 2e9 + 0.002 })])).toEqual(["t"]);
    const summary = await sendAs("2");
    expect(summary.completions).toEqual([]);
    expect(summary.waits).toEqual([]);
    expect(await claim("3")).toEqual({ outcome: "reported" });
  });
});

describe("everything sent", () => {
  it("stays sent when all events come again in another order, other batches, and more than once", async () => {
    await fc.assert(
      fc.asyncProperty(deliveries, async ({ history, batches }) => {
        await harness.clear();
        const ids = await harness.store.apply(history);
        for (const id of ids) await sendAs("1", id);
        for (const batch of batches) expect(await harness.store.apply(batch)).toEqual([]);
        for (const claimed of (await harness.store.claim("2", ids)).values()) expect(claimed).toEqual({ outcome: "reported" });
      }),
      { numRuns: scaled(20, 60) },
    );
  });
});

describe("forget", () => {
  it("removes a task whole", async () => {
    await harness.store.apply([taskReceived({ uuid: "t" }), taskSucceeded({ uuid: "t" }), taskStarted({ uuid: "u" })]);
    await harness.store.forget(["t", "nobody"]);
    expect((await harness.hash("t")).size).toBe(0);
    expect((await harness.hash("u")).size).toBe(1);
    await harness.store.forget([]);
  });

  it("leaves a task that has a task-sent, because an excluded task has none", async () => {
    await harness.store.apply([taskSent({ uuid: "t" }), taskSucceeded({ uuid: "t" })]);
    const before = await harness.hash("t");
    await harness.store.forget(["t"]);
    expect(await harness.hash("t")).toEqual(before);
  });
});

describe("the opt-in tags", () => {
  it("keep worker and exception class with the facts, and a change of the setting sends nothing twice", async () => {
    const detailed = harness.another({ keepWorker: true, keepException: true });
    const events = [
      taskReceived({ uuid: "t" }),
      taskStarted({ uuid: "t" }),
      taskFailed({ uuid: "t", exception: "shop.errors.NoStock('x|y')" }),
    ];
    await harness.store.apply(events);
    await detailed.apply(events);
    const summary = await sendAs("1");
    expect(summary.completions).toMatchObject([{ state: "FAILURE", worker: "w1@host-a", exception: "shop.errors.NoStock" }]);
    expect(summary.waits).toMatchObject([{ worker: "w1@host-a", seconds: 0.25 }]);
    expect(await detailed.apply(events)).toEqual([]);
    expect(await harness.store.apply(events)).toEqual([]);
    expect(await claim("2")).toEqual({ outcome: "reported" });
  });
});

describe("a change of the opt-in tags", () => {
  it.each([true, false])("sends no success twice when its events come again (turned on: %s)", async (isTurnedOn) => {
    const detailed = harness.another({ keepWorker: true, keepException: true });
    const [before, after] = isTurnedOn ? [harness.store, detailed] : [detailed, harness.store];
    await before.apply(DONE);
    await sendAs("1");
    expect(await after.apply(DONE)).toEqual([]);
    expect(await claim("2")).toEqual({ outcome: "reported" });
  });
});

describe("an unavailable Redis", () => {
  it("makes calls reject, and nothing is lost once it is back", async () => {
    const own = await StoreHarness.start();
    try {
      await own.server.kill();
      await expect(own.store.apply(DONE)).rejects.toBeInstanceOf(UnavailableError);
      await own.server.restart();
      await expect.poll(() => own.store.apply(DONE).catch(() => "still away")).toEqual(["t"]);
    } finally {
      await own.close();
    }
  });

  it("makes calls reject while it is out of memory, too", async () => {
    const own = await StoreHarness.start();
    try {
      await own.redis.config("SET", "maxmemory", "1");
      await expect(own.store.apply(DONE)).rejects.toBeInstanceOf(UnavailableError);
      await own.redis.config("SET", "maxmemory", "0");
      expect(await own.store.apply(DONE)).toEqual(["t"]);
    } finally {
      await own.close();
    }
  });
});
