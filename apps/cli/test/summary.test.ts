import { connectDatabase, migrate } from "@celery-metrics-exporter/db";
import { createDatabase } from "@celery-metrics-exporter/testkit";
import { sql } from "drizzle-orm";
import { Health, Lifecycle, Metrics, createLogger, type RoleContext } from "@celery-metrics-exporter/runtime";
import { describe, expect, it, vi } from "vitest";
import { countRows } from "../src/report/count-rows.ts";
import { summaryRole } from "../src/report/summary-role.ts";
import { isNews, renderEarlyEnd, renderEnd, renderSummary, toFields, type Summary } from "../src/report/summary.ts";

const SUMMARY: Summary = {
  events: 1_260,
  taskEvents: 900,
  taskEventsPerSecond: 12.64,
  rejected: 0,
  lagSeconds: 0.32,
  lagQueue: "postgres",
  rows: new Map([
    ["FAILURE", 5],
    ["SUCCESS", 1_310],
  ]),
  sent: undefined,
  unsent: undefined,
};

describe("a summary", () => {
  it("is one line, and names what it counts", () => {
    expect(renderSummary(SUMMARY)).toBe(
      "900 task events since the start (12.6/s); table: 1,315 rows (FAILURE 5, SUCCESS 1,310); lag 0.3 s (postgres); 0 rejected",
    );
    const waiting = { rows: "many", sent: new Map([["SUCCESS", 7]]), unsent: 17, lagSeconds: 83.9, lagQueue: "datadog" } as const;
    expect(renderSummary({ ...SUMMARY, ...waiting })).toBe(
      "900 task events since the start (12.6/s); table: more than 100,000 rows; 7 tasks sent to Datadog (SUCCESS 7), about 17 waiting; lag 83.9 s (datadog); 0 rejected",
    );
    expect(renderEnd(SUMMARY, 125.7)).toBe(
      "Stopped after 2 min 5 s: 900 task events; table: 1,315 rows (FAILURE 5, SUCCESS 1,310); 0 rejected.",
    );
    expect(renderEnd({ ...SUMMARY, rows: undefined, sent: new Map(), unsent: 17 }, 7_260)).toBe(
      "Stopped after 2 h 1 min: 900 task events; 0 tasks sent to Datadog, about 17 waiting; 0 rejected.",
    );
    expect(renderEarlyEnd({ broker: "connect ECONNREFUSED 127.0.0.1:5672" }, 3)).toBe(
      "Stopped after 3 s, before everything was ready: no event was received. It waited for broker: connect ECONNREFUSED 127.0.0.1:5672.",
    );
    expect(toFields(SUMMARY)).toMatchObject({ events: 1_260, rows: { FAILURE: 5, SUCCESS: 1_310 } });
  });

  it("is news if anything except heartbeats has arrived, and while events wait", () => {
    const heartbeats = { ...SUMMARY, events: 1_300, lagSeconds: 0.1 };
    expect(isNews(SUMMARY, undefined, 10)).toBe(true);
    expect(isNews(heartbeats, SUMMARY, 10)).toBe(false);
    expect(isNews({ ...heartbeats, taskEvents: 901 }, SUMMARY, 10)).toBe(true);
    expect(isNews({ ...heartbeats, rejected: 1 }, SUMMARY, 10)).toBe(true);
    expect(isNews({ ...heartbeats, lagSeconds: 12 }, SUMMARY, 10)).toBe(true);
    expect(isNews({ ...heartbeats, rows: new Map([["SUCCESS", 1_315]]) }, SUMMARY, 10)).toBe(true);
  });

  it("counts the rows of the table, up to a limit", async () => {
    const created = await createDatabase();
    await migrate(created.url);
    // The temporary table exists for one connection.
    const database = await connectDatabase({ url: created.url, poolSize: 1 });
    try {
      expect(await countRows(database)).toEqual(new Map());
      // It is found before the real one, whose other columns do not matter here.
      await database.drizzle.execute(sql`create temporary table celery_task (status text)`);
      const insert = async (status: string, rows: number): Promise<unknown> =>
        await database.drizzle.execute(sql`insert into celery_task select ${status} from generate_series(1, ${rows}::int)`);
      await insert("SUCCESS", 3);
      await insert("FAILURE", 1);
      expect(await countRows(database)).toEqual(
        new Map([
          ["FAILURE", 1],
          ["SUCCESS", 3],
        ]),
      );
      await insert("SUCCESS", 99_996);
      expect(await countRows(database)).toHaveProperty("size", 2);
      await insert("SUCCESS", 1);
      expect(await countRows(database)).toBeUndefined();
    } finally {
      await database.close();
      await created.drop();
    }
  });
});

