/** Processes killed between two steps, with real queues: others take over their work, and nothing is lost. */
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import { taskReceived, taskRetried, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { startStatsdSink } from "@celery-metrics-exporter/testkit";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Step } from "@celery-metrics-exporter/task-store";
import { ProcessorProcesses } from "./processor-processes.ts";

const TASKS = 40;

/** Tasks that were retried once, and then succeeded. */
function retriedTasks(): TaskEvent[] {
  const now = Math.floor(Date.now() / 1_000) - 10;
  return Array.from({ length: TASKS }, (_, index) => `task-${index}`).flatMap((uuid) => [
    taskSent({ uuid, timestamp: now }),
    taskReceived({ uuid, timestamp: now + 1 }),
    taskStarted({ uuid, timestamp: now + 2 }),
    taskSent({ uuid, timestamp: now + 3, retries: 1 }),
    taskRetried({ uuid, timestamp: now + 3 }),
    taskReceived({ uuid, timestamp: now + 4, retries: 1 }),
    taskStarted({ uuid, timestamp: now + 5 }),
    taskSucceeded({ uuid, timestamp: now + 6 }),
  ]);
}

let processors: ProcessorProcesses;
beforeAll(async () => {
  processors = await ProcessorProcesses.start();
});
afterAll(() => processors.close());

describe("a process killed", () => {
  it.concurrent.each<[Step, number]>([
    ["merged", 1],
    ["scheduled", 1],
    ["claimed", 1],
    ["reported", 2],
    ["settled", 1],
  ])(
    "after it %s a batch or a job is replaced, and each task is sent %i time(s)",
    async (step, times) => {
      const sink = await startStatsdSink();
      const env = { QUEUE_PREFIX: `{${step}}`, DD_DOGSTATSD_PORT: String(sink.port) };
      await processors.enqueueEvents(env.QUEUE_PREFIX, retriedTasks());
      const victim = processors.spawn({ ...env, FIXTURE_CRASH_AFTER: step });
      const [, signal] = (await once(victim, "exit")) as [number | null, string | null];
      expect(signal).toBe("SIGKILL");

      const child = processors.spawn(env);
      await sink.waitFor(() => sink.total("celery.task.success_count") >= TASKS * times, { timeoutMs: 90_000, what: "every task" });
      // Long enough for a batch of the killed process to be taken over and run again.
      await new Promise((resolve) => setTimeout(resolve, 15_000));
      expect(sink.total("celery.task.success_count")).toBe(TASKS * times);
      expect(sink.total("celery.task.retry_count")).toBe(TASKS * times);
      expect(sink.values("celery.task.wait_time")).toHaveLength(2 * TASKS * times);
      expect(sink.errors).toEqual([]);
      child.kill("SIGTERM");
      const [code] = (await once(child, "exit")) as [number | null];
      expect(code).toBe(0);
      await sink.close();
    },
    180_000,
  );
});
