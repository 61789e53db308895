/** Tasks with very many attempts: nothing is forgotten before it is reported, and reported attempts may be forgotten. */
import { scaled } from "@celery-metrics-exporter/testkit";
import type { CeleryEvent, TaskReceived, TaskSent, TaskStarted } from "@celery-metrics-exporter/celery";
import { taskFailed, taskReceived, taskRetried, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import * as fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { FULL_FIELDS, LONG_FIELDS } from "../../src/completions/forget.ts";
import { summarise, summariseRetries, type Summary } from "../../src/completions/summarise.ts";
import { collectChanges } from "../../src/facts/task-changes.ts";
import { parseTaskEntry } from "../../src/facts/task-entry.ts";
import { isOfRetries } from "../../src/keys.ts";
import type { TaskStore } from "../../src/task-store.ts";
import { storedText } from "../../src/facts/texts.ts";
import { expectedHash } from "../expected-hash.ts";
import { required } from "../required.ts";
import { StoreHarness } from "../store-harness.ts";

let harness: StoreHarness;
beforeAll(async () => {
  harness = await StoreHarness.start();
});
beforeEach(() => harness.clear());
afterAll(() => harness.close());

const START = 1_795_328_900;

/** An attempt that waited 250 ms plus its number in microseconds, so that each wait is different. */
function attempt(number: number, retries = number): CeleryEvent[] {
  const common = { uuid: "t", name: "celery.chord_unlock", retries };
  const sent = START + number;
  const started = taskStarted({ uuid: "t", timestamp: sent + 0.25 + number / 1e6 });
  return [taskSent({ ...common, timestamp: sent }), taskReceived({ ...common, timestamp: sent + 0.125 }), started];
}

function retried(number: number): CeleryEvent[] {
  return [...attempt(number), taskRetried({ uuid: "t", timestamp: START + number + 0.5 + number / 1e6 })];
}

function polls(count: number): CeleryEvent[] {
  return Array.from({ length: count }, (_, number) => attempt(number)).flat();
}

function end(number: number): CeleryEvent {
  return taskSucceeded({ uuid: "t", timestamp: START + number + 0.5, runtime: 0.1 + number / 1e6 });
}

function lives(count: number): CeleryEvent[] {
  return Array.from({ length: count }, (_, number) => [...attempt(number, 0), end(number)]).flat();
}

function inBatches(events: readonly CeleryEvent[], size: number): CeleryEvent[][] {
  return Array.from({ length: Math.ceil(events.length / size) }, (_, index) => events.slice(index * size, (index + 1) * size));
}

/** All reported waits, in microseconds beyond attempt 0's. */
class Sent {
  readonly waits: number[] = [];
  readonly runs: number[] = [];
  retries = 0;
  claims = 0;

  async send(ids: readonly string[]): Promise<void> {
    for (const [id, claim] of await harness.store.claim("1", ids)) {
      if (claim.outcome !== "claimed") continue;
      this.claims += 1;
      const summary = isOfRetries(id) ? summariseRetries(claim.entry) : summarise(claim.entry);
      this.retries += summary.retries.length;
      for (const { seconds } of summary.waits) this.waits.push(Math.round((seconds - 0.25) * 1e6));
      for (const { runTime = 0 } of summary.completions) this.runs.push(Math.round((runTime - 0.1) * 1e6));
      await harness.store.settle("1", new Map([[id, summary]]));
    }
  }

  /** Applies each batch, and reports at once the tasks that `apply` returns. */
  async deliver(batches: readonly (readonly CeleryEvent[])[]): Promise<void> {
    for (const batch of batches) await this.send(await harness.store.apply(batch));
  }

  sorted(): { waits: number[]; runs: number[] } {
    return { waits: this.waits.toSorted((a, b) => a - b), runs: this.runs.toSorted((a, b) => a - b) };
  }
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, number) => number);
}

describe("a task with thousands of attempts", () => {
  it("sends the wait of each, once it ends", async () => {
    const sent = new Sent();
    await sent.deliver(inBatches([...polls(1_000), end(999)], 500));
    expect(sent.sorted()).toEqual({ waits: upTo(1_000), runs: [999] });
  });

  it("sends the wait of each in whatever order the events come, split and repeated", async () => {
    const shuffled = fc.shuffledSubarray([...polls(700), end(699), ...polls(100)], { minLength: 2_401 });
    await fc.assert(
      fc.asyncProperty(shuffled, fc.integer({ min: 50, max: 3_000 }), async (events, size) => {
        await harness.clear();
        const sent = new Sent();
        const reported = new Set<string>();
        for (const batch of inBatches(events, size)) for (const id of await harness.store.apply(batch)) reported.add(id);
        await sent.send([...reported]);
        expect(sent.sorted()).toEqual({ waits: upTo(700), runs: [699] });
      }),
      { numRuns: scaled(3, 10) },
    );
  });

  it("sends past waits before it ends, keeps its entry bounded, and takes no repeat for another attempt", async () => {
    const sent = new Sent();
    const batches = inBatches(polls(5_000), 300);
    let most = 0;
    for (const [index, batch] of batches.entries()) {
      // Some batches come twice, and some a second time when the next one has gone.
      await sent.deliver(index % 3 === 0 ? [batch, batch] : index % 3 === 1 ? [batch, batches[index - 1] ?? []] : [batch]);
      most = Math.max(most, (await harness.hash("t")).size);
    }
    expect(sent.waits.length).toBeGreaterThan(3_000);
    expect(most).toBeLessThan(3 * LONG_FIELDS);
    await sent.deliver([[end(4_999)], ...batches, [end(4_999)]]);
    expect(sent.sorted()).toEqual({ waits: upTo(5_000), runs: [4_999] });
  });

  it("is reported a few times only while nothing can be sent", async () => {
    let reports = 0;
    for (const batch of inBatches(polls(5_000), 30)) reports += (await harness.store.apply(batch)).length;
    expect(reports).toBeLessThanOrEqual(3);
    const sent = new Sent();
    await sent.send(["t"]);
    await sent.deliver([[end(4_999)]]);
    expect(sent.sorted()).toEqual({ waits: upTo(5_000), runs: [4_999] });
  });
});

