/** The real PostgreSQL and the real Store accept everything that the decoder accepts: events of mutated frames through both exporters. */
import { isTaskEvent, type CeleryEvent } from "@celery-metrics-exporter/celery";
import { Fuzzer } from "@celery-metrics-exporter/celery/testing";
import { migrate } from "@celery-metrics-exporter/db";
import { EXPORTERS } from "@celery-metrics-exporter/pipeline";
import { createTestExporter } from "@celery-metrics-exporter/pipeline/testing";
import { createDatabase, startRedis, startStatsdSink } from "@celery-metrics-exporter/testkit";
import { datadog } from "datadog-processor";
import { Pool } from "pg";
import { postgres } from "postgres-processor";
import { expect, it } from "vitest";

const SEED = 20_261_122;
const FRAMES = 4_000;
const BATCH = 250;

function accepted(): CeleryEvent[] {
  const fuzzer = new Fuzzer(SEED);
  const events: CeleryEvent[] = [];
  while (fuzzer.tally.frames < FRAMES) events.push(...fuzzer.next());
  return events;
}

const events = accepted();

async function exportAll(name: string, send: (batch: readonly CeleryEvent[]) => Promise<void>): Promise<void> {
  const takes: readonly string[] = EXPORTERS.find((exporter) => exporter.name === name)?.takes ?? [];
  const taken = events.filter(({ type }) => takes.includes(type));
  expect(taken.length).toBeGreaterThan(1_000);
  for (let from = 0; from < taken.length; from += BATCH) await send(taken.slice(from, from + BATCH));
}

it("PostgreSQL stores every accepted event of 4,000 mutated frames, and refuses none", async () => {
  const database = await createDatabase();
  await migrate(database.url);
  const harness = await createTestExporter(postgres, { DATABASE_URL: database.url });
  const pool = new Pool({ connectionString: database.url, max: 1 });
  pool.on("error", () => {});
  try {
    await harness.exporter.start?.();
    await exportAll("postgres", (batch) => harness.exporter.export(batch, new AbortController().signal));
    const { rows } = await pool.query<{ tasks: number }>("select count(*)::int as tasks from celery_task");
    expect(rows[0]?.tasks).toBe(new Set(events.filter(isTaskEvent).map(({ uuid }) => uuid)).size);
  } finally {
    await pool.end();
    await harness.close();
    await database.drop();
  }
});

it("the Store stores every accepted event of 4,000 mutated frames, and its metrics are valid for an agent", async () => {
  const [redis, sink] = await Promise.all([startRedis(), startStatsdSink()]);
  const env = { REDIS_URL: redis.url, DD_DOGSTATSD_PORT: String(sink.port), DATADOG_GRACE_MS: "50", DATADOG_INCOMPLETE_WAIT_MS: "100" };
  const harness = await createTestExporter(datadog, env);
  try {
    await harness.exporter.start?.();
    await exportAll("datadog", (batch) => harness.exporter.export(batch, new AbortController().signal));
    await harness.idle();
    await expect.poll(() => sink.metrics.length, { timeout: 30_000 }).toBeGreaterThan(10);
    expect(sink.errors).toEqual([]);
  } finally {
    await harness.close();
    await Promise.all([redis.stop(), sink.close()]);
  }
});
