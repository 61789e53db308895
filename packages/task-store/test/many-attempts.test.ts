/** Tasks with very many attempts: nothing is cut before it was sent, and what was sent may be forgotten. */
import type { CeleryEvent } from "@celery-metrics-exporter/events";
import { taskFailed, taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/events/testing";
import * as fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { LONG_FIELDS } from "../src/forget.ts";
import { summarise } from "../src/summarise.ts";
import { StoreHarness } from "./store-harness.ts";

let harness: StoreHarness;
beforeAll(async () => {
  harness = await StoreHarness.start();
});
beforeEach(() => harness.clear());
afterAll(() => harness.close());

const START = 1_795_328_900;

/** An attempt that waited 250 ms and so many microseconds as its number says, so that each wait can be told from the others. */
function attempt(number: number, retries = number): CeleryEvent[] {
  const common = { uuid: "t", name: "celery.chord_unlock", retries };
  const sent = START + number;
  const started = taskStarted({ uuid: "t", timestamp: sent + 0.25 + number / 1e6 });
  return [taskSent({ ...common, timestamp: sent }), taskReceived({ ...common, timestamp: sent + 0.125 }), started];
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

/** All that was sent, in microseconds beyond what attempt 0 has. */
class Sent {
  readonly waits: number[] = [];
  readonly runs: number[] = [];

  async send(ids: readonly string[]): Promise<void> {
    for (const [id, claim] of await harness.store.claim("1", ids)) {
      if (claim.outcome !== "claimed") continue;
      const summary = summarise(claim.entry);
      for (const { seconds } of summary.waits) this.waits.push(Math.round((seconds - 0.25) * 1e6));
      for (const { runTime = 0 } of summary.completions) this.runs.push(Math.round((runTime - 0.1) * 1e6));
      await harness.store.settle("1", new Map([[id, summary]]));
    }
  }

  /** Applies each batch, and sends at once what that reports. */
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
      { numRuns: 10 },
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

  it("counts the first run of a worker that had no part before, whatever its clock says", async () => {
    const sent = new Sent();
    await sent.deliver(inBatches(lives(2_000), 40));
    const late = { uuid: "t", hostname: "w9@host-z" };
    await sent.deliver([[taskStarted({ ...late, timestamp: START + 1 }), taskFailed({ ...late, timestamp: START + 2 })]]);
    expect(sent.runs).toHaveLength(2_001);
  });
});
