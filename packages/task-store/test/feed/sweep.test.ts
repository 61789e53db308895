import { taskStarted } from "@celery-metrics-exporter/celery/testing";
import { Health, Lifecycle, connectRedis, createLogger } from "@celery-metrics-exporter/runtime";
import { startRedis } from "@celery-metrics-exporter/testkit";
import { expect, it } from "vitest";
import { FinishedTasks } from "../../src/feed/finished-tasks.ts";
import { type OpenTasks, TaskStore } from "../../src/task-store.ts";

const never = (): Promise<never> => Promise.reject(new Error("nothing is sent"));

it("counts tasks that never finish when the Store gives them up", async () => {
  const server = await startRedis();
  const logger = createLogger("test", "silent");
  const lifecycle = new Lifecycle(logger);
  const connection = { url: server.url, use: "producer", name: "Store", startupTimeoutMs: 5_000 } as const;
  const redis = await connectRedis({ ...connection, logger, lifecycle, health: new Health() });
  const expiries = { taskExpirySeconds: 1, sentExpirySeconds: 60, leaseMs: 1_000 };
  const store = new TaskStore({ redis, queuePrefix: "{cme}", owner: "test", ...expiries, keepWorker: false, keepException: false });
  await store.apply([taskStarted({ uuid: "a" }), taskStarted({ uuid: "b" })]);
  const swept: OpenTasks[] = [];
  const waits = { graceMs: 0, incompleteWaitMs: 0 };
  const finished = new FinishedTasks({
    store,
    sink: { send: never },
    schedule: never,
    ...waits,
    logger,
    sweepEveryMs: 50,
    onSwept: (tasks) => swept.push(tasks),
  });
  try {
    finished.start();
    await expect.poll(() => swept).toContainEqual({ expired: 0, open: 2 });
    await expect.poll(() => swept, { timeout: 10_000 }).toContainEqual({ expired: 2, open: 0 });
    expect(swept.reduce((sum, { expired }) => sum + expired, 0)).toBe(2);
  } finally {
    await finished.stop();
    await finished.stop();
    await lifecycle.close();
    await server.stop();
  }
});
