/** A database that refuses rows for a reason that is not in the events: nothing is lost, and everything is stored once the fault is gone. */
import { isTaskEvent } from "@celery-metrics-exporter/celery";
import { readCorpus } from "@celery-metrics-exporter/celery/testing";
import { encodeBatch, eventsQueueName } from "@celery-metrics-exporter/pipeline";
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { Pool } from "pg";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { startWholePipeline } from "../integration/whole-pipeline.ts";

const corpus = readCorpus("celery-5.6-redis");
const expectedStatuses = Object.fromEntries(Object.entries(corpus.expected).map(([id, { status }]) => [id, status]));
const raise = (code: string): string => `create function refuse() returns trigger language plpgsql as
  $$ begin raise exception 'refused by a trigger' using errcode = '${code}'; end $$`;

const FAULTS: readonly { readonly what: string; readonly begin: readonly string[]; readonly end: string; readonly reason: RegExp }[] = [
  {
    what: "a constraint that no row meets",
    begin: ["alter table celery_task add constraint no_rows check (task_id is null)"],
    end: "alter table celery_task drop constraint no_rows",
    reason: /nothing gets through.*no_rows.*23514/,
  },
  {
    what: "a trigger that raises an error of its own",
    begin: [raise("P0001"), "create trigger refuse before insert or update on celery_task for each row execute function refuse()"],
    end: "drop trigger refuse on celery_task",
    reason: /nothing gets through.*refused by a trigger/,
  },
  {
    what: "a corrupt index",
    begin: [raise("XX002"), "create trigger refuse before insert on celery_task for each statement execute function refuse()"],
    end: "drop trigger refuse on celery_task",
    reason: /refused by a trigger/,
  },
  {
    what: "a constraint on one status",
    begin: ["alter table celery_task add constraint none_revoked check (status <> 'REVOKED')"],
    end: "alter table celery_task drop constraint none_revoked",
    reason: /too few others of this type are accepted to prove these at fault: task-revoked.*none_revoked/,
  },
];

/** These faults begin when half of the events are stored, so that the database accepts those again. */
const MIDWAY: typeof FAULTS = [
  {
    what: "a trigger that refuses changes of rows, but no new rows",
    begin: [raise("P0001"), "create trigger refuse before update on celery_task for each row execute function refuse()"],
    end: "drop trigger refuse on celery_task",
    reason: /refused by a trigger/,
  },
  {
    what: "a trigger that refuses every change",
    begin: [raise("P0001"), "create trigger refuse after insert or update on celery_task for each row execute function refuse()"],
    end: "drop trigger refuse on celery_task",
    reason: /refused by a trigger/,
  },
  {
    what: "a unique index that allows only one of the new rows",
    begin: [
      `do $$ declare newest timestamptz; begin
        select max(received_at) into newest from celery_task;
        execute format('create unique index only_one on celery_task ((true)) where received_at > %L::timestamptz', newest);
      end $$`,
    ],
    end: "drop index only_one",
    reason: /only_one/,
  },
];
/** Long enough for several retries of held batches. */
const HELD_MS = 10_000;

let server: RedisServer;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

type Pipeline = Awaited<ReturnType<typeof startWholePipeline>>;

async function startFaulty(name: string): Promise<{ readonly pipeline: Pipeline; readonly pool: Pool }> {
  const pipeline = await startWholePipeline({
    redisUrl: server.url,
    brokerUrl: server.url,
    name,
    env: { LOG_LEVEL: "silent", PROCESSOR_MAX_TRIES: "2" },
  });
  const pool = new Pool({ connectionString: pipeline.databaseUrl, max: 1 });
  pool.on("error", () => {});
  return { pipeline, pool };
}

/** Waits until every task of the corpus has its row; no event may be a dead letter. */
async function expectWhole(pipeline: Pipeline): Promise<void> {
  await pipeline.handled(corpus.events.filter(isTaskEvent).length);
  const rows = await pipeline.rows();
  expect(Object.fromEntries(rows.map((row) => [String(row["task_id"]), row["status"]]))).toEqual(expectedStatuses);
  expect(await pipeline.deadLetters()).toBe(0);
}

