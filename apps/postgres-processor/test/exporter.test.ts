import { connectDatabase, migrate } from "@celery-metrics-exporter/db";
import { SENT_AT, queuesObserved, taskReceived, taskSent, workerHeartbeat, workersObserved } from "@celery-metrics-exporter/celery/testing";

import { createTestExporter } from "@celery-metrics-exporter/pipeline/testing";
import { PermanentError, TimedOutError, UnavailableError, loadConfig, pause, redactConfig } from "@celery-metrics-exporter/runtime";
import { createDatabase } from "@celery-metrics-exporter/testkit";
import { afterEach, describe, expect, test } from "vitest";
import { Config } from "../src/config.ts";
import { postgres } from "../src/exporter.ts";
import { createPostgresHarness } from "./postgres-harness.ts";

const releases: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

async function startWith(url: string): Promise<Error> {
  const created = await createTestExporter(postgres, { DATABASE_URL: url, STARTUP_TIMEOUT_SECONDS: "1" });
  releases.push(() => created.close());
  return (created.exporter.start?.() ?? Promise.resolve()).then(
    () => new Error("nothing was thrown"),
    (thrown: unknown) => thrown as Error,
  );
}

describe("the start", () => {
  test("says that there is no server, without the password", async () => {
    const error = await startWith("postgres://someone:hunter2@127.0.0.1:9/celery");
    expect(error).toBeInstanceOf(UnavailableError);
    expect(error.message).toMatch(/Cannot use PostgreSQL at .*127\.0\.0\.1:9\/celery.*ECONNREFUSED.*Start it, or set DATABASE_URL/);
    expect(error.message).not.toContain("hunter2");
  });

  test("says that the database is not migrated, and how to", async () => {
    const created = await createDatabase();
    releases.push(() => created.drop());
    const error = await startWith(created.url);
    expect(error).toBeInstanceOf(UnavailableError);
    expect(error.message).toMatch(/not migrated.*pnpm drizzle-kit migrate/);
    await migrate(created.url);
    expect((await startWith(created.url)).message).toBe("nothing was thrown");
  });

  test("needs nothing else for an embedded database", async () => {
    expect((await startWith("pglite:memory")).message).toBe("nothing was thrown");
  }, 120_000);
});

describe("export", () => {
  test("reports faulty data, so that the host finds the event, and stores nothing of the batch", async () => {
    const harness = await createPostgresHarness();
    releases.push(() => harness.close());
    await harness.exporter.start?.();
    const bad = taskReceived({ uuid: "bad", retries: 2 ** 40 });
    const batch = harness.exporter.export([taskSent(), bad], new AbortController().signal);
    await expect(batch).rejects.toBeInstanceOf(PermanentError);
    await expect(batch).rejects.toThrow(/22003/);
    expect(await harness.observe()).toEqual([]);
    await harness.exporter.export([taskSent()], new AbortController().signal);
    expect(await harness.observe()).toHaveLength(1);
  });

  test("reports a missing table as an outage, not as bad data", async () => {
    const harness = await createPostgresHarness();
    releases.push(() => harness.close());
    await harness.exporter.start?.();
    await dropTable(harness.url);
    const error = await harness.exporter.export([taskSent()], new AbortController().signal).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UnavailableError);
    expect(String(error)).toContain("not migrated");
  });

  test("does not wait for a locked table once aborted", async () => {
    const harness = await createPostgresHarness();
    releases.push(() => harness.close());
    await harness.exporter.start?.();
    const release = await lockTable(harness.url);
    try {
      const abort = new AbortController();
      const waiting = harness.exporter.export([taskSent()], abort.signal);
      setTimeout(() => abort.abort(), 200);
      await expect(waiting).rejects.toThrow(/abort/i);
    } finally {
      await release();
    }
  });

  test("reports that a statement took too long, such as one that waits for a lock", async () => {
    const harness = await createPostgresHarness({ POSTGRES_STATEMENT_TIMEOUT_MS: "300" });
    releases.push(() => harness.close());
    await harness.exporter.start?.();
    const release = await lockTable(harness.url);
    await expect(harness.exporter.export([taskSent()], new AbortController().signal)).rejects.toBeInstanceOf(TimedOutError);
    await release();
    await harness.exporter.export([taskSent()], new AbortController().signal);
    expect(await harness.observe()).toHaveLength(1);
  });
});

