import { encodeBatch } from "@celery-metrics-exporter/pipeline";
import { UnavailableError, createLogger, startRoles } from "@celery-metrics-exporter/runtime";
import { request } from "node:http";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { dashboard } from "../src/dashboard.ts";
import { startDashboard, stopRedis, type Harness } from "./harness.ts";

let harness: Harness | undefined;

afterEach(async () => {
  await harness?.stop();
  harness = undefined;
});
afterAll(stopRedis);

const CREDENTIALS = { DASHBOARD_USERNAME: "ops", DASHBOARD_PASSWORD: "correct horse: battery" };

function authorization(username: string, password: string): Record<string, string> {
  return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}` };
}

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

/** `fetch` does not let a test choose the host that is asked for. */
async function statusFor(url: string, host: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request(url, { headers: { host } }, (response) => resolve(response.resume().statusCode))
      .on("error", reject)
      .end();
  });
}

describe("the queues", () => {
  it("are those of every exporter and the dead letters, with their counts", async () => {
    harness = await startDashboard();
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
    await harness.queue("datadog-processing").add("ids", { ids: ["u1"] });
    expect((await boardQueues(harness.url)).map(({ name }) => name)).toEqual(["datadog", "datadog-processing", "postgres", "dead-letter"]);
  });

  it("are only read: looking at them writes nothing", async () => {
    harness = await startDashboard();
    await boardQueues(harness.url, "datadog");
    expect(await harness.redis.keys("*")).toEqual([]);
  });
});

describe("task data", () => {
  const event = { type: "task-received", hostname: "celery@a", timestamp: 1.5, uuid: "u1", name: "shop.pay", args: "('4111 1111',)" };
  const batch = { broker: "redis", events: [event] };

  it("is hidden unless it is asked for", async () => {
    harness = await startDashboard();
    await harness.queue("datadog").add("batch", encodeBatch(batch));
    const [datadog] = await boardQueues(harness.url, "datadog");
    expect(datadog?.jobs[0]?.data).toEqual({ broker: "redis", events: [{ ...event, args: "[hidden]" }] });
    const one = await fetch(`${harness.url}/api/queues/datadog/1`);
    expect(await one.text()).not.toContain("4111");
  });

  it("is shown by DASHBOARD_SHOW_TASK_DATA", async () => {
    harness = await startDashboard({ DASHBOARD_SHOW_TASK_DATA: "true" });
    await harness.queue("datadog").add("batch", encodeBatch(batch));
    const [datadog] = await boardQueues(harness.url, "datadog");
    expect(datadog?.jobs[0]?.data).toEqual(batch);
  });
});

describe("a read-only dashboard", () => {
  it.each([
    ["PUT", "/api/queues/datadog/1/clean"],
    ["PUT", "/api/queues/datadog/1/promote"],
    ["PUT", "/api/queues/datadog/1/retry"],
    ["PUT", "/api/queues/datadog/empty"],
    ["PUT", "/api/queues/datadog/pause"],
    ["PUT", "/api/queues/pause"],
    ["PUT", "/api/queues/datadog/obliterate"],
    ["POST", "/api/queues/datadog/add"],
    ["PATCH", "/api/queues/datadog/1/update-data"],
  ])("answers 405 to %s %s, and leaves the queue alone", async (method, path) => {
    harness = await startDashboard();
    const queue = harness.queue("datadog");
    await queue.add("events", { version: 1 }, { delay: 60_000 });
    const response = await fetch(harness.url + path, { method, headers: { "content-type": "application/json" }, body: "{}" });
    expect(response.status).toBe(405);
    expect(await queue.getJobCounts()).toMatchObject({ delayed: 1, waiting: 0 });
    expect(await queue.isPaused()).toBe(false);
  });
});

describe("a dashboard that may change queues", () => {
  it("removes a job for its own page, but not for another site's", async () => {
    harness = await startDashboard({ DASHBOARD_READ_ONLY: "false" });
    const queue = harness.queue("datadog");
    await queue.add("events", { version: 1 });
    const clean = `${harness.url}/api/queues/datadog/1/clean`;
    for (const headers of [{ "sec-fetch-site": "cross-site" }, { origin: "https://evil.example" }, { origin: "null" }]) {
      expect((await fetch(clean, { method: "PUT", headers })).status).toBe(403);
    }
    expect(await queue.count()).toBe(1);
    expect((await fetch(clean, { method: "PUT", headers: { origin: harness.url } })).status).toBe(204);
    expect(await queue.count()).toBe(0);
  });
});

it.each([
  ["POST", "/api/queues/datadog/add"],
  ["POST", "/api/queues/datadog/%61dd"],
  ["PATCH", "/api/queues/datadog/1/update-data"],
])("a dashboard that may change queues never writes job data: %s %s", async (method, path) => {
  harness = await startDashboard({ DASHBOARD_READ_ONLY: "false" });
  const queue = harness.queue("datadog");
  await queue.add("batch", { v: 1 });
  const body = JSON.stringify({ jobData: { v: 9 }, name: "batch", data: {}, options: {} });
  expect((await fetch(harness.url + path, { method, headers: { "content-type": "application/json" }, body })).status).toBe(405);
  expect((await queue.getJobs()).map((job) => job.data as unknown)).toEqual([{ v: 1 }]);
});

describe("the login", () => {
  it.each(["/", "/api/queues", "/static/favicon.ico", "/nowhere"])("is asked for at %s", async (path) => {
    harness = await startDashboard(CREDENTIALS);
    const anonymous = await fetch(harness.url + path);
    expect(anonymous.status).toBe(401);
    expect(anonymous.headers.get("www-authenticate")).toContain("Basic");
    const wrong = await fetch(harness.url + path, { headers: authorization("ops", "correct horse") });
    expect(wrong.status).toBe(401);
    const right = await fetch(harness.url + path, { headers: authorization("ops", "correct horse: battery") });
    expect(right.status).toBe(path === "/nowhere" ? 404 : 200);
  });

  it("looks at no more than ten wrong ones a minute", async () => {
    harness = await startDashboard(CREDENTIALS);
    const statuses: number[] = [];
    for (let attempt = 0; attempt < 12; attempt++) {
      statuses.push((await fetch(harness.url, { headers: authorization("ops", `guess ${attempt}`) })).status);
    }
    expect(statuses).toEqual([...Array<number>(10).fill(401), 429, 429]);
    const right = await fetch(harness.url, { headers: authorization("ops", "correct horse: battery") });
    expect(right.status).toBe(429);
  });

  it("may be right as often as one likes", async () => {
    harness = await startDashboard(CREDENTIALS);
    for (let attempt = 0; attempt < 15; attempt++) {
      expect((await fetch(harness.url, { headers: authorization("ops", "correct horse: battery") })).status).toBe(200);
    }
  });
});

describe("without credentials", () => {
  it("only requests addressed to this machine are answered", async () => {
    harness = await startDashboard({ DASHBOARD_ALLOWED_HOSTS: "queues.example.com" });
    expect(await statusFor(harness.url, "rebound.evil.example:3000")).toBe(403);
    expect(await statusFor(harness.url, "localhost:3000")).toBe(200);
    expect(await statusFor(harness.url, "queues.example.com")).toBe(200);
  });
});

it("says so when its port is taken", async () => {
  harness = await startDashboard();
  const { port } = new URL(harness.url);
  const env = { REDIS_URL: `redis://127.0.0.1:${harness.redis.options.port}`, DASHBOARD_PORT: port };
  const start = startRoles([dashboard], env, createLogger("dashboard", "silent"));
  await expect(start).rejects.toThrow(UnavailableError);
  await expect(start).rejects.toThrow(`127.0.0.1:${port}: another program listens there. Choose another DASHBOARD_PORT`);
});
