/** A database that refuses every row, for whatever reason: nothing is lost, and all of it is stored once the fault is gone. */
import { isTaskEvent } from "@celery-metrics-exporter/events";
import { readCorpus } from "@celery-metrics-exporter/events/testing";
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { Pool } from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startWholePipeline } from "./whole-pipeline.ts";

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
];

let server: RedisServer;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

it.each(FAULTS.map((fault, index) => [fault.what, { ...fault, name: `systematic-${index}` }] as const))(
  "%s costs no event, and is reported",
  { timeout: 180_000 },
  async (_, { begin, end, reason, name }) => {
    const pipeline = await startWholePipeline({
      redisUrl: server.url,
      brokerUrl: server.url,
      name,
      env: { LOG_LEVEL: "silent", PROCESSOR_MAX_TRIES: "2" },
    });
    const pool = new Pool({ connectionString: pipeline.databaseUrl, max: 1 });
    pool.on("error", () => {});
    try {
      for (const statement of begin) await pool.query(statement);
      await pipeline.publish(corpus.frames);
      const report = (): string => JSON.stringify(pipeline.running.health.report());
      await expect.poll(report, { timeout: 20_000 }).toMatch(reason);
      expect(pipeline.running.health.report().ready).toBe(false);
      expect(await pipeline.deadLetters()).toBe(0);
      await pool.query(end);
      await pipeline.settled(corpus.events.filter(isTaskEvent).length);
      const rows = await pipeline.rows();
      expect(Object.fromEntries(rows.map((row) => [String(row["task_id"]), row["status"]]))).toEqual(expectedStatuses);
      expect(await pipeline.deadLetters()).toBe(0);
      await expect.poll(() => pipeline.running.health.report().ready, { timeout: 10_000 }).toBe(true);
    } finally {
      await pool.end();
      await pipeline.close();
    }
  },
);