describe("workers and queues", () => {
  test("are stored: a worker was heard when the receiver got its event", async () => {
    const harness = await createPostgresHarness();
    releases.push(() => harness.close());
    const { exporter } = harness;
    const { signal } = new AbortController();
    await exporter.start?.();
    await exporter.export([taskSent(), workerHeartbeat({ timestamp: SENT_AT })], signal, { receivedAt: SENT_AT + 1 });
    await exporter.observe?.([workersObserved(), queuesObserved()], signal);
    expect(await harness.observe()).toMatchObject([
      { status: "PENDING" },
      { hostname: "w1@host-a", heardAt: expect.stringContaining(":21.25") as string, active: 0, concurrency: 4, queues: ["celery"] },
      { hostname: "w2@host-b", heardAt: null },
      { queue: "", unacked: 8 },
      { queue: "celery", messages: 12 },
      { queue: "mail", messages: 0 },
    ]);
  });

  test("are bad data if a value cannot be stored, and then nothing of the workers is stored", async () => {
    const harness = await createPostgresHarness();
    releases.push(() => harness.close());
    await harness.exporter.start?.();
    const events = [workerHeartbeat(), workerHeartbeat({ hostname: "w2@host-b", pid: 2 ** 40 })];
    await expect(harness.exporter.export(events, new AbortController().signal)).rejects.toBeInstanceOf(PermanentError);
    expect(await harness.observe()).toEqual([]);
  });
});

describe("the settings", () => {
  test.each(["postgres://u:p@h/d", "postgresql://h/d?sslmode=require", "pglite:memory", "pglite:./.data/pglite"])("take %s", (url) => {
    expect(loadConfig(Config, { DATABASE_URL: url })).toMatchObject({ DATABASE_URL: url, POSTGRES_RETENTION_DAYS: 0 });
  });

  test.each([
    ["is missing", {}, /DATABASE_URL: is required/],
    ["is of another database", { DATABASE_URL: "mysql://root:hunter2@h/d" }, /DATABASE_URL: must be a URL that starts with postgres:\/\//],
    [
      "cannot be read",
      { DATABASE_URL: "postgres://u:hunter2/x@h/d", POSTGRES_POOL_SIZE: "0" },
      /DATABASE_URL: .*%2F.*\n.*POSTGRES_POOL_SIZE/,
    ],
    ["asks for no connection at all", { DATABASE_URL: "pglite:memory", POSTGRES_POOL_SIZE: "0" }, /POSTGRES_POOL_SIZE: must be at least 1/],
  ])("refuse what %s, without showing a password", (_what, env, message) => {
    expect(() => loadConfig(Config, env)).toThrow(message);
    expect(() => loadConfig(Config, env)).not.toThrow(/hunter2/);
  });

  test("are printed without the password", () => {
    const config = loadConfig(Config, { DATABASE_URL: "postgres://u:hunter2@h/d" });
    expect(redactConfig(Config, config)).toMatchObject({ DATABASE_URL: "postgres://***@h/d" });
  });
});

async function dropTable(url: string): Promise<void> {
  const database = await connectDatabase({ url });
  await database.drizzle.execute("drop table celery_task");
  await database.close();
}

/** Locks the whole table until the returned function is called. */
async function lockTable(url: string): Promise<() => Promise<void>> {
  const database = await connectDatabase({ url });
  const released = new AbortController();
  let finished = Promise.resolve();
  await new Promise<void>((resolve, reject) => {
    finished = database.drizzle.transaction(async (open) => {
      await open.execute("lock table celery_task in access exclusive mode");
      resolve();
      await pause(60_000, released.signal);
    });
    finished.catch(reject);
  });
  return async () => {
    released.abort();
    await finished;
    await database.close();
  };
}
