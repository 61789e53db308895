/** Bursts, as fast as the broker accepts them: every event gets through. Also logs how fast. */
import { createVhost, startRedis, scaled } from "@celery-metrics-exporter/testkit";
import { afterEach, describe, expect, it } from "vitest";
import { prepareBurst, publishBurst } from "../load/load.ts";
import { sumOf } from "../fleet/own-metrics.ts";
import { startScene, type Scene } from "./scene.ts";
import { expectMetrics, expectRows } from "./truth.ts";

const DRAIN_TIMEOUT_MS = scaled(60_000, 300_000);

/** The receiver's counters of what it could not keep. */
const LOSSES = ["messages_dropped_total", "broker_gaps_total", "events_shed_total"];

const releases: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

/** A broker of either kind: returns the URL of an empty one. */
const brokers = {
  RabbitMQ: async (): Promise<string> => {
    const vhost = await createVhost();
    releases.push(() => vhost.drop());
    return vhost.url;
  },
  // With its default limits, with which it disconnects a slow subscriber.
  Redis: async (): Promise<string> => {
    const redis = await startRedis();
    releases.push(() => redis.stop());
    return `${redis.url}/0`;
  },
} as const;

async function start(brokerUrl: string, receivers: number): Promise<Scene> {
  const processes = { receiver: receivers, "datadog-processor": 2, "postgres-processor": 2 };
  const scene = await startScene({ brokerUrl, processes });
  releases.push(() => scene.close());
  return scene;
}

describe("a burst loses nothing", () => {
  it.each([
    { broker: "RabbitMQ", events: scaled(40_000, 400_000), receivers: 2 },
    { broker: "Redis", events: scaled(20_000, 200_000), receivers: 1 },
  ] as const)("$events events from $broker", async ({ broker, events, receivers }) => {
    const { fleet, publisher, database, sink } = await start(await brokers[broker](), receivers);
    const truth = prepareBurst(events);
    const began = Date.now();
    await publishBurst(publisher, truth);
    const published = Date.now();
    for (const loss of LOSSES) expect(await sumOf(fleet.processes("receiver"), loss), loss).toBe(0);
    await expectRows(database, truth, { timeoutMs: DRAIN_TIMEOUT_MS });
    await expectMetrics(sink, truth, { timeoutMs: DRAIN_TIMEOUT_MS });
    const done = Date.now();
    const perSecond = (until: number): number => Math.round((truth.events / (until - began)) * 1_000);
    console.info(
      `${broker}: ${truth.events} events, published at ${perSecond(published)}/s, all through at ${perSecond(done)}/s, ${done - published} ms after the last`,
    );
  });
});
