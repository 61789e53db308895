import { EXPORTERS } from "@celery-metrics-exporter/pipeline";
import { Worker } from "bullmq";
import { afterAll, afterEach, beforeEach, expect, it } from "vitest";
import { startDashboard, stopRedis, type Harness } from "./harness.ts";

interface ShownQueue {
  readonly name: string;
  readonly description: string;
  readonly statuses: readonly string[];
  /** Null means unknown. */
  readonly hasWorkers: boolean | null;
}

let harness: Harness;

beforeEach(async () => {
  harness = await startDashboard();
});
afterEach(() => harness.stop());
afterAll(stopRedis);

async function shown(): Promise<Map<string, ShownQueue>> {
  const { queues } = (await (await fetch(`${harness.url}/api/queues`)).json()) as { queues: ShownQueue[] };
  return new Map(queues.map((queue) => [queue.name, queue]));
}

it("shows the queues that receivers and processors have created, and every exporter's until then", async () => {
  expect([...(await shown()).keys()]).toEqual([...EXPORTERS.map(({ name }) => name), "dead-letter"]);
  await harness.queue("postgres").waitUntilReady();
  expect([...(await shown()).keys()]).toEqual(["postgres", "dead-letter"]);
  await harness.queue("datadog-processing").waitUntilReady();
  expect([...(await shown()).keys()]).toEqual(["datadog-processing", "postgres", "dead-letter"]);
});

it("reports missing workers only for queues whose jobs wait for one", async () => {
  const postgres = harness.queue("postgres");
  await postgres.waitUntilReady();
  expect((await shown()).get("postgres")?.hasWorkers).toBeNull();
  await postgres.add("batch", {});
  expect((await shown()).get("postgres")?.hasWorkers).toBe(false);
  // BullMQ does not close a connection that was passed to it.
  const connection = harness.redis.duplicate();
  const worker = new Worker("postgres", async () => {}, { connection, prefix: "{cme}" });
  await expect.poll(async () => (await shown()).get("postgres")?.hasWorkers).toBe(true);
  await worker.close();
  connection.disconnect();
});

it("shows dead letters without workers and in one state, and says how to replay them", async () => {
  await harness.queue("dead-letter").add("body", { source: "receiver", reason: "body", detail: "", raw: "{" });
  expect((await shown()).get("dead-letter")).toMatchObject({
    hasWorkers: null,
    statuses: ["latest", "waiting"],
    description: expect.stringContaining("celery-metrics-exporter replay") as string,
  });
});
