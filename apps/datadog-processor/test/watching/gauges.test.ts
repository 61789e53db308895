/** The gauges of workers and queues, from real Redis to the sink. */
import type { CeleryEvent, Observation, WorkerEvent } from "@celery-metrics-exporter/celery";
import { listened, queuesObserved, workersObserved } from "@celery-metrics-exporter/celery/testing";
import type { TestExporter } from "@celery-metrics-exporter/pipeline/testing";
import { startRedis, startStatsdSink, type RedisServer } from "@celery-metrics-exporter/testkit";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { GaugeMapper, Gauges, type GaugesOptions } from "../../src/watching/gauges.ts";
import { ProcessorProcesses } from "../processor-processes.ts";
import { DatadogHarness } from "../datadog-harness.ts";

const NEVER = new AbortController().signal;
const W1 = "w1@host-a";
const W2 = "w2@host-a";

let redis: RedisServer;
let prefixes = 0;
const harnesses: DatadogHarness[] = [];
beforeAll(async () => {
  redis = await startRedis();
});
afterEach(async () => {
  await Promise.all(harnesses.splice(0).map((harness) => harness.close()));
});
afterAll(() => redis.stop());

/** While a receiver listens, by default. */
async function start(
  env: Readonly<Record<string, string>> = {},
  observed: readonly Observation[] = [listened()],
): Promise<[DatadogHarness, TestExporter]> {
  const prefix = `{gauges-${++prefixes}}`;
  const harness = await DatadogHarness.start({ redis, env: { QUEUE_PREFIX: prefix, DATADOG_GAUGE_INTERVAL_MS: "100", ...env } });
  harnesses.push(harness);
  const processor = await harness.processor();
  await processor.exporter.start?.();
  await processor.exporter.observe?.(observed, NEVER);
  return [harness, processor];
}

function heartbeat(hostname: string, fields: Partial<WorkerEvent> = {}): WorkerEvent {
  return { type: "worker-heartbeat", hostname, timestamp: now(), ...fields };
}

function now(): number {
  return Date.now() / 1_000;
}

async function send({ exporter }: TestExporter, events: readonly CeleryEvent[]): Promise<void> {
  await exporter.export(events, NEVER, { receivedAt: now() });
}

describe("workers", () => {
  it("are one gauge each, also two on one host, whichever process took their events", async () => {
    const [harness, first] = await start({ DATADOG_TAGS: "env:prod" });
    const second = await harness.processor();
    await send(first, [heartbeat(W1, { active: 2 })]);
    await send(second, [heartbeat(W2, { active: 3 }), { type: "worker-online", hostname: "w1@host-b", timestamp: now() }]);
    expect(await harness.gauges()).toEqual({
      "celery.workers.up{env:prod}": 3,
      "celery.worker.online{worker:w1_host-a,env:prod}": 1,
      "celery.worker.online{worker:w1_host-b,env:prod}": 1,
      "celery.worker.online{worker:w2_host-a,env:prod}": 1,
      "celery.worker.active{worker:w1_host-a,env:prod}": 2,
      "celery.worker.active{worker:w1_host-b,env:prod}": 0,
      "celery.worker.active{worker:w2_host-a,env:prod}": 3,
    });
    expect(harness.sink.errors).toEqual([]);
  });

  it("are not sent while it is not known whether they are online", async () => {
    const [harness, processor] = await start({ DATADOG_WORKER_TIMEOUT_SECONDS: "10" }, []);
    const mail = queuesObserved({ timestamp: now(), queues: [{ name: "mail", messages: 1 }] });
    await processor.exporter.export([heartbeat(W1, { active: 2 })], NEVER, { receivedAt: now() - 300 });
    await processor.exporter.export([heartbeat(W2, { active: 3 })], NEVER, { receivedAt: now() });
    await processor.exporter.observe?.([mail], NEVER);
    await harness.sink.waitFor((sink) => sink.values("celery.queue.length").length > 5);
    await processor.exporter.observe?.([listened(9)], NEVER);
    await harness.sink.waitFor((sink) => sink.values("celery.queue.length").length > 10);
    const sent = (): string[] => [...new Set(harness.sink.metrics.map(({ name, tags }) => `${name} ${tags.join()}`))].toSorted();
    expect(sent(), "no receiver has listened for long enough").toEqual([
      "celery.queue.length queue:mail",
      "celery.worker.active worker:w2_host-a",
      "celery.worker.online worker:w2_host-a",
    ]);
    await processor.exporter.observe?.([listened(12)], NEVER);
    expect(await harness.gauges()).toMatchObject({
      "celery.workers.up{}": 1,
      "celery.worker.online{worker:w1_host-a}": 0,
      "celery.worker.active{worker:w1_host-a}": 0,
      "celery.worker.online{worker:w2_host-a}": 1,
    });
  });

  it("are 0 once they are not heard, and disappear later", async () => {
    const [harness, processor] = await start({ DATADOG_WORKER_TIMEOUT_SECONDS: "1", DATADOG_WORKER_PURGE_SECONDS: "5" });
    await send(processor, [heartbeat(W1, { active: 2 })]);
    const online = { "celery.workers.up{}": 1, "celery.worker.online{worker:w1_host-a}": 1, "celery.worker.active{worker:w1_host-a}": 2 };
    await harness.sink.waitFor((sink) => sink.total("celery.workers.up") > 0);
    const silent = { "celery.workers.up{}": 0, "celery.worker.online{worker:w1_host-a}": 0, "celery.worker.active{worker:w1_host-a}": 0 };
    const seen: string[] = [];
    for (const deadline = Date.now() + 15_000; Date.now() < deadline;) {
      await processor.exporter.observe?.([listened()], NEVER);
      const gauges = JSON.stringify(sorted(await harness.gauges()));
      if (seen.at(-1) !== gauges) seen.push(gauges);
      if (gauges === JSON.stringify({ "celery.workers.up{}": 0 })) break;
    }
    const allowed = [online, silent, { "celery.workers.up{}": 0 }].map((gauges) => JSON.stringify(sorted(gauges)));
    // A busy machine may be late to see it online.
    expect(seen.length === 3 ? seen : [allowed[0], ...seen]).toEqual(allowed);
  });

  it("go offline when they say so; a late goodbye creates none, and an answer to a broadcast resets nothing", async () => {
    const [harness, processor] = await start();
    const at = now();
    await send(processor, [
      heartbeat(W1, { timestamp: at, active: 2, processed: 7 }),
      heartbeat(W1, { timestamp: at + 1 }),
      heartbeat(W2, { timestamp: at, active: 1 }),
      { type: "worker-offline", hostname: W2, timestamp: at + 1 },
      { type: "worker-offline", hostname: "gone@host-a", timestamp: at },
    ]);
    expect(await harness.gauges()).toEqual({
      "celery.workers.up{}": 1,
      "celery.worker.online{worker:w1_host-a}": 1,
      "celery.worker.online{worker:w2_host-a}": 0,
      "celery.worker.active{worker:w1_host-a}": 2,
      "celery.worker.active{worker:w2_host-a}": 0,
    });
  });

  it("are 0 together where none was ever heard", async () => {
    const [harness] = await start();
    expect(await harness.gauges()).toEqual({ "celery.workers.up{}": 0 });
  });
});

