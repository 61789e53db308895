import { TimedOutError } from "@celery-metrics-exporter/runtime";
import { sql } from "drizzle-orm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectReader, type Reader } from "../../src/read/reader.ts";
import { startPooler } from "../pooler.ts";
import { useTaskTable } from "../task-table.ts";

const table = useTaskTable();
const LIMITS = { poolSize: 2, statementTimeoutMs: 500 };

describe.each(["PostgreSQL", "an embedded database"])("a reader of %s", (kind) => {
  let reader: Reader;

  beforeAll(async () => {
    reader = await connectReader({ url: kind === "PostgreSQL" ? table.url : "pglite:memory", ...LIMITS });
  });
  afterAll(() => reader.close());

  it("reads, in UTC", async () => {
    expect(
      await reader.read(sql`select ${"x"}::text as x, current_setting('TimeZone') as zone, count(*)::int as n from celery_task`),
    ).toEqual([{ x: "x", zone: "UTC", n: 0 }]);
  });

  it("cannot write", async () => {
    await expect(reader.read(sql`delete from celery_task`)).rejects.toThrow("read-only transaction");
    expect(await reader.read(sql`select 1 as one`)).toEqual([{ one: 1 }]);
  });

  it("does not read the whole table where an index serves", async () => {
    const rows = await reader.read<{ "QUERY PLAN": string }>(sql`explain select * from celery_task where seen_at > now()`);
    expect(rows.map((row) => row["QUERY PLAN"]).join("\n")).toContain("celery_task_seen_at_idx");
  });
});

it("gives up after the limit, or after a shorter one, and reads on", async () => {
  const reader = await connectReader({ url: table.url, ...LIMITS });
  try {
    await expect(reader.read(sql`select pg_sleep(10)`)).rejects.toThrow(TimedOutError);
    await expect(reader.read(sql`select pg_sleep(0.4)`, 100)).rejects.toThrow(TimedOutError);
    const [row] = await reader.read<{ limit: string }>(sql`select current_setting('statement_timeout') as limit`, 9_999);
    expect(Number.parseInt(row?.limit ?? "")).toBeLessThanOrEqual(500);
  } finally {
    await reader.close();
  }
});

it("counts the wait for a free connection", async () => {
  const reader = await connectReader({ url: table.url, poolSize: 1, statementTimeoutMs: 1_000 });
  try {
    const [first, second, third] = await Promise.allSettled([
      reader.read(sql`select pg_sleep(0.7)`),
      reader.read(sql`select pg_sleep(0.7)`),
      reader.read(sql`select 1`, 200),
    ]);
    expect(first.status).toBe("fulfilled");
    expect(second).toMatchObject({ reason: expect.any(TimedOutError) });
    expect(third).toMatchObject({ reason: expect.any(TimedOutError) });
    expect(await reader.read(sql`select 1 as one`), "given back, though it came too late").toEqual([{ one: 1 }]);
  } finally {
    await reader.close();
  }
});

it("has at most as many connections as it may", async () => {
  const reader = await connectReader({ url: table.url, poolSize: 2, statementTimeoutMs: 10_000, applicationName: "counted" });
  try {
    const sleeping = Array.from({ length: 5 }, () => reader.read(sql`select pg_sleep(0.1)`));
    await Promise.all(sleeping);
    const [row] = await reader.read<{ n: number }>(sql`select count(*)::int as n from pg_stat_activity where application_name = 'counted'`);
    expect(row?.n).toBe(2);
  } finally {
    await reader.close();
  }
});

it("works behind a connection pooler, and leaves nothing on its sessions", async () => {
  const pooler = await startPooler(table.url);
  const reader = await connectReader({ url: pooler.url, ...LIMITS });
  await expect(reader.read(sql`select pg_sleep(10)`)).rejects.toThrow(TimedOutError);
  expect(await reader.read(sql`select 1 as one`)).toEqual([{ one: 1 }]);
  await reader.close();
  expect(new Set(await pooler.ask("select current_setting('statement_timeout') || current_setting('enable_seqscan')"))).toEqual(
    new Set(["0on"]),
  );
  pooler.stop();
});
