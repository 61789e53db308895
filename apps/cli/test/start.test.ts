import { taskFailed, taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { connectPublisher, startRedis, startStatsdSink, toFrames, type WireEvent } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { WITHOUT_AGENT, runProgram, startProgram } from "./harness.ts";

const TIMEOUT_MS = 90_000;

/** The events of a task that ended a minute ago. */
function lifeOf(state: "SUCCESS" | "FAILURE"): { readonly state: string; readonly events: readonly WireEvent[] } {
  const sentAt = Date.now() / 1_000 - 60;
  const at = (seconds: number): { uuid: string; timestamp: number } => ({ uuid, timestamp: sentAt + seconds });
  const uuid = randomUUID();
  const end = state === "SUCCESS" ? taskSucceeded(at(0.3)) : taskFailed(at(0.3));
  return { state, events: [taskSent(at(0)), taskReceived(at(0.1)), taskStarted(at(0.2)), end] as unknown as readonly WireEvent[] };
}

it(
  "runs everything in one process: events of Redis become metrics, for a scrape too, and rows of an embedded database",
  { timeout: 2 * TIMEOUT_MS },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-start-"));
    const [redis, sink] = await Promise.all([startRedis(), startStatsdSink()]);
    const args = ["start", "--broker", redis.url, "--redis", redis.url, "--dashboard-port", "0", "--web-port", "0"];
    const program = startProgram(
      [...args, "--prometheus-port", "0", "--dd-dogstatsd-port", String(sink.port), "--datadog-grace-ms", "100"],
      { folder },
    );
    const publisher = await connectPublisher(redis.url);
    try {
      await vi.waitFor(() => expect(program.output()).toContain("health port open"), { timeout: TIMEOUT_MS, interval: 100 });
      expect(program.output()).toContain("DATABASE_URL is not set: creating an embedded PostgreSQL");
      const dashboardUrl = /"dashboardUrl":"([^"]+)"/.exec(program.output())?.[1] ?? "";
      expect((await fetch(dashboardUrl)).status).toBe(200);
      const webUrl = /"webUrl":"([^"]+)"/.exec(program.output())?.[1] ?? "";
      expect(await (await fetch(`${webUrl}/api/v1/tasks`)).json()).toEqual({
        items: [],
        next: null,
        searched_to: expect.any(String) as string,
      });
      const healthUrl = /"healthUrl":"([^"]+)"/.exec(program.output())?.[1] ?? "";
      expect((await fetch(`${healthUrl}/readyz`)).status).toBe(200);

      const tasks = Array.from({ length: 20 }, (_, index) => lifeOf(index % 4 === 0 ? "FAILURE" : "SUCCESS"));
      for (const { events } of tasks) await publisher.publish(toFrames(events));
      const sent = (): number =>
        sink.metrics
          .filter(({ name }) => /(success|fail|revoked)_count$/.test(name))
          .reduce((sum, { values }) => sum + values.reduce((one, other) => one + other, 0), 0);
      await vi.waitFor(() => expect(sent()).toBe(20), { timeout: TIMEOUT_MS, interval: 100 });
      await vi.waitFor(async () => expect(await jobsIn(dashboardUrl, "postgres")).toBe(0), { timeout: TIMEOUT_MS, interval: 100 });
      const metricsUrl = /"metricsUrl":"([^"]+)"/.exec(program.output())?.[1] ?? "";
      await vi.waitFor(async () => expect(await scraped(metricsUrl)).toEqual({ succeeded: 15, failed: 5 }), {
        timeout: TIMEOUT_MS,
        interval: 500,
      });

      const states = tasks.reduce<Record<string, number>>((counts, { state }) => ({ ...counts, [state]: (counts[state] ?? 0) + 1 }), {});
      expect(await query("select status, count(*)::int as tasks from celery_task group by status", folder)).toEqual(states);
      program.signal("SIGTERM");
      expect(await program.exitCode).toBe(0);
      expect(await query("select status, count(*)::int as tasks from celery_task group by status", folder)).toEqual(states);
    } finally {
      program.signal("SIGKILL");
      await publisher.close();
      await Promise.all([redis.stop(), sink.close()]);
      rmSync(folder, { recursive: true, force: true });
    }
  },
);