describe("queues", () => {
  it("have the length and the consumers that the broker counts", async () => {
    const [harness, { exporter }] = await start();
    const queues = [
      { name: "celery", messages: 12, consumers: 2 },
      { name: "mail", messages: 0, consumers: 0 },
    ];
    await exporter.observe?.([queuesObserved({ timestamp: now(), broker: "rabbitmq", queues })], NEVER);
    expect(await harness.gauges()).toEqual({
      "celery.workers.up{}": 0,
      "celery.queue.length{queue:celery}": 12,
      "celery.queue.length{queue:mail}": 0,
      "celery.queue.consumers{queue:celery}": 2,
      "celery.queue.consumers{queue:mail}": 0,
      "celery.queue.oldest_age{queue:mail}": 0,
    });
  });

  it("have as many consumers as workers say that they consume from it, where the broker does not count", async () => {
    const [harness, { exporter }] = await start();
    const timestamp = now();
    const queues = ["celery", "mail"].map((name) => ({ name, messages: 1 }));
    const workers = [
      { hostname: W1, queues: ["celery"] },
      { hostname: W2, queues: ["celery", "slow"] },
    ];
    await exporter.observe?.([queuesObserved({ timestamp, queues })], NEVER);
    expect(consumersIn(await harness.gauges())).toEqual({});
    await exporter.observe?.([workersObserved({ timestamp, workers })], NEVER);
    expect(consumersIn(await harness.gauges())).toEqual({
      "celery.queue.consumers{queue:celery}": 2,
      "celery.queue.consumers{queue:mail}": 0,
      "celery.queue.consumers{queue:slow}": 1,
    });
  });

  it("end when the monitor is silent", async () => {
    const [harness, { exporter }] = await start({ DATADOG_OBSERVATION_MAX_AGE_SECONDS: "60" });
    await exporter.observe?.([queuesObserved({ timestamp: now() - 61 }), workersObserved({ timestamp: now() - 61 })], NEVER);
    expect(await harness.gauges()).toEqual({ "celery.workers.up{}": 0 });
  });
});

