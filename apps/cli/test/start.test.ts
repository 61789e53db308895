import { connectDatabase } from "@celery-metrics-exporter/db";
import { startRedis, startStatsdSink } from "@celery-metrics-exporter/testkit";
import { sql } from "drizzle-orm";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { connectPublisher } from "../src/demo/event-publisher.ts";
import { simulateTask } from "../src/demo/simulated-task.ts";
import { startProgram } from "./harness.ts";

const TIMEOUT_MS = 90_000;

it(
  "runs everything in one process: events of Redis become metrics and rows of an embedded database",
  { timeout: 2 * TIMEOUT_MS },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-start-"));
    const [redis, sink] = await Promise.all([startRedis(), startStatsdSink()]);
    const args = ["start", "--broker", redis.url, "--redis", redis.url, "--dashboard-port", "0", "--dd-dogstatsd-port", String(sink.port)];
    const program = startProgram([...args, "--datadog-grace-ms", "100"], { folder });
    const publisher = await connectPublisher(redis.url);
    try {
      await vi.waitFor(() => expect(program.output()).toContain("health port open"), { timeout: TIMEOUT_MS, interval: 100 });
      expect(program.output()).toContain("DATABASE_URL is not set: using the embedded PostgreSQL");
      const dashboardUrl = /"dashboardUrl":"([^"]+)"/.exec(program.output())?.[1] ?? "";
      expect((await fetch(dashboardUrl)).status).toBe(200);
      const healthUrl = /"healthUrl":"([^"]+)"/.exec(program.output())?.[1] ?? "";
      expect((await fetch(`${healthUrl}/readyz`)).status).toBe(200);

      const tasks = Array.from({ length: 20 }, () => simulateTask(Date.now() / 1000 - 60));
      for (const { events } of tasks) await publisher.publish(events);
      const sent = (): number =>
        sink.metrics
          .filter(({ name }) => /(success|fail|revoked)_count$/.test(name))
          .reduce((sum, { values }) => sum + values.reduce((one, other) => one + other, 0), 0);
      await vi.waitFor(() => expect(sent()).toBe(20), { timeout: TIMEOUT_MS, interval: 100 });
      await vi.waitFor(async () => expect(await jobsIn(dashboardUrl, "postgres")).toBe(0), { timeout: TIMEOUT_MS, interval: 100 });

      program.signal("SIGTERM");
      expect(await program.exitCode).toBe(0);
      const database = await connectDatabase({ url: `pglite:${join(folder, ".data/pglite")}` });
      const result: unknown = await database.drizzle.execute(sql`select status, count(*)::int as tasks from celery_task group by status`);
      await database.close();
      const rows = (result as { rows: { status: string; tasks: number }[] }).rows;
      const states = tasks.reduce<Record<string, number>>((counts, { state }) => ({ ...counts, [state]: (counts[state] ?? 0) + 1 }), {});
      expect(Object.fromEntries(rows.map(({ status, tasks: count }) => [status, count]))).toEqual(states);
    } finally {
      program.signal("SIGKILL");
      await publisher.close();
      await Promise.all([redis.stop(), sink.close()]);
      rmSync(folder, { recursive: true, force: true });
    }
  },
);

/** How many jobs of a queue are not done yet, as the dashboard tells. */
async function jobsIn(dashboardUrl: string, name: string): Promise<number> {
  const { queues } = (await (await fetch(`${dashboardUrl}api/queues`)).json()) as {
    queues: { name: string; counts: Record<string, number> }[];
  };
  const { active = 0, waiting = 0, delayed = 0 } = queues.find((queue) => queue.name === name)?.counts ?? {};
  return active + waiting + delayed;
}
