/** An event that the database refuses is isolated, kept with its reason, and stored once the cause is fixed and it is replayed. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { isTaskEvent } from "@celery-metrics-exporter/celery";
import { readCorpus } from "@celery-metrics-exporter/celery/testing";
import { DEAD_LETTER_QUEUE, type DeadLetter } from "@celery-metrics-exporter/pipeline";
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { Pool } from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startWholePipeline, type WholePipeline } from "./whole-pipeline.ts";

const BIN = fileURLToPath(new URL("../../apps/cli/bin/celery-metrics-exporter.js", import.meta.url));
const NAME = "dead-letters";
const TIMEOUT_MS = 180_000;
const PARTS = 30;

const corpus = readCorpus("celery-5.6-redis");
const later = readCorpus("celery-5.2-redis");
const taskEvents = corpus.events.filter(isTaskEvent);
const POISON = Object.keys(corpus.expected)[50] ?? "";
const poisonous = taskEvents.filter(({ uuid }) => uuid === POISON);

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

/** Statuses of the first corpus' rows, by task id. */
async function statusesIn(pipeline: WholePipeline): Promise<Record<string, unknown>> {
  const statuses = (await pipeline.rows()).map((row) => [String(row["task_id"]), row["status"]] as const);
  return Object.fromEntries(statuses.filter(([id]) => id in corpus.expected));
}

const expectedStatuses = Object.fromEntries(Object.entries(corpus.expected).map(([id, { status }]) => [id, status]));

async function letters(): Promise<DeadLetter[]> {
  const key = `{${NAME}}:${DEAD_LETTER_QUEUE}`;
  const jobs = await redis.lrange(`${key}:wait`, 0, -1);
  const data = await Promise.all(jobs.map((job) => redis.hget(`${key}:${job}`, "data")));
  return data.map((json) => JSON.parse(json ?? "") as DeadLetter);
}

async function replay(): Promise<string> {
  const env = { PATH: process.env["PATH"], REDIS_URL: server.url, QUEUE_PREFIX: `{${NAME}}` };
  const { stdout } = await promisify(execFile)(process.execPath, [BIN, "replay"], { env });
  return stdout;
}

it(
  "a poison event is isolated and kept, the others get through, and a replay after the fix stores it",
  { timeout: 2 * TIMEOUT_MS },
  async () => {
    const pipeline = await startWholePipeline({ redisUrl: server.url, brokerUrl: server.url, name: NAME });
    const pool = new Pool({ connectionString: pipeline.databaseUrl, max: 1 });
    pool.on("error", () => {});
    try {
      await pool.query(`ALTER TABLE celery_task ADD CONSTRAINT poison CHECK (task_id <> '${POISON}')`);
      await pipeline.publish(corpus.frames);
      await pipeline.handled(corpus.events.length);
      const { [POISON]: poisonStatus, ...others } = expectedStatuses;
      expect(await statusesIn(pipeline)).toEqual(others);
      const kept = await letters();
      expect(kept.map(({ source, reason }) => `${source} ${reason}`)).toEqual(poisonous.map(() => "postgres refused"));
      expect(kept.map(({ event }) => event)).toEqual(expect.arrayContaining(poisonous));
      for (const { detail } of kept) expect(detail).toContain('violates check constraint "poison" (SQLSTATE 23514)');

      // Not fixed yet: each comes back as a new letter, once similar events have got through since.
      expect(await replay()).toBe(`${poisonous.length} replayed.\n`);
      // A few at a time, because only what gets through after a refusal proves anything.
      const size = Math.ceil(later.frames.length / PARTS);
      for (let part = 0; part < PARTS && (await letters()).length < poisonous.length; part += 1) {
        await pipeline.publish(later.frames.slice(part * size, (part + 1) * size));
        await sleep(1_000);
      }
      await expect.poll(async () => (await letters()).length, { timeout: TIMEOUT_MS }).toBe(poisonous.length);

      await pool.query("ALTER TABLE celery_task DROP CONSTRAINT poison");
      expect(await replay()).toBe(`${poisonous.length} replayed.\n`);
      await expect.poll(async () => (await statusesIn(pipeline))[POISON], { timeout: TIMEOUT_MS }).toBe(poisonStatus);
      await pipeline.handled(0);
      expect(await letters()).toEqual([]);
      expect(await statusesIn(pipeline)).toEqual(expectedStatuses);
      const row = (await pipeline.rows()).find((found) => found["task_id"] === POISON);
      const { name, queue, args, kwargs, worker } = corpus.expected[POISON] ?? {};
      expect(row).toMatchObject({ name, queue, args, kwargs, worker });
    } finally {
      await pool.end();
      await pipeline.close();
    }
  },
);
