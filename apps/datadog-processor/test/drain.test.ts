/** A process that has to end during a send that takes longer than the drain, with real queues. */
import { startStatsdSink } from "@celery-metrics-exporter/testkit";
import { once } from "node:events";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ProcessorProcesses } from "./processor-processes.ts";

const TASKS = 200;
/** A packet contains 2 of the 3 lines of a task. */
const PACKET_BYTES = "600";

let processors: ProcessorProcesses;
beforeAll(async () => {
  processors = await ProcessorProcesses.start();
});
afterAll(() => processors.close());

it("the next process continues a paced send that a drain interrupted, and each task is sent once", async () => {
  const sink = await startStatsdSink();
  const env = { QUEUE_PREFIX: "{drain}", DD_DOGSTATSD_PORT: String(sink.port), DATADOG_MAX_PACKET_BYTES: PACKET_BYTES };
  // Unique names, so that no line contains several values.
  const tasks = Array.from({ length: TASKS }, (_, index) => ({ uuid: `task-${index}`, name: `${"n".repeat(150)}${index}` }));
  await processors.enqueue(env.QUEUE_PREFIX, tasks);
  const first = processors.spawn({ ...env, DATADOG_MAX_PACKETS_PER_SECOND: "20", SHUTDOWN_TIMEOUT_SECONDS: "6" });
  await sink.waitFor(() => sink.packets.length > 10, { timeoutMs: 90_000, what: "the first packets" });
  first.kill("SIGTERM");
  const [code] = (await once(first, "exit")) as [number | null];
  expect(code).toBe(0);
  const sentByFirst = sink.total("celery.task.success_count");
  expect(sentByFirst).toBeGreaterThan(0);
  expect(sentByFirst).toBeLessThan(TASKS);

  const second = processors.spawn({ ...env, DATADOG_MAX_PACKETS_PER_SECOND: "1000" });
  await sink.waitFor(() => sink.total("celery.task.success_count") >= TASKS, { timeoutMs: 90_000, what: "every task" });
  second.kill("SIGTERM");
  expect(await once(second, "exit")).toEqual([0, null]);
  expect(sink.total("celery.task.success_count")).toBe(TASKS);
  expect(sink.values("celery.task.wait_time")).toHaveLength(TASKS);
  expect(sink.values("celery.task.run_time")).toHaveLength(TASKS);
  expect(sink.errors).toEqual([]);
  await sink.close();
}, 240_000);