// Each test waits most of the time, with its own database and prefix. Not all run at once, because a process that is too busy loses its connections.
describe("a fault that exists when events arrive", () => {
  it.concurrent.each(FAULTS.map((fault, index) => [fault.what, { ...fault, name: `systematic-${index}` }] as const))(
    "%s costs no event, and is reported",
    { timeout: 300_000 },
    async (_, { begin, end, reason, name }) => {
      const { pipeline, pool } = await startFaulty(name);
      try {
        for (const statement of begin) await pool.query(statement);
        await pipeline.publish(corpus.frames);
        const report = (): string => JSON.stringify(pipeline.running.health.report());
        await vi.waitFor(() => expect(report()).toMatch(reason), { timeout: 120_000 });
        expect(pipeline.running.health.report().ready).toBe(false);
        expect(await pipeline.deadLetters()).toBe(0);
        await pool.query(end);
        await expectWhole(pipeline);
        await vi.waitFor(() => expect(pipeline.running.health.report().ready).toBe(true), { timeout: 30_000 });
      } finally {
        await pool.end();
        await pipeline.close();
      }
    },
  );
});

describe("a fault that begins later", () => {
  it.concurrent.each(MIDWAY.map((fault, index) => [fault.what, { ...fault, name: `midway-${index}` }] as const))(
    "%s costs no event if it begins after other events of the tasks were stored",
    { timeout: 300_000 },
    async (_, { begin, end, reason, name }) => {
      const { pipeline, pool } = await startFaulty(name);
      try {
        const half = Math.floor(corpus.frames.length / 2);
        await pipeline.publish(corpus.frames.slice(0, half));
        await vi.waitUntil(async () => (await pipeline.rows()).length > 0, { timeout: 120_000 });
        await pipeline.handled(1);
        for (const statement of begin) await pool.query(statement);
        await pipeline.publish(corpus.frames.slice(half));
        const report = (): string => JSON.stringify(pipeline.running.health.report());
        await vi.waitFor(() => expect(report()).toMatch(reason), { timeout: 120_000 });
        await new Promise((resolve) => setTimeout(resolve, HELD_MS));
        expect(report()).toMatch(reason);
        expect(await pipeline.deadLetters()).toBe(0);
        await pool.query(end);
        await expectWhole(pipeline);
        await vi.waitFor(() => expect(pipeline.running.health.report().ready).toBe(true), { timeout: 30_000 });
      } finally {
        await pool.end();
        await pipeline.close();
      }
    },
  );

  it.concurrent(
    "a trigger that refuses to delete rows costs no id to forget: ids without a row prove nothing",
    { timeout: 300_000 },
    async () => {
      const name = "forgetting";
      const { pipeline, pool } = await startFaulty(name);
      const redis = new Redis(server.url, { maxRetriesPerRequest: null });
      const queue = new Queue(eventsQueueName("postgres"), { connection: redis, prefix: `{${name}}` });
      try {
        await pipeline.publish(corpus.frames);
        await pipeline.handled(corpus.events.filter(isTaskEvent).length);
        const stored = Object.keys(corpus.expected).slice(0, 8);
        // Excluded tasks have no stored `task-sent`, and rows with one are spared.
        await pool.query("update celery_task set sent_at = null");
        await pool.query(raise("P0001"));
        await pool.query("create trigger refuse before delete on celery_task for each row execute function refuse()");
        for (const [index, id] of stored.entries()) {
          const unknown = Array.from({ length: 8 }, (_, number) => `unknown-${index}-${number}`);
          const marked = [...unknown, id, `${id}-unknown`].map((task) => ({ id: task, marks: ["-s0"] }));
          await queue.add("batch", encodeBatch({ broker: "redis", events: [], marked }));
        }
        const report = (): string => JSON.stringify(pipeline.running.health.report());
        await vi.waitFor(() => expect(report()).toMatch(/refused by a trigger/), { timeout: 120_000 });
        await new Promise((resolve) => setTimeout(resolve, HELD_MS));
        expect(report()).toMatch(/id to forget.*refused by a trigger/);
        expect(await pipeline.deadLetters()).toBe(0);
        await pool.query("drop trigger refuse on celery_task");
        await pipeline.handled(0);
        const rows = new Set((await pipeline.rows()).map((row) => String(row["task_id"])));
        expect(stored.filter((id) => rows.has(id))).toEqual([]);
        expect(await pipeline.deadLetters()).toBe(0);
      } finally {
        await Promise.all([queue.close(), pool.end()]);
        redis.disconnect();
        await pipeline.close();
      }
    },
  );
});