it("uses the broker's Redis, leaves Datadog out and feeds the others if nothing is configured", { timeout: 2 * TIMEOUT_MS }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-start-"));
  const redis = await startRedis();
  const client = new Redis(redis.url);
  const env = { CELERY_BROKER_URL: redis.url, SUMMARY_SECONDS: "1", HEALTH_PORT: "0", PROMETHEUS_PORT: "0" };
  const program = startProgram(["start", "--no-dashboard"], { env, folder, program: WITHOUT_AGENT });
  const publisher = await connectPublisher(redis.url);
  try {
    await vi.waitFor(() => expect(program.output()).toContain("health port open"), { timeout: TIMEOUT_MS, interval: 100 });
    expect(program.output()).toContain("REDIS_URL is not set: the exporter queues are in the broker's Redis");
    expect(program.output()).toContain("Datadog is off");
    for (const { events } of Array.from({ length: 5 }, () => lifeOf("SUCCESS"))) await publisher.publish(toFrames(events));
    await vi.waitFor(() => expect(program.output()).toMatch(/"rows":\{"[A-Z].*"msg":"summary"/), { timeout: TIMEOUT_MS, interval: 100 });
    const healthUrl = /"healthUrl":"([^"]+)"/.exec(program.output())?.[1] ?? "";
    expect((await fetch(`${healthUrl}/readyz`)).status).toBe(200);
    const keys = await client.keys("{cme}:*");
    expect(keys.filter((key) => key.includes("datadog"))).toEqual([]);
    expect(keys).toEqual(expect.arrayContaining(["{cme}:postgres:meta", "{cme}:prometheus:meta"]));
    program.signal("SIGTERM");
    expect(await program.exitCode).toBe(0);
  } finally {
    program.signal("SIGKILL");
    await client.quit();
    await publisher.close();
    await redis.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});

it("logs the summary in words if its log lines are text", { timeout: TIMEOUT_MS }, async () => {
  const redis = await startRedis();
  const env = { CELERY_BROKER_URL: redis.url, EXPORTERS: "datadog", LOG_FORMAT: "text", SUMMARY_SECONDS: "1", HEALTH_PORT: "0" };
  const program = startProgram(["start", "--no-dashboard"], { env });
  try {
    await vi.waitFor(() => expect(program.output()).toContain("INFO  summary: "), { timeout: TIMEOUT_MS, interval: 100 });
    expect(program.output()).toContain("summary: 0 task events since the start (0.0/s); 0 tasks sent to Datadog; lag 0.0 s; 0 rejected\n");
  } finally {
    program.signal("SIGKILL");
    await redis.stop();
  }
});

it.each([["start", "--no-dashboard"], ["replay"]])(
  "says that it took an unreachable Redis from the broker's setting: %s",
  async (...args) => {
    const env = { CELERY_BROKER_URL: "redis://127.0.0.1:1/3", STARTUP_TIMEOUT_SECONDS: "1", DATABASE_URL: "pglite:memory" };
    const { exitCode, errors } = await runProgram(args, { env: { ...env, EXPORTERS: "postgres" } });
    expect(errors).toContain("Cannot reach Redis at redis://127.0.0.1:1/3");
    expect(errors).toContain("set REDIS_URL. REDIS_URL is not set: the exporter queues are in the broker's Redis, in the same database.");
    expect(exitCode).toBe(69);
  },
);

/** The tasks by status, as the command `query` shows them. */
async function query(statement: string, folder: string): Promise<Record<string, number>> {
  const { exitCode, output, errors } = await runProgram(["query", "--json", statement], { folder });
  expect({ exitCode, errors }).toEqual({ exitCode: 0, errors: "" });
  const rows = output.split("\n").filter((line) => line !== "");
  return Object.fromEntries(
    rows.map((line) => JSON.parse(line) as { status: string; tasks: number }).map(({ status, tasks }) => [status, tasks]),
  );
}

/** The tasks by state, as Prometheus scrapes them. */
async function scraped(metricsUrl: string): Promise<Record<string, number>> {
  const text = await (await fetch(metricsUrl)).text();
  const counts: Record<string, number> = {};
  for (const [, state = "", value] of text.matchAll(/^celery_task_(succeeded|failed)_total\{.*\} (.*)$/gm)) {
    counts[state] = (counts[state] ?? 0) + Number(value);
  }
  return counts;
}

/** Number of jobs in a queue that are not done yet, as the dashboard shows it. */
async function jobsIn(dashboardUrl: string, name: string): Promise<number> {
  const { queues } = (await (await fetch(`${dashboardUrl}api/queues`)).json()) as {
    queues: { name: string; counts: Record<string, number> }[];
  };
  const { active = 0, waiting = 0, delayed = 0 } = queues.find((queue) => queue.name === name)?.counts ?? {};
  return active + waiting + delayed;
}