describe("a task with thousands of retries", () => {
  it("has each counted once, soon as long as they are few, and its entry stays bounded", async () => {
    const sent = new Sent();
    let most = 0;
    let soon = 0;
    for (const number of upTo(3_000)) {
      await sent.deliver([retried(number).slice(0, 3), retried(number).slice(3)]);
      if (number === 10) soon = sent.retries;
      most = Math.max(most, await harness.size("t"));
    }
    expect(soon).toBe(11);
    // Its whole entry is read each time.
    expect(sent.claims).toBeLessThan(500);
    expect(sent.retries).toBeGreaterThan(2_000);
    expect(most).toBeLessThan(3 * LONG_FIELDS);
    await sent.deliver([[end(2_999)], upTo(3_000).flatMap(retried), [end(2_999)]]);
    expect(sent.retries).toBe(3_000);
  });
});

describe("retries without a start", () => {
  it("are described without a look at every start for each", () => {
    const elsewhere = upTo(1_000).map((number) => taskRetried({ uuid: "t", hostname: "other@host-b", timestamp: START + 5_000 + number }));
    const [change] = collectChanges([...polls(1_000), ...elsewhere], { keepWorker: false, keepException: false }).values();
    const entry = parseTaskEntry([...expectedHash(required(change))].flat());
    let reads = 0;
    const counted = entry.facts.started.map((fact) => new Proxy(fact, { get: (target, key) => ((reads += 1), Reflect.get(target, key)) }));
    expect(summariseRetries({ ...entry, facts: { ...entry.facts, started: counted } }).retries).toHaveLength(1_000);
    expect(reads).toBeLessThan(200_000);
  });
});

describe("an id that is used again and again", () => {
  it.each([
    ["in one backlog", 12_000],
    ["over a long time", 40],
  ])("counts each run once, %s, and repeats not at all", async (_, size) => {
    const sent = new Sent();
    const batches = inBatches(lives(2_000), size);
    for (const batch of batches) await sent.deliver([batch, batch]);
    expect((await harness.hash("t")).size).toBeLessThan(2 * LONG_FIELDS);
    await sent.deliver(batches);
    expect(sent.sorted()).toEqual({ waits: upTo(2_000), runs: upTo(2_000) });
  });

  it("counts the first run of a worker that is new to the task, whatever its clock says", async () => {
    const sent = new Sent();
    await sent.deliver(inBatches(lives(2_000), 40));
    const late = { uuid: "t", hostname: "w9@host-z" };
    await sent.deliver([[taskStarted({ ...late, timestamp: START + 1 }), taskFailed({ ...late, timestamp: START + 2 })]]);
    expect(sent.runs).toHaveLength(2_001);
  });
});

