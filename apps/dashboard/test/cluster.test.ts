/** The dashboard over a Redis Cluster. */
import { startRedisCluster } from "@celery-metrics-exporter/testkit";
import { Queue, Worker } from "bullmq";
import { Cluster } from "ioredis";
import { afterEach, expect, it } from "vitest";
import { startDashboard, stopRedis } from "./harness.ts";

const releases: (() => unknown)[] = [stopRedis];
afterEach(async () => {
  for (const release of releases.splice(0).toReversed()) await release();
});

it("shows queues, jobs and workers of a cluster, and changes them", async () => {
  const cluster = await startRedisCluster();
  releases.push(() => cluster.stop());
  const connection = new Cluster(
    cluster.masters.map(({ port }) => ({ host: "127.0.0.1", port })),
    { redisOptions: { maxRetriesPerRequest: null } },
  );
  releases.push(() => connection.disconnect());
  const queue = new Queue("datadog", { connection, prefix: "{cme}" });
  await queue.add("batch", {}, { jobId: "waits" });
  await queue.add("batch", {}, { jobId: "later", delay: 3_600_000 });
  const worker = new Worker("datadog", undefined, { connection, prefix: "{cme}", autorun: false });
  await worker.waitUntilReady();
  releases.push(() => worker.close());
  releases.push(() => queue.close());

  const harness = await startDashboard({ REDIS_URL: cluster.url, DASHBOARD_READ_ONLY: "false" });
  releases.push(() => harness.stop());
  const ask = async (path: string, method = "GET"): Promise<unknown> => {
    const answer = await fetch(`${harness.url}/api/queues${path}`, { method, headers: { origin: harness.url } });
    expect(`${answer.ok} ${path}`).toBe(`true ${path}`);
    return answer.headers.get("content-type")?.includes("json") === true ? answer.json() : undefined;
  };
  const jobsIn = async (status: string): Promise<string[]> => {
    const board = (await ask(`?activeQueue=datadog&status=${status}&page=1&jobsPerPage=10`)) as BoardAnswer;
    return board.queues.find(({ name }) => name === "datadog")?.jobs.map(({ id }) => id) ?? [];
  };
  expect([await jobsIn("waiting"), await jobsIn("delayed")]).toEqual([["waits"], ["later"]]);
  await ask("/datadog/later/promote", "PUT");
  expect([await jobsIn("waiting"), await jobsIn("delayed")]).toEqual([expect.arrayContaining(["waits", "later"]), []]);
  await ask("/datadog/waits/clean", "PUT");
  expect(await jobsIn("waiting")).toEqual(["later"]);
});

interface BoardAnswer {
  readonly queues: readonly { readonly name: string; readonly jobs: readonly { readonly id: string }[] }[];
}
