/** The Prometheus exporter behind real brokers: each recording of real Celery is counted exactly, in any order, although the active processor is killed at work. */
import { corpusNames, readCorpus, type CorpusFrame } from "@celery-metrics-exporter/celery/testing";
import {
  byTask,
  createVhost,
  freePort,
  parseScrape,
  seededRandom,
  shuffled,
  startRedis,
  type RedisServer,
  type TestVhost,
} from "@celery-metrics-exporter/testkit";
import { existsSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, it } from "vitest";
import { Fleet } from "../fleet/fleet.ts";
import { sumOf } from "../fleet/own-metrics.ts";
import { publishesFrames } from "../integration/whole-pipeline.ts";
import { Queues } from "./queues.ts";

const PROCESSOR = "prometheus-processor";
const EVENTS = "prometheus";
const SEED = 16;
/** The processor is killed during the first part of a recording, or a later one if it was too fast to be seen at work. */
const PARTS = 6;
const LOOKING_MS = 3_000;
const PATIENCE = { timeout: 90_000, interval: 200 };

type Numbers = Readonly<Record<string, number>>;

interface Mode {
  readonly frames: (frames: readonly CorpusFrame[]) => readonly CorpusFrame[];
  /** In one batch. */
  readonly events: number;
}

const MODES: Readonly<Record<string, Mode>> = {
  "in order": { frames: (frames) => frames, events: 20 },
  shuffled: { frames: (frames) => shuffled(frames, seededRandom(SEED)), events: 20 },
  split: { frames: (frames) => frames, events: 2 },
  doubled: { frames: (frames) => [...frames, ...frames], events: 20 },
};

const fixtureOf = (name: string): URL => new URL(`../fixtures/corpus/${name}.prom.json`, import.meta.url);
const RECORDINGS = corpusNames.filter((name) => existsSync(fixtureOf(name)));

let redis: RedisServer;
let redisBroker: RedisServer;
let vhost: TestVhost;
beforeAll(async () => {
  [redis, redisBroker, vhost] = await Promise.all([startRedis(), startRedis(), createVhost()]);
});
afterAll(() => Promise.all([redis?.stop(), redisBroker?.stop(), vhost?.drop()]));

/** Sums of seconds are added up in whole microseconds. */
function rounded(values: Numbers = {}): Numbers {
  return Object.fromEntries(
    Object.entries(values)
      .filter(([, value]) => value !== 0)
      .map(([key, value]) => [key, Number(value.toFixed(3))]),
  );
}

describe.concurrent.each(RECORDINGS)("%s", (name) => {
  it.for(Object.entries(MODES))(
    "is counted exactly %s, although the processor is killed at work",
    async ([how, mode], { expect, onTestFinished }) => {
      const id = `${name}-${how.replaceAll(" ", "-")}`;
      const corpus = readCorpus(name);
      const frames = mode.frames(corpus.frames);
      const brokerUrl = frames[0]?.transport === "redis" ? redisBroker.url : vhost.url;
      const port = await freePort();
      // The receiver waits for its exchange.
      const publisher = await publishesFrames(brokerUrl, id);
      onTestFinished(() => publisher.close());
      const fleet = await Fleet.start({
        env: {
          REDIS_URL: redis.url,
          CELERY_BROKER_URL: brokerUrl,
          EVENT_EXCHANGE: id,
          RABBITMQ_QUEUE: id,
          QUEUE_PREFIX: `{${id}}`,
          EXPORTERS: "prometheus",
          BATCH_MAX_EVENTS: String(mode.events),
          PROMETHEUS_INCOMPLETE_WAIT_MS: "2000",
          PROMETHEUS_PORT: String(port),
          // One job at a time, so that there is always one to be killed.
          PROCESSOR_CONCURRENCY: "1",
        },
        processes: { receiver: 1, [PROCESSOR]: 1 },
      });
      onTestFinished(async () => void (await fleet.stop()));
      const queues = new Queues(redis.url, `{${id}}`);
      onTestFinished(() => queues.close());
      const size = Math.ceil(frames.length / PARTS);
      let published = 0;
      for (let isKilled = false; !isKilled; published += size) {
        expect(published, "it was seen at work").toBeLessThan(frames.length);
        const killing = killAtWork(fleet, queues);
        await publisher.publish(frames.slice(published, published + size));
        isKilled = await killing;
      }
      await fleet.add(PROCESSOR);
      await publisher.publish(frames.slice(published));

      const events = frames.reduce((sum, frame) => sum + corpus.decode(frame).events.length, 0);
      await expect.poll(() => sumOf(fleet.processes("receiver"), "events_received_total"), PATIENCE).toBe(events);
      await expect.poll(async () => Object.values(await queues.held()).reduce((sum, jobs) => sum + jobs, 0), PATIENCE).toBe(0);
      expect(await queues.deadLetters()).toBe(0);
      // Not before: what was shown too early, because a batch was late, stays until it is caught up.
      await expect.poll(() => scrape(port), PATIENCE).toContain("celery_task_sent_total");
      const shown = byTask(parseScrape(await scrape(port)));
      for (const [metric, values] of Object.entries(JSON.parse(readFileSync(fixtureOf(name), "utf8")) as Record<string, Numbers>))
        expect(rounded(shown[metric]), metric).toEqual(rounded(values));
    },
  );
});

/** Kills the processor while it works on a job, whose lock expires at once. Resolves with whether it was seen at work in time. */
async function killAtWork(fleet: Fleet, queues: Queues): Promise<boolean> {
  const [processor] = fleet.processes(PROCESSOR);
  for (const until = Date.now() + LOOKING_MS; Date.now() < until;) {
    if ((await queues.active(EVENTS)).length === 0) continue;
    processor?.child.kill("SIGSTOP");
    if ((await queues.active(EVENTS)).length > 0) {
      await fleet.kill(PROCESSOR);
      await queues.expireLocks(EVENTS);
      return true;
    }
    processor?.child.kill("SIGCONT");
  }
  return false;
}

async function scrape(port: number): Promise<string> {
  return (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
}
