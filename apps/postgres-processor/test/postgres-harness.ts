/** The exporter on its own migrated database, which can be disconnected. */
import { celeryQueueMinute, celeryTask, celeryWorker, connectDatabase, migrate } from "@celery-metrics-exporter/db";
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

/** Everything that does not depend on when it was stored. Of queues, what was observed last. */
async function readRows(url: string): Promise<unknown> {
  const database = await connectDatabase({ url, poolSize: 1 });
  try {
    const { drizzle } = database;
    const tasks = await drizzle.select().from(celeryTask).orderBy(celeryTask.taskId);
    const workers = await drizzle.select().from(celeryWorker).orderBy(celeryWorker.hostname);
    const minutes = await drizzle.select().from(celeryQueueMinute).orderBy(celeryQueueMinute.queue, celeryQueueMinute.minute);
    const queues = new Map(minutes.map(({ minute: _minute, messagesMax: _messages, unackedMax: _unacked, ...row }) => [row.queue, row]));
    return [
      // Those depend on how the events were split into batches.
      ...tasks.map(({ createdAt: _created, updatedAt: _updated, seenBefore: _before, leftOut: _leftOut, ...row }) => row),
      ...workers.map(({ firstSeenAt: _first, ...row }) => row),
      ...queues.values(),
    ];
  } finally {
    await database.close();
  }
}