describe("an entry", () => {
  const dropped = { full: 0, past: 0, unused: 0 };
  let store: TaskStore;
  beforeEach(() => {
    Object.assign(dropped, { full: 0, past: 0, unused: 0 });
    store = harness.another({ onDropped: (reason, events) => (dropped[reason] += events) });
  });

  async function settle(): Promise<Summary | undefined> {
    const claim = (await store.claim("1", ["t"])).get("t");
    if (claim?.outcome !== "claimed") return undefined;
    const summary = summarise(claim.entry);
    await store.settle("1", new Map([["t", summary]]));
    return summary;
  }

  it("stays bounded, whatever is sent under one id, and counts what it drops", async () => {
    const sent = upTo(60_000).map((number) => taskSent({ uuid: "t", timestamp: START + number }));
    for (const batch of inBatches(sent, 4_000)) await store.apply(batch);
    expect((await harness.hash("t")).size).toBeLessThanOrEqual(FULL_FIELDS);
    expect(dropped.full).toBeGreaterThan(60_000 - FULL_FIELDS);

    await settle();
    expect((await harness.hash("t")).size).toBeLessThan(2 * LONG_FIELDS);
    expect(dropped).toMatchObject({ past: 0, unused: expect.closeTo(FULL_FIELDS - 4_096, -2) });
    await store.apply(sent.slice(0, 100));
    expect(dropped.past).toBe(100);

    await store.apply([taskReceived({ uuid: "t", timestamp: START + 70_000 }), taskStarted({ uuid: "t", timestamp: START + 70_000 })]);
    await store.apply([taskSucceeded({ uuid: "t", timestamp: START + 70_001 })]);
    expect((await settle())?.completions).toMatchObject([{ state: "SUCCESS", name: "shop.cart.total", queue: "celery" }]);
  });

  it("takes the ends of a task when it is full", async () => {
    await store.apply(upTo(40_000).map((number) => taskSent({ uuid: "t", timestamp: START + number })));
    expect(await store.apply([taskFailed({ uuid: "t", timestamp: START + 50_000 })])).toEqual(["t"]);
    expect((await settle())?.completions).toMatchObject([{ state: "FAILURE" }]);
  });

  it("keeps thousands of starts of which no message is known, and no more", async () => {
    const started = upTo(20_000).map((number) => taskStarted({ uuid: "t", timestamp: START + number }));
    let reports = 0;
    for (const batch of inBatches(started, 1_000)) {
      if ((await store.apply(batch)).length === 0) continue;
      reports += 1;
      await settle();
    }
    expect(reports).toBeGreaterThan(1);
    const { size } = await harness.hash("t");
    expect(size).toBeGreaterThan(4_096);
    expect(size).toBeLessThan(4_096 + 2 * LONG_FIELDS);
    expect(dropped).toEqual({ full: 0, past: 0, unused: expect.closeTo(20_512 - size, -2) });
  });

  it("is noticed when it grows one event at a time", async () => {
    let reports = 0;
    for (const number of upTo(LONG_FIELDS + 1_000)) {
      reports += (await store.apply([taskSent({ uuid: "t", timestamp: START + number })])).length;
    }
    expect(reports).toBeGreaterThan(0);
  });

  it("forgets the names and queues of the attempts that it forgets", async () => {
    const sent = new Sent();
    const queued = upTo(1_200).map((number) => {
      const [first, ...others] = attempt(number, 0) as [TaskSent, TaskReceived, TaskStarted];
      return [{ ...first, queue: `queue-${number}` }, ...others, end(number)];
    });
    await sent.deliver(inBatches(queued.flat(), 400));
    expect(sent.sorted()).toEqual({ waits: upTo(1_200), runs: upTo(1_200) });
    const fields = [...(await harness.hash("t")).keys()];
    expect(fields.filter((field) => field.startsWith("n")).length).toBeLessThan(1_000);
    expect(fields.some((field) => field === storedText("celery.chord_unlock").fields[0])).toBe(true);
    expect(fields.some((field) => field === storedText("queue-1199").fields[0])).toBe(true);
  });

  it("forgets the workers that were active in it longest ago", async () => {
    const events = upTo(3_000).flatMap((number) => {
      const hostname = `w@pod-${number}`;
      return [
        taskStarted({ uuid: "t", hostname, timestamp: START + number }),
        taskSucceeded({ uuid: "t", hostname, timestamp: START + number + 0.5 }),
      ];
    });
    for (const batch of inBatches(events, 1_000)) {
      await store.apply(batch);
      await settle();
    }
    const fields = [...(await harness.hash("t")).keys()];
    expect(fields.filter((field) => field.startsWith("w")).length).toBeLessThanOrEqual(512 + 500);
  });

  it("is not read for each start that comes after the task was reported", async () => {
    await store.apply([taskSucceeded({ uuid: "t", timestamp: START + 100_000 })]);
    await settle();
    await harness.redis.config("RESETSTAT");
    await store.apply(upTo(1_000).map((number) => taskStarted({ uuid: "t", timestamp: START + number })));
    const calls = /cmdstat_hgetall:calls=(\d+)/.exec(await harness.redis.info("commandstats"))?.[1];
    expect(Number(calls)).toBe(1);
  });
});

describe("a task that runs under a shadow name", () => {
  it("is paired without comparing each attempt with all others", () => {
    const attempts = 4_000;
    const events = upTo(attempts).flatMap((number) => {
      const [sent, received, started] = attempt(number, 0) as [TaskSent, TaskReceived, TaskStarted];
      return [sent, { ...received, name: "My Report" }, started];
    });
    const [change] = collectChanges([...events, end(attempts - 1)], { keepWorker: false, keepException: false }).values();
    const entry = parseTaskEntry([...expectedHash(required(change))].flat());
    let reads = 0;
    const counted = entry.facts.sent.map((fact) => new Proxy(fact, { get: (target, key) => ((reads += 1), Reflect.get(target, key)) }));
    const { waits } = summarise({ ...entry, facts: { ...entry.facts, sent: counted } });
    expect(waits.map(({ seconds }) => Math.round((seconds - 0.25) * 1e6))).toEqual(upTo(attempts));
    expect(reads).toBeLessThan(200 * attempts);
  });
});
