import { corpusNames, readCorpus, sortedMetrics, type ExpectedMetrics, type Sample } from "@celery-metrics-exporter/celery/testing";
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Labels } from "../../src/completions/attempts.ts";
import { summarise } from "../../src/completions/summarise.ts";
import { StoreHarness } from "../store-harness.ts";

let harness: StoreHarness;
beforeAll(async () => {
  harness = await StoreHarness.start();
});
afterAll(() => harness.close());

const COUNTS = { SUCCESS: "success_count", FAILURE: "fail_count", REVOKED: "revoked_count", REJECTED: "rejected_count" } as const;

/** What the Store says to report, in the corpus's form. */
async function metricsFrom(ids: readonly string[]): Promise<ExpectedMetrics> {
  const retry_count: Record<string, number> = {};
  const counts: Record<(typeof COUNTS)[keyof typeof COUNTS], Record<string, number>> = {
    success_count: {},
    fail_count: {},
    revoked_count: {},
    rejected_count: {},
  };
  const run_time: [string, "success" | "failure", number][] = [];
  const wait_time: [string, number, "sent" | "received"][] = [];
  const claims = await harness.store.claim("job", ids);
  for (const claim of claims.values()) {
    if (claim.outcome !== "claimed") throw new Error(`claim is ${claim.outcome}`);
    const { completions, waits, retries } = summarise(claim.entry);
    for (const retry of retries) retry_count[labelsOf(retry)] = (retry_count[labelsOf(retry)] ?? 0) + 1;
    for (const completion of completions) {
      const { state, runTime } = completion;
      const task = labelsOf(completion);
      counts[COUNTS[state]][task] = (counts[COUNTS[state]][task] ?? 0) + 1;
      if (runTime !== undefined) run_time.push([task, state === "SUCCESS" ? "success" : "failure", runTime]);
    }
    for (const wait of waits) wait_time.push([labelsOf(wait), wait.seconds, wait.basis]);
  }
  return { ...counts, retry_count, run_time, wait_time };
}

function labelsOf({ name, queue }: Labels): string {
  return `${name ?? "unknown"}|${queue ?? "unknown"}`;
}

/** Equal to within 2 µs: the recordings' clocks are floating-point seconds, ours whole microseconds. */
function close({ key, seconds }: Sample): unknown {
  return { key, seconds: expect.closeTo(seconds, -Math.log10(2 * 2e-6)) };
}

const orders: Record<string, (events: readonly CeleryEvent[]) => CeleryEvent[][]> = {
  "as recorded": (events) => [[...events]],
  backwards: (events) => [events.toReversed()],
  shuffled: (events) => [shuffle(events)],
  "doubled and shuffled": (events) => [shuffle([...events, ...events])],
  "in small batches, shuffled": (events) => inBatches(shuffle([...events, ...events])),
};

const [seed] = fc.sample(fc.integer(), 1);

function shuffle(events: readonly CeleryEvent[]): CeleryEvent[] {
  const [shuffled = []] = fc.sample(fc.shuffledSubarray([...events], { minLength: events.length }), { numRuns: 1, seed: seed ?? 1 });
  return shuffled;
}

function inBatches(events: readonly CeleryEvent[]): CeleryEvent[][] {
  const batches: CeleryEvent[][] = [];
  for (let from = 0; from < events.length; from += 7) batches.push(events.slice(from, from + 7));
  return batches;
}

describe.each(corpusNames)("%s", (name) => {
  it.each(Object.entries(orders))(`gives the expected metrics, with events %s (seed ${seed})`, async (_, deliver) => {
    await harness.clear();
    const corpus = readCorpus(name);
    const reported = new Set<string>();
    for (const batch of deliver(corpus.events)) for (const id of await harness.store.apply(batch)) reported.add(id);
    const metrics = await metricsFrom([...reported]);
    const { counts, runs, waits } = sortedMetrics(corpus.metrics);
    expect(sortedMetrics(metrics)).toEqual({ counts, runs: runs.map(close), waits: waits.map(close) });
  });
});
