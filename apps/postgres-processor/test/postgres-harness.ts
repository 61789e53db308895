/** The exporter on its own migrated database, which can be disconnected. */
import { celeryTask, connectDatabase, migrate } from "@celery-metrics-exporter/db";
import { createTestExporter, startMortal, type ExporterHarness } from "@celery-metrics-exporter/pipeline/testing";
import type { Environment } from "@celery-metrics-exporter/runtime";
import { MortalLink, TcpProxy, createDatabase, setPostgresReadOnly } from "@celery-metrics-exporter/testkit";
import { postgres } from "../src/exporter.ts";

export interface PostgresHarness extends Required<Omit<ExporterHarness, "hasAll">> {
  /** The direct connection. */
  readonly url: string;
  /** The connection that `breakSink` closes. */
  readonly breakableUrl: string;
}

export async function createPostgresHarness(env: Environment = {}): Promise<PostgresHarness> {
  const database = await createDatabase();
  await migrate(database.url);
  const proxy = await TcpProxy.start(Number(new URL(database.url).port));
  const url = proxy.inFrontOf(database.url);
  const created = await createTestExporter(postgres, { DATABASE_URL: url, ...env });
  return {
    exporter: created.exporter,
    url: database.url,
    breakableUrl: url,
    observe: () => readRows(database.url),
    refuseWrites: () => setPostgresReadOnly(database.url, true),
    allowWrites: () => setPostgresReadOnly(database.url, false),
    mortal: async () => {
      const link = await MortalLink.start(Number(new URL(database.url).port), "postgres");
      return startMortal(await createTestExporter(postgres, { DATABASE_URL: link.inFrontOf(database.url), ...env }), link);
    },
    breakSink: () => proxy.stop(),
    mendSink: () => proxy.restart(),
    close: async () => {
      await created.close();
      await proxy.stop();
      await database.drop();
    },
  };
}

async function readRows(url: string): Promise<unknown> {
  const database = await connectDatabase({ url, poolSize: 1 });
  try {
    const rows = await database.drizzle.select().from(celeryTask).orderBy(celeryTask.taskId);
    // The others depend on how the events were split into batches.
    return rows.map(({ createdAt: _created, updatedAt: _updated, seenBefore: _before, leftOut: _leftOut, ...row }) => row);
  } finally {
    await database.close();
  }
}