describe("of several processors", () => {
  it("another one sends while the agent of the first is away", async () => {
    const away = await startStatsdSink();
    await away.close();
    const prefix = `{gauges-${++prefixes}}`;
    const harness = await DatadogHarness.start({ redis, env: { QUEUE_PREFIX: prefix, DATADOG_GAUGE_INTERVAL_MS: "100" } });
    harnesses.push(harness);
    const first = await harness.processor({ env: { DD_DOGSTATSD_PORT: String(away.port) } });
    const second = await harness.processor();
    await first.exporter.start?.();
    await second.exporter.start?.();
    await first.exporter.observe?.([listened()], NEVER);
    await send(first, [heartbeat(W1, { active: 2 })]);
    expect(await harness.gauges()).toMatchObject({ "celery.worker.active{worker:w1_host-a}": 2 });
  });

  it("one sends; when it is killed, another goes on with what both have heard", async () => {
    const processors = await ProcessorProcesses.start();
    const sinks = await Promise.all([startStatsdSink(), startStatsdSink()]);
    try {
      const env = { QUEUE_PREFIX: "{one-sends}", DATADOG_GAUGE_INTERVAL_MS: "200" };
      const children = sinks.map(({ port }) => processors.spawn({ ...env, DD_DOGSTATSD_PORT: String(port) }));
      await processors.enqueueEvents(env.QUEUE_PREFIX, [heartbeat(W1, { active: 2 }), heartbeat(W2, { active: 3 })]);
      const online = (sink: (typeof sinks)[0]): number =>
        sink.select("celery.worker.online").filter(({ values }) => values[0] === 1).length;
      await expect.poll(() => Math.max(...sinks.map(online)), { timeout: 30_000 }).toBeGreaterThan(10);
      const sender = sinks.findIndex((sink) => online(sink) > 0);
      const other = sinks[1 - sender];
      await sleep(1_000);
      expect(other?.metrics).toEqual([]);

      const victim = children[sender];
      victim?.kill("SIGKILL");
      await Promise.all([victim && once(victim, "exit"), other?.waitFor((sink) => online(sink as never) > 3, { timeoutMs: 30_000 })]);
      expect(other?.values("celery.worker.active", ["worker:w1_host-a"])).toContain(2);
      expect(other?.values("celery.worker.active", ["worker:w2_host-a"])).toContain(3);
    } finally {
      await Promise.all(sinks.map((sink) => sink.close()));
      await processors.close();
    }
  }, 120_000);
});

function sorted(gauges: Readonly<Record<string, number>>): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(gauges).toSorted(([one], [other]) => (one < other ? -1 : 1)));
}

function consumersIn(gauges: Readonly<Record<string, number>>): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(gauges).filter(([gauge]) => gauge.includes("consumers")));
}

it("names that become the same tag are one gauge: sums, and the oldest age", () => {
  const mapper = new GaugeMapper({ prefix: "celery.", tags: [], workerTimeoutSeconds: 300 });
  const state = {
    isOnline: true,
    heardAt: 1_000,
    silentSeconds: 0,
    heartbeatAt: 1_000,
    active: 2,
    processed: undefined,
    version: undefined,
  };
  const queues = queuesObserved({
    queues: ["Mail", "mail"].map((name, index) => ({ name, messages: index + 1, consumers: 1 })),
  });
  const waitingSince = new Map([
    ["Mail", 900],
    ["mail", 990],
  ]);
  const states = ["W1@host", "w1@host"].map((worker) => ({ ...state, worker }));
  const series = mapper.seriesOf({ states, listenedUntil: 1_000, queues, workers: undefined, waitingSince }, 1_000);
  expect(Object.fromEntries(series.map(({ name, tags, values }) => [`${name}{${tags}}`, values]))).toEqual({
    "celery.workers.up{}": [2],
    "celery.worker.online{worker:w1_host}": [1],
    "celery.worker.active{worker:w1_host}": [4],
    "celery.queue.length{queue:mail}": [3],
    "celery.queue.consumers{queue:mail}": [2],
    "celery.queue.oldest_age{queue:mail}": [100],
  });
});

const readNothing: GaugesOptions["read"] = async () => ({
  states: [],
  listenedUntil: undefined,
  queues: undefined,
  workers: undefined,
  waitingSince: new Map(),
});

it("an agent that is away is logged once, and again when it is back, even if no task ends", async () => {
  const lines: string[] = [];
  const note = (fields: { readonly reason?: string }, text: string): void => void lines.push(`${text}: ${fields.reason ?? ""}`);
  const logger = { debug: () => {}, info: note, warn: note } as unknown as GaugesOptions["logger"];
  let sent = 0;
  let isAway = true;
  const statsd = {
    send: async () => {
      sent += 1;
      if (isAway) throw new Error("nothing listens");
    },
  } as unknown as GaugesOptions["statsd"];
  const mapper = new GaugeMapper({ prefix: "celery.", tags: [], workerTimeoutSeconds: 60 });
  const gauges = new Gauges({ mapper, statsd, read: readNothing, isActive: () => true, everyMs: 5, logger });
  gauges.start();
  await expect.poll(() => sent).toBeGreaterThan(3);
  expect(lines).toEqual(["the gauges of workers and queues cannot be sent, trying again: nothing listens"]);
  isAway = false;
  await expect.poll(() => lines[1]).toBe("the gauges of workers and queues are sent again: ");
  await gauges.stop();
});
