import {
  TASK_ID,
  taskReceived,
  taskRejected,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import { Health, Lifecycle, connectRedis, createLogger, type RedisConnection } from "@celery-metrics-exporter/runtime";
import { TaskStore, type Claim } from "../../src/task-store.ts";
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { busyDelayMs, triage, type Triage } from "../../src/feed/triage.ts";

const RUN = [taskSent(), taskReceived(), taskStarted()];
const OPTIONS = { queuePrefix: "{cme}", owner: "test", taskExpirySeconds: 3_600, sentExpirySeconds: 3_600, leaseMs: 60_000 };

let server: RedisServer;
let redis: RedisConnection;
const logger = createLogger("test", "silent");
const lifecycle = new Lifecycle(logger);
beforeAll(async () => {
  server = await startRedis();
  const connection = { url: server.url, use: "producer", name: "Store", startupTimeoutMs: 5_000 } as const;
  redis = await connectRedis({ ...connection, logger, lifecycle, health: new Health() });
});
beforeEach(() => redis.flushall());
afterAll(async () => {
  await lifecycle.close();
  await server.stop();
});

/** The decision on a task that has waited for this long. */
async function after(events: readonly TaskEvent[]): Promise<(waitedMs: number, incompleteWaitMs?: number, graceMs?: number) => Triage> {
  const store = new TaskStore({ ...OPTIONS, redis, keepWorker: false, keepException: false });
  await store.apply(events);
  const claim = (await store.claim("job", [TASK_ID])).get(TASK_ID);
  return (waitedMs, incompleteWaitMs = 60_000, graceMs = 2_000) =>
    triage(new Map<string, Claim>([[TASK_ID, { ...claim, waitedMs } as Claim]]), { graceMs, incompleteWaitMs });
}

describe("a task that lacks something", () => {
  it("waits ten seconds for the end of a run that was terminated", async () => {
    const becomes = await after([...RUN, taskRevoked({ terminated: true })]);
    expect(becomes(9_999).incomplete.get(TASK_ID)).toBe("end");
    expect(becomes(10_000).ready.has(TASK_ID)).toBe(true);
    expect(becomes(500, 500).ready.has(TASK_ID)).toBe(true);
  });

  it("waits a second for the failure of a rejection, which the grace is part of", async () => {
    const becomes = await after([...RUN, taskRejected()]);
    expect(becomes(0).ready.has(TASK_ID)).toBe(true);
    expect(becomes(699, 60_000, 300).incomplete.get(TASK_ID)).toBe("failure");
    expect(becomes(700, 60_000, 300).ready.has(TASK_ID)).toBe(true);
    expect(becomes(200, 200, 300).ready.has(TASK_ID)).toBe(true);
  });

  it("waits for its start as long as it may", async () => {
    const becomes = await after([taskSent(), taskReceived(), taskSucceeded()]);
    expect(becomes(59_999).incomplete.get(TASK_ID)).toBe("start");
    expect(becomes(60_000).ready.has(TASK_ID)).toBe(true);
  });
});

describe("a task that another job holds", () => {
  it.each([
    ["claimed a moment ago, after a moment", 29_990, 250],
    ["held for 4 s, after 4 s more", 26_000, 4_000],
    ["held for nearly as long as its lease, when that is over", 2_000, 2_050],
  ])("%s is looked at again", (_, freeInMs, delayMs) => {
    expect(busyDelayMs(freeInMs, 30_000)).toBe(delayMs);
  });
});
