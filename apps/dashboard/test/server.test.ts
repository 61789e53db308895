import { UnavailableError, createLogger, startRoles } from "@celery-metrics-exporter/runtime";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { dashboard, dashboardRole } from "../src/dashboard.ts";
import { startDashboard, stopRedis, type Harness } from "./harness.ts";

let harness: Harness | undefined;

afterEach(async () => {
  await harness?.stop();
  harness = undefined;
});
afterAll(stopRedis);

interface BoardQueue {
  readonly name: string;
  readonly counts: Record<string, number>;
  readonly jobs: readonly { readonly data: unknown }[];
}

async function boardQueues(url: string, activeQueue = ""): Promise<BoardQueue[]> {
  const response = await fetch(`${url}/api/queues?activeQueue=${activeQueue}&status=latest&page=1&jobsPerPage=10`);
  expect(response.status).toBe(200);
  return ((await response.json()) as { queues: BoardQueue[] }).queues;
}

describe("the queues", () => {
  it("are those of every exporter and the dead letters, with their counts", async () => {
    harness = await startDashboard();
    await harness.queue("datadog").waitUntilReady();
    await harness.queue("postgres").addBulk([
      { name: "events", data: {} },
      { name: "events", data: {}, opts: { delay: 60_000 } },
    ]);
    const queues = await boardQueues(harness.url);
    expect(queues.map(({ name }) => name)).toEqual(["datadog", "postgres", "dead-letter"]);
    expect(queues[1]?.counts).toMatchObject({ waiting: 1, delayed: 1, active: 0 });
  });

  it("include a processing queue once there is one", async () => {
    harness = await startDashboard();
    await harness.queue("datadog").waitUntilReady();
    await harness.queue("datadog-processing").add("ids", { ids: ["u1"] });
    expect((await boardQueues(harness.url)).map(({ name }) => name)).toEqual(["datadog", "datadog-processing", "dead-letter"]);
  });

  it("are only read: showing them writes nothing", async () => {
    harness = await startDashboard();
    await boardQueues(harness.url, "datadog");
    expect(await harness.redis.keys("*")).toEqual([]);
  });
});

it("reports the address of a page whose port the system chose", async () => {
  harness = await startDashboard();
  const opened: string[] = [];
  const env = { REDIS_URL: `redis://127.0.0.1:${harness.redis.options.port}`, DASHBOARD_PORT: "0" };
  const running = await startRoles([dashboardRole((url) => opened.push(url))], env, createLogger("dashboard", "silent"));
  expect(opened).toHaveLength(1);
  expect((await fetch(opened[0] ?? "")).status).toBe(200);
  await running.stop();
});

it("says so when its port is taken", async () => {
  harness = await startDashboard();
  const { port } = new URL(harness.url);
  const env = { REDIS_URL: `redis://127.0.0.1:${harness.redis.options.port}`, DASHBOARD_PORT: port };
  const start = startRoles([dashboard], env, createLogger("dashboard", "silent"));
  await expect(start).rejects.toThrow(UnavailableError);
  await expect(start).rejects.toThrow(`127.0.0.1:${port}: another program is listening there. Choose another DASHBOARD_PORT`);
});
