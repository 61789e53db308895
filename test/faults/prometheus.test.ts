/** The Prometheus exporter behind real brokers: what Celery once sent is counted exactly although processors are killed, and killed workers are shown as down. */
import { readCorpus } from "@celery-metrics-exporter/celery/testing";
import {
  createVhost,
  freePort,
  seededRandom,
  shuffled,
  startCeleryWorker,
  startRedis,
  byTask,
  parseScrape,
  type Scrape,
} from "@celery-metrics-exporter/testkit";
import { readFileSync } from "node:fs";
import { afterEach, expect, it } from "vitest";
import { Fleet } from "../fleet/fleet.ts";
import { sumOf } from "../fleet/own-metrics.ts";
import type { Environment } from "../fleet/role-process.ts";
import { publishesFrames } from "../integration/whole-pipeline.ts";
import { Queues } from "./queues.ts";

const RECORDINGS = ["celery-5.2-redis", "celery-5.2-amqp", "celery-5.6-redis", "celery-5.6-amqp", "celery-5.6-amqp-msgpack"] as const;
const PROCESSOR = "prometheus-processor";
const EVENTS = "prometheus";
const KILLS = 2;
const SEED = 16;
const PATIENCE = { timeout: 60_000, interval: 200 };

/** Two tasks of this name were sent during one recording and started during the next, so only here is it known how long they waited after their ETA. */
const ACROSS = {
  task: "shop.slow|celery",
  waits: [1795328932.5589538 - 1795328880.006105, 1795328957.2745042 - 1795328957.27073],
} as const;

type Numbers = Readonly<Record<string, number>>;

const releases: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

interface Scene {
  readonly fleet: Fleet;
  readonly brokers: { readonly redis: string; readonly amqp: string };
  readonly queues: Queues;
  readonly addProcessor: () => Promise<unknown>;
  /** What the active processor shows. */
  readonly scrape: () => Promise<Scrape>;
}

/** A receiver for each broker. */
async function start(env: Environment): Promise<Scene> {
  const [redis, broker, vhost] = await Promise.all([startRedis(), startRedis(), createVhost()]);
  releases.push(
    () => redis.stop(),
    () => broker.stop(),
    () => vhost.drop(),
  );
  const brokers = { redis: broker.url, amqp: vhost.url };
  const fleet = await Fleet.start({ env: { REDIS_URL: redis.url, EXPORTERS: "prometheus", ...env }, processes: {} });
  releases.push(() => fleet.stop());
  const queues = new Queues(redis.url);
  releases.push(() => queues.close());
  const ports: number[] = [];
  const addProcessor = async (): Promise<unknown> => {
    const port = await freePort();
    ports.push(port);
    return fleet.add(PROCESSOR, { PROMETHEUS_PORT: String(port) });
  };
  await Promise.all([...Object.values(brokers).map((url) => fleet.add("receiver", { CELERY_BROKER_URL: url })), addProcessor()]);
  await fleet.whenReady();
  return {
    fleet,
    brokers,
    queues,
    addProcessor,
    scrape: async () => {
      const texts = await Promise.all(
        ports.map((port) =>
          fetch(`http://127.0.0.1:${port}/metrics`)
            .then((answer) => answer.text())
            .catch(() => ""),
        ),
      );
      return parseScrape(texts.toSorted((one, other) => other.length - one.length)[0] ?? "");
    },
  };
}

/** What all recordings together must show, by metric. */
function expected(): ReadonlyMap<string, Numbers> {
  const sums = new Map<string, Record<string, number>>();
  for (const name of RECORDINGS) {
    const text = readFileSync(new URL(`../fixtures/corpus/${name}.prom.json`, import.meta.url), "utf8");
    for (const [metric, values] of Object.entries(JSON.parse(text) as Record<string, Numbers>)) {
      const sum = sums.get(metric) ?? {};
      for (const [key, value] of Object.entries(values)) if (value !== 0) sum[key] = (sum[key] ?? 0) + value;
      sums.set(metric, sum);
    }
  }
  const ofWaits = (suffix: string): Record<string, number> => sums.get(`celery_task_queue_wait_time_${suffix}`) ?? {};
  const [buckets, counts, seconds] = [ofWaits("bucket"), ofWaits("count"), ofWaits("sum")];
  for (const wait of ACROSS.waits) {
    counts[ACROSS.task] = (counts[ACROSS.task] ?? 0) + 1;
    seconds[ACROSS.task] = (seconds[ACROSS.task] ?? 0) + wait;
    for (const key of Object.keys(buckets)) {
      if (key.startsWith(`${ACROSS.task}|`) && wait <= Number(key.split("|")[2])) buckets[key] = (buckets[key] ?? 0) + 1;
    }
  }
  return sums;
}

