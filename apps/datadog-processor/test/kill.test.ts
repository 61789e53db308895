/** Processes killed between two steps, with real queues: what they left behind is taken over, and nothing is lost. */
import { taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/events/testing";
import { EXPORTERS, Fanout } from "@celery-metrics-exporter/pipeline";
import { Health, Lifecycle, Metrics, connectRedis, createLogger } from "@celery-metrics-exporter/runtime";
import { startRedis, startStatsdSink, type RedisServer } from "@celery-metrics-exporter/testkit";
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Step } from "../src/exporter.ts";

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const PROCESSOR = fileURLToPath(new URL("./fixtures/crashing-processor.mjs", import.meta.url));
const TASKS = 40;

const children = new Set<ChildProcess>();
let redis: RedisServer;

beforeAll(async () => {
  // The children run what is built.
  execFileSync("../../node_modules/.bin/tsc", ["-b"], { cwd: PACKAGE });
  redis = await startRedis();
});
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await redis.stop();
});

function spawnProcessor(env: Readonly<Record<string, string>>): ChildProcess {
  const child = spawn(process.execPath, [PROCESSOR], {
    cwd: PACKAGE,
    env: { REDIS_URL: redis.url, LOG_LEVEL: "silent", DATADOG_GRACE_MS: "200", ...env },
    stdio: ["ignore", "ignore", "inherit"],
  });
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

/** Puts a batch of finished tasks on the exporter's queue, as the receiver does. */
async function enqueue(prefix: string): Promise<void> {
  const logger = createLogger("test", "silent");
  const lifecycle = new Lifecycle(logger);
  const common = { url: redis.url, startupTimeoutMs: 5_000, logger, lifecycle, health: new Health() };
  const fanout = new Fanout({
    redis: await connectRedis({ ...common, use: "producer", name: "test" }),
    prefix,
    exporters: EXPORTERS.filter(({ name }) => name === "datadog"),
    whenFull: "hold",
    highWaterEvents: 1_000_000,
    logger,
    metrics: new Metrics(),
  });
  await fanout.start();
  const now = Math.floor(Date.now() / 1_000) - 10;
  const events = Array.from({ length: TASKS }, (_, index) => `task-${index}`).flatMap((uuid) => [
    taskSent({ uuid, timestamp: now }),
    taskReceived({ uuid, timestamp: now + 1 }),
    taskStarted({ uuid, timestamp: now + 2 }),
    taskSucceeded({ uuid, timestamp: now + 3 }),
  ]);
  await fanout.enqueue({ broker: "rabbitmq", events });
  await fanout.close();
  await lifecycle.close();
}

describe("a process killed", () => {
  it.concurrent.each<[Step, number]>([
    ["merged", 1],
    ["scheduled", 1],
    ["claimed", 1],
    ["sent", 2],
    ["settled", 1],
  ])(
    "after it %s a batch or a job is replaced, and each task is sent %i time(s)",
    async (step, times) => {
      const sink = await startStatsdSink();
      const env = { QUEUE_PREFIX: `{${step}}`, DD_DOGSTATSD_PORT: String(sink.port) };
      await enqueue(env.QUEUE_PREFIX);
      const victim = spawnProcessor({ ...env, FIXTURE_CRASH_AFTER: step });
      const [, signal] = (await once(victim, "exit")) as [number | null, string | null];
      expect(signal).toBe("SIGKILL");

      const child = spawnProcessor(env);
      await sink.waitFor(() => sink.total("celery.task.success_count") >= TASKS * times, { timeoutMs: 40_000, what: "every task" });
      // Long enough for a batch that was left behind to be taken over and come again.
      await new Promise((resolve) => setTimeout(resolve, 15_000));
      expect(sink.total("celery.task.success_count")).toBe(TASKS * times);
      expect(sink.values("celery.task.wait_time")).toHaveLength(TASKS * times);
      expect(sink.errors).toEqual([]);
      child.kill("SIGTERM");
      const [code] = (await once(child, "exit")) as [number | null];
      expect(code).toBe(0);
      await sink.close();
    },
    90_000,
  );
});
