import { connectDatabase, migrate, type Database } from "@celery-metrics-exporter/db";
import { taskSent } from "@celery-metrics-exporter/celery/testing";
import { Health, Lifecycle, Metrics, createHttpServer, createLogger, loadConfig } from "@celery-metrics-exporter/runtime";
import { startPostgres, type PostgresServer } from "@celery-metrics-exporter/testkit";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Config } from "../src/config.ts";
import { DatabaseProbe } from "../src/database-probe.ts";
import { postgres } from "../src/exporter.ts";

const logger = createLogger("test", "silent");
let server: PostgresServer;
let health: Health;

const state = (): string | undefined => health.report().components["database"];

beforeEach(async () => {
  // Durable, because a killed server must keep the migration.
  server = await startPostgres();
  health = new Health();
});
afterEach(() => server.stop());

describe("the readiness of an idle exporter", () => {
  test("follows PostgreSQL down and up again within seconds", async () => {
    await migrate(server.url);
    const metrics = new Metrics();
    const exporter = await postgres.create({
      config: loadConfig(Config, { DATABASE_URL: server.url }),
      logger,
      health,
      metrics,
      http: createHttpServer(health, metrics),
      lifecycle: new Lifecycle(logger),
      schedule: async () => {},
    });
    await exporter.start?.();
    try {
      expect(health.report()).toEqual({ ready: true, components: { database: "up" } });
      await server.kill();
      await expect.poll(state, { timeout: 3_000 }).toMatch(/PostgreSQL is unavailable: /);
      expect(health.report().ready).toBe(false);
      await server.restart();
      await expect.poll(state, { timeout: 8_000 }).toBe("up");
      await exporter.export([taskSent()], new AbortController().signal);
    } finally {
      await exporter.stop?.();
      await exporter.stop?.();
    }
  }, 60_000);
});

describe("a probe", () => {
  test("notices by itself a loss that no connection reports", () =>
    withProbe(
      () => undefined,
      async () => {
        await server.kill();
        await expect.poll(state, { timeout: 3_000 }).toMatch(/is unavailable/);
      },
    ));

  test("does not ping while batches run, and uses their success as an answer", async () => {
    let busy = true;
    await withProbe(
      () => (busy ? 100 : undefined),
      async (probe) => {
        await server.kill();
        await new Promise((resolve) => setTimeout(resolve, 300));
        expect(state()).toBe("up");
        busy = false;
        await expect.poll(state, { timeout: 3_000 }).toMatch(/is unavailable/);
        busy = true;
        probe.answered();
        expect(state()).toBe("up");
      },
    );
  });

  test("reports that batches get no answer", async () => {
    let silentMs = 4_000;
    await withProbe(
      () => silentMs,
      async (probe) => {
        await new Promise((resolve) => setTimeout(resolve, 300));
        expect(state()).toBe("up");
        silentMs = 6_000;
        await expect.poll(state, { timeout: 3_000 }).toBe("PostgreSQL has not answered for 6 s");
        probe.answered();
        expect(state()).toBe("up");
      },
    );
  });

  test("does not ping after it was stopped", () =>
    withProbe(
      () => undefined,
      async (probe) => {
        await probe.stop();
        await server.kill();
        probe.askNow();
        await new Promise((resolve) => setTimeout(resolve, 300));
        expect(state()).toBe("up");
      },
    ));
});

async function withProbe(silentMs: () => number | undefined, work: (probe: DatabaseProbe) => Promise<void>): Promise<void> {
  const database: Database = await connectDatabase({ url: server.url });
  const probe = new DatabaseProbe({ database, component: health.component("database"), logger, silentMs, intervalMs: 50 });
  try {
    await work(probe);
  } finally {
    await probe.stop();
    await database.close();
  }
}
