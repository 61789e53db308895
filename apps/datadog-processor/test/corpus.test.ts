import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { corpusNames, readCorpus, shuffled, sortedMetrics, split, type Sample } from "@celery-metrics-exporter/celery/testing";
import { once } from "node:events";
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DatadogHarness } from "./datadog-harness.ts";

const SEED = Number(process.env["TEST_SEED"] ?? Date.now() % 2 ** 31);
const signal = new AbortController().signal;

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

function draw<T>(arbitrary: fc.Arbitrary<T>): T {
  const [value] = fc.sample(arbitrary, { numRuns: 1, seed: SEED });
  if (value === undefined) throw new Error("nothing drawn");
  return value;
}

const deliveries: Record<string, (events: readonly CeleryEvent[]) => readonly (readonly CeleryEvent[])[]> = {
  "as recorded": (events) => [events],
  shuffled: (events) => [draw(shuffled(events))],
  doubled: (events) => [events, events],
  "in random batches": (events) => draw(shuffled([...events, ...events]).chain((mixed) => split(mixed))),
};

/** Tolerance of 2 µs: the recordings contain floating-point seconds, we use whole microseconds. */
function close({ key, seconds }: Sample): unknown {
  return { key, seconds: expect.closeTo(seconds, -Math.log10(2 * 2e-6)) };
}

describe.each(corpusNames)("%s", (name) => {
  it.concurrent.each(Object.entries(deliveries))(
    `sends the expected metrics over UDP, with events %s (seed ${SEED})`,
    async (how, deliver) => {
      const corpus = readCorpus(name);
      const harness = await DatadogHarness.start({
        redis,
        env: { QUEUE_PREFIX: `{${name}-${how.replaceAll(" ", "-")}}`, DATADOG_GRACE_MS: "0" },
      });
      try {
        const allDelivered = new AbortController();
        const notBefore = once(allDelivered.signal, "abort");
        const processors = [await harness.processor({ notBefore }), await harness.processor({ notBefore })];
        const batches = deliver(corpus.events);
        for (let next = 0; next < batches.length; next += processors.length) {
          await Promise.all(processors.map(({ exporter }, index) => exporter.export(batches[next + index] ?? [], signal)));
        }
        allDelivered.abort();
        await Promise.all(processors.map((processor) => processor.idle()));
        await harness.quiet();

        const expected = sortedMetrics(corpus.metrics);
        expect(sortedMetrics(harness.received())).toEqual({
          counts: expected.counts,
          runs: expected.runs.map(close),
          waits: expected.waits.map(close),
        });
        expect(harness.sink.errors).toEqual([]);
      } finally {
        await harness.close();
      }
    },
  );
});