/** Sums of seconds, which are added up in whole microseconds. */
function rounded(values: Numbers): Numbers {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, Number(value.toFixed(3))]));
}

it("counts the recordings exactly, shuffled and repeated, through both brokers, while processors are killed", async () => {
  const { fleet, brokers, queues, addProcessor, scrape } = await start({
    PROMETHEUS_INCOMPLETE_WAIT_MS: "5000",
    BATCH_MAX_EVENTS: "100",
  });
  await addProcessor();
  const publishers = { redis: await publishesFrames(brokers.redis, "celeryev"), amqp: await publishesFrames(brokers.amqp, "celeryev") };
  releases.push(() => Promise.all(Object.values(publishers).map((publisher) => publisher.close())));
  const corpora = RECORDINGS.map(readCorpus);
  const frames = shuffled(
    corpora.flatMap((corpus) => [...corpus.frames, ...corpus.frames]),
    seededRandom(SEED),
  );
  for (let kill = 0; kill <= KILLS; kill += 1) {
    const part = frames.slice((kill * frames.length) / (KILLS + 1), ((kill + 1) * frames.length) / (KILLS + 1));
    for (const transport of ["redis", "amqp"] as const)
      await publishers[transport].publish(part.filter((frame) => frame.transport === transport));
    if (kill === KILLS) break;
    await expect.poll(() => queues.active(EVENTS), { ...PATIENCE, interval: 1 }).not.toEqual([]);
    await fleet.kill(PROCESSOR);
    // Also of a job on which the other processor works: then both do.
    await queues.expireLocks(EVENTS);
    await addProcessor();
  }
  const events = corpora.reduce(
    (sum, corpus) => sum + corpus.frames.reduce((count, frame) => count + corpus.decode(frame).events.length, 0),
    0,
  );
  await expect.poll(() => sumOf(fleet.processes("receiver"), "events_received_total"), PATIENCE).toBe(2 * events);
  // Without a scrape before: what was shown too early, because a batch was late, stays until it is caught up.
  await expect.poll(async () => Object.values(await queues.held()).reduce((sum, jobs) => sum + jobs), PATIENCE).toBe(0);
  expect(await queues.deadLetters()).toBe(0);
  const shown = byTask(await scrape());
  for (const [metric, values] of expected()) expect(rounded(shown[metric] ?? {}), metric).toEqual(rounded(values));
});

it("shows killed workers of every pool, on both brokers, as down, and later not at all", async () => {
  const { brokers, scrape } = await start({ PROMETHEUS_WORKER_TIMEOUT_SECONDS: "5", PROMETHEUS_WORKER_PURGE_SECONDS: "20" });
  const workers = await Promise.all(
    Object.entries(brokers).flatMap(([broker, brokerUrl]) =>
      (["prefork", "threads", "solo"] as const).map((pool) =>
        startCeleryWorker({ brokerUrl, pool, app: "inspected", queues: ["mail"], hostname: `${broker}-${pool}@host` }),
      ),
    ),
  );
  releases.push(() => Promise.all(workers.map((worker) => worker.kill())));
  const up = async (): Promise<(number | undefined)[]> => {
    const series = await scrape();
    return workers.map(({ hostname }) => series.get(`celery_worker_up{hostname="host",worker="${hostname}"}`));
  };
  const all = (value: number | undefined): unknown[] => workers.map(() => value);
  await expect.poll(up, PATIENCE).toEqual(all(1));
  const killedAt = Date.now();
  await Promise.all(workers.map((worker) => worker.kill()));
  expect(await up()).toEqual(all(1));
  await expect.poll(up, PATIENCE).toEqual(all(0));
  expect(Date.now() - killedAt).toBeGreaterThan(2_500);
  await expect.poll(up, PATIENCE).toEqual(all(undefined));
});
