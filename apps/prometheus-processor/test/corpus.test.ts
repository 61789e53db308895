import { readFileSync } from "node:fs";
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { readCorpus, shuffled, split } from "@celery-metrics-exporter/celery/testing";
import { startRedis, type RedisServer, byTask, parseScrape } from "@celery-metrics-exporter/testkit";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PrometheusHarness, scrape } from "./prometheus-harness.ts";

const SEED = Number(process.env["TEST_SEED"] ?? Date.now() % 2 ** 31);
const signal = new AbortController().signal;
const NAMES = ["celery-5.2-redis", "celery-5.2-amqp", "celery-5.6-redis", "celery-5.6-amqp", "celery-5.6-amqp-msgpack"] as const;

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
  "one by one": (events) => events.map((event) => [event]),
  shuffled: (events) => [draw(shuffled(events))],
  doubled: (events) => [events, events],
  "in random batches": (events) => draw(shuffled([...events, ...events]).chain((mixed) => split(mixed))),
};

type Expected = Readonly<Record<string, Readonly<Record<string, number>>>>;

function expectedOf(name: string): Expected {
  return JSON.parse(readFileSync(new URL(`../../../test/fixtures/corpus/${name}.prom.json`, import.meta.url), "utf8")) as Expected;
}

/** The values that are not 0. */
function positive(values: Readonly<Record<string, number>> = {}): Record<string, number> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== 0));
}

/** Takes over expected sums that are as close as rounding to a microsecond per event allows. */
function roundedTo(expected: Readonly<Record<string, number>>, values: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(values).map(([key, value]) => [
      key,
      Math.abs(value - (expected[key] ?? Infinity)) < 1e-4 ? (expected[key] ?? 0) : value,
    ]),
  );
}

describe.each(NAMES)("%s", (name) => {
  it.concurrent.each(Object.entries(deliveries))(`is counted exactly, with events %s (seed ${SEED})`, async (how, deliver) => {
    const harness = await PrometheusHarness.start({ redis, env: { QUEUE_PREFIX: `{${name}-${how.replaceAll(" ", "-")}}` } });
    try {
      const processors = [await harness.started(), await harness.started()];
      const batches = deliver(readCorpus(name).events);
      for (let next = 0; next < batches.length; next += processors.length) {
        await Promise.all(processors.map(({ exporter }, index) => exporter.export(batches[next + index] ?? [], signal)));
      }
      await Promise.all(processors.map((processor) => processor.idle()));
      const shown = byTask(parseScrape(await scrape(processors[0]?.url() ?? "")));
      for (const [metric, values] of Object.entries(expectedOf(name))) {
        expect(roundedTo(values, positive(shown[metric])), metric).toEqual(positive(values));
      }
    } finally {
      await harness.close();
    }
  });
});
