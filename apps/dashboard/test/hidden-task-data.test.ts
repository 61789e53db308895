import { encodeBatch } from "@celery-metrics-exporter/pipeline";
import { FlowProducer, Worker } from "bullmq";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { boardRoutes } from "./board-routes.ts";
import { startDashboard, stopRedis, type Harness } from "./harness.ts";

const SECRET = "4111 1111";
const EVENT = {
  type: "task-failed",
  hostname: "celery@a",
  timestamp: 1.5,
  uuid: "u1",
  name: "shop.pay",
  exception: SECRET,
  traceback: SECRET,
};
const RECEIVED = {
  type: "task-received",
  hostname: "celery@a",
  timestamp: 1.5,
  uuid: "u1",
  name: "shop.pay",
  args: SECRET,
  kwargs: SECRET,
};
const STATES = ["latest", "active", "waiting", "waiting-children", "prioritized", "completed", "failed", "delayed"];

let harness: Harness;

afterEach(() => harness.stop());
afterAll(stopRedis);

/** Task data in every place of a job that can contain text. */
async function fill(): Promise<void> {
  const { redis } = harness;
  const shared = { connection: redis, prefix: "{cme}" };
  const datadog = harness.queue("datadog");
  const batch = encodeBatch({ broker: "redis", events: [EVENT, RECEIVED] });
  const flow = new FlowProducer(shared);
  const child = { name: "batch", queueName: "datadog", data: batch, opts: { ignoreDependencyOnFailure: true } };
  await flow.add({ name: "batch", queueName: "postgres", data: batch, children: [child] });
  await datadog.add("batch", batch);
  // BullMQ does not close a connection that was passed to it.
  const connection = redis.duplicate();
  const worker = new Worker(
    "datadog",
    async (job) => {
      await job.log(SECRET);
      await job.updateProgress({ detail: SECRET });
      if (job.parent !== undefined) throw new Error(SECRET);
      return { result: SECRET };
    },
    { ...shared, connection },
  );
  await expect.poll(async () => datadog.getJobCountByTypes("completed", "failed"), { timeout: 20_000 }).toBe(2);
  await worker.close();
  connection.disconnect();
  await flow.close();
  await datadog.add("batch", batch);
  await datadog.add("batch", batch, { delay: 3_600_000 });
  await datadog.upsertJobScheduler("s1", { every: 3_600_000 }, { name: "batch", data: batch });
  await harness.queue("dead-letter").add("body", { source: "postgres", reason: "body", detail: SECRET, raw: SECRET, payload: batch });
}

/** Every answer of the dashboard, by its address. */
async function shown(): Promise<Map<string, string>> {
  const jobs = new Set<string>();
  const lists: string[] = [];
  for (const queueName of ["datadog", "postgres", "dead-letter"]) {
    for (const job of await harness.queue(queueName).getJobs()) jobs.add(JSON.stringify({ queueName, jobId: job.id ?? "" }));
    for (const status of STATES) lists.push(`/api/queues?activeQueue=${queueName}&status=${status}&page=1&jobsPerPage=50`);
  }
  const paths = new Set([...lists, "/metrics", "/healthz"]);
  for (const job of jobs) {
    const routes = await boardRoutes({ ...(JSON.parse(job) as Record<string, string>), queueStatus: "wait", schedulerId: "s1" });
    for (const { method, path } of routes) if (method === "GET") paths.add(path);
  }
  const texts = new Map<string, string>();
  for (const path of paths) texts.set(path, await (await fetch(harness.url + encodeURI(path))).text());
  return texts;
}

describe("task data", () => {
  it("is not shown by any route of bull-board, unless it is turned on", async () => {
    harness = await startDashboard();
    await fill();
    const texts = await shown();
    expect([...texts].filter(([, text]) => text.includes("4111")).map(([path]) => path)).toEqual([]);
    expect(texts.size).toBeGreaterThan(50);
    const list = texts.get("/api/queues?activeQueue=datadog&status=failed&page=1&jobsPerPage=50") ?? "";
    expect(list).toContain('"failedReason":"[hidden]"');
    expect(list).toContain('"exception":"[hidden]"');
    expect(list).toContain("shop.pay");
  });

  it("is shown by DASHBOARD_SHOW_TASK_DATA", async () => {
    harness = await startDashboard({ DASHBOARD_SHOW_TASK_DATA: "true" });
    await fill();
    const showing = [...(await shown())].filter(([, text]) => text.includes(SECRET)).map(([path]) => path);
    for (const part of [
      /^\/api\/queues\?activeQueue=dead-letter/,
      /\/logs$/,
      /\/flow$/,
      /job-schedulers$/,
      /\/api\/queues\/datadog\/\d+$/,
    ]) {
      expect(showing.some((path) => part.test(path))).toBe(true);
    }
  });
});