describe("the summary of a process", () => {
  const lines: string[] = [];
  const ends: string[] = [];
  let lifecycle: Lifecycle;
  let health: Health;
  let metrics: Metrics;
  let hasStarted = false;
  let waits: { ms: number; end: () => void }[];
  const texts = (): unknown[] => lines.map((line) => (JSON.parse(line) as { msg: unknown }).msg);

  async function startSummary(seconds: number): Promise<void> {
    lines.length = ends.length = 0;
    waits = [];
    const logger = createLogger("test", "info", { write: (line) => lines.push(line) });
    lifecycle = new Lifecycle(logger);
    health = new Health();
    metrics = new Metrics();
    hasStarted = false;
    const wait = (ms: number, signal?: AbortSignal): Promise<void> =>
      new Promise((end) => {
        waits.push({ ms, end });
        if (signal?.aborted === true) end();
        signal?.addEventListener("abort", () => end());
      });
    const role = summaryRole({
      databaseUrl: undefined,
      inWords: true,
      hasStarted: () => hasStarted,
      onEnd: (line) => ends.push(line),
      wait,
    });
    const context = { logger, metrics, health, lifecycle, http: {} as RoleContext<unknown>["http"] };
    await role.start({ ...context, config: { SUMMARY_SECONDS: seconds } });
  }

  /** Ends the current wait, and returns the length of the next one. */
  async function nextWait(): Promise<number | undefined> {
    const before = waits.length;
    waits.at(-1)?.end();
    await vi.waitFor(() => expect(waits.length).toBeGreaterThan(before), { timeout: 10_000 });
    return waits.at(-1)?.ms;
  }

  it("begins when everything is ready", async () => {
    await startSummary(7);
    const broker = health.component("broker");
    expect(await nextWait()).toBeLessThan(1_000);
    hasStarted = true;
    expect(await nextWait()).toBeLessThan(1_000);
    broker.up();
    expect(await nextWait()).toBe(7_000);
    expect(texts()).toEqual([]);
    expect(await nextWait()).toBe(7_000);
    expect(texts()).toEqual([expect.stringContaining("0 task events since the start")]);
    await lifecycle.close();
    expect(ends).toEqual(["Stopped after 0 s: 0 task events; 0 rejected."]);
  });

  it("begins when events arrive, although something is down", async () => {
    await startSummary(7);
    health.component("datadog agent").down("nobody listens");
    hasStarted = true;
    expect(await nextWait()).toBeLessThan(1_000);
    metrics
      .counter("events_received_total", "Events.", { broker: ["redis"], type: ["task-sent"] })
      .inc({ broker: "redis", type: "task-sent" });
    expect(await nextWait()).toBe(7_000);
    await lifecycle.close();
    expect(ends).toEqual(["Stopped after 0 s: 1 task events; 0 rejected."]);
  });

  it("says at the end what it waited for, if not everything was ever ready", async () => {
    await startSummary(7);
    health.component("broker").down("connect ECONNREFUSED");
    await nextWait();
    health.drain();
    await lifecycle.close();
    expect(texts()).toEqual([]);
    expect(ends).toEqual([
      "Stopped after 0 s, before everything was ready: no event was received. It waited for broker: connect ECONNREFUSED.",
    ]);
  });

  it("does not say that nothing was received if events came before it failed to start", async () => {
    await startSummary(7);
    await nextWait();
    const received = metrics.counter("events_received_total", "Events.", { broker: ["redis"], type: ["task-sent"] });
    received.inc({ broker: "redis", type: "task-sent" });
    health.drain();
    await lifecycle.close();
    expect(ends).toEqual(["Stopped after 0 s: 1 task events; 0 rejected."]);
  });

  it("is never logged with 0 seconds", async () => {
    await startSummary(0);
    hasStarted = true;
    await vi.waitFor(() => expect(waits.length).toBeGreaterThan(0), { timeout: 10_000 });
    waits.at(-1)?.end();
    await lifecycle.close();
    expect(waits.filter(({ ms }) => ms === 0)).toEqual([]);
    expect(texts()).toEqual([]);
    expect(ends).toEqual([expect.stringMatching(/^Stopped after 0 s/)]);
  });
});
