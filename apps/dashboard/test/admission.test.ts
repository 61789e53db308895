import { request } from "node:http";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { boardRoutes, contentOf, type BoardRoute } from "./board-routes.ts";
import { startDashboard, stopRedis, type Harness } from "./harness.ts";

let harness: Harness;
let changes: BoardRoute[];

beforeEach(async () => {
  const routes = await boardRoutes({ queueName: "datadog", jobId: "1", queueStatus: "wait", schedulerId: "s1" });
  changes = routes.filter(({ method }) => method !== "GET");
});
afterEach(() => harness.stop());
afterAll(stopRedis);

/** Jobs and a scheduler for every route to act on. */
async function fill(): Promise<void> {
  const queue = harness.queue("datadog");
  await queue.add("batch", { v: 1 });
  await queue.add("batch", { v: 1 }, { delay: 3_600_000 });
  await queue.upsertJobScheduler("s1", { every: 3_600_000 }, { name: "batch" });
}

async function send({ method, path }: BoardRoute, headers: Record<string, string>): Promise<Response> {
  const body = JSON.stringify({ jobData: { v: 9 }, name: "batch", data: {}, options: {}, delay: 1, priority: 1, max: 1, duration: 1 });
  return fetch(harness.url + path, { method, headers: { "content-type": "application/json", ...headers }, body });
}

/** `fetch` does not let a test set the requested host. */
async function statusFor(host: string, headers: Record<string, string> = {}): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request(harness.url, { headers: { ...headers, host } }, (response) => resolve(response.resume().statusCode))
      .on("error", reject)
      .end();
  });
}

describe("a read-only dashboard", () => {
  it("refuses every route of bull-board that changes something, and leaves the queues alone", async () => {
    harness = await startDashboard();
    await fill();
    const before = await contentOf(harness.redis);
    expect(changes.length).toBeGreaterThan(20);
    for (const route of changes) {
      const answer = await send(route, { origin: harness.url, "sec-fetch-site": "same-origin" });
      expect({ ...route, status: answer.status }).toEqual({ ...route, status: 405 });
    }
    expect(await contentOf(harness.redis)).toEqual(before);
  });

  it.each(["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])("refuses %s at every address", async (method) => {
    harness = await startDashboard();
    for (const path of ["/", "/nowhere", "/static/favicon.ico"]) {
      const answer = await fetch(harness.url + path, { method, headers: { "x-http-method-override": "GET", origin: harness.url } });
      expect(answer.status).toBeGreaterThanOrEqual(404);
    }
  });

  it("changes nothing when it shows something", async () => {
    harness = await startDashboard();
    await fill();
    const routes = await boardRoutes({ queueName: "datadog", jobId: "1", queueStatus: "wait", schedulerId: "s1" });
    const before = await contentOf(harness.redis);
    for (const { path } of routes.filter(({ method }) => method === "GET")) await fetch(harness.url + path);
    expect(await contentOf(harness.redis)).toEqual(before);
  });
});

describe("a dashboard that may change queues", () => {
  it.each([
    ["cross-site", { "sec-fetch-site": "cross-site" }],
    ["same-site, such as another port of this machine", { "sec-fetch-site": "same-site" }],
    ["opened from outside", { "sec-fetch-site": "none" }],
    ["another origin", { origin: "https://evil.example" }],
    ["another port", { origin: "http://127.0.0.1:1" }],
    ["an opaque origin", { origin: "null" }],
    ["an invalid origin", { origin: "nonsense" }],
    ["two headers that disagree", { origin: "SELF", "sec-fetch-site": "cross-site" }],
    ["neither header", {}],
  ])("refuses every change with %s", async (_, headers: Record<string, string>) => {
    harness = await startDashboard({ DASHBOARD_READ_ONLY: "false" });
    await fill();
    const before = await contentOf(harness.redis);
    const given = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value.replace("SELF", harness.url)]));
    for (const route of changes) {
      const { status } = await send(route, given);
      expect([403, 405]).toContain(status);
    }
    expect(await contentOf(harness.redis)).toEqual(before);
  });

  it.each(["sec-fetch-site", "origin"])("makes a change for its own page, identified by %s", async (header) => {
    harness = await startDashboard({ DASHBOARD_READ_ONLY: "false" });
    const queue = harness.queue("datadog");
    await queue.add("batch", { v: 1 });
    const headers = { [header]: header === "origin" ? harness.url : "same-origin" };
    const answer = await fetch(`${harness.url}/api/queues/datadog/1/clean`, { method: "PUT", headers });
    expect(answer.status).toBe(204);
    expect(await queue.count()).toBe(0);
  });

  it.each(["text/plain", "application/x-www-form-urlencoded"])("accepts no change as %s", async (type) => {
    harness = await startDashboard({ DASHBOARD_READ_ONLY: "false" });
    const headers = { origin: harness.url, "content-type": type };
    const answer = await fetch(`${harness.url}/api/queues/datadog/concurrency`, { method: "PUT", headers, body: '{"concurrency":1}' });
    expect(answer.status).toBe(415);
  });

  it.each([
    ["POST", "/api/queues/datadog/add"],
    ["POST", "/api/queues/datadog/%61dd"],
    ["PATCH", "/api/queues/datadog/1/update-data"],
  ])("never writes job data: %s %s", async (method, path) => {
    harness = await startDashboard({ DASHBOARD_READ_ONLY: "false" });
    const queue = harness.queue("datadog");
    await queue.add("batch", { v: 1 });
    expect((await send({ method, path }, { origin: harness.url })).status).toBe(405);
    expect((await queue.getJobs()).map((job) => job.data as unknown)).toEqual([{ v: 1 }]);
  });
});

describe("without credentials", () => {
  it("only requests addressed to this machine are answered", async () => {
    harness = await startDashboard({ DASHBOARD_ALLOWED_HOSTS: "Queues.example.com" });
    expect(await statusFor("rebound.evil.example:3000")).toBe(403);
    expect(await statusFor("127.0.0.1.evil.example")).toBe(403);
    expect(await statusFor("192.0.2.1")).toBe(403);
    expect(await statusFor("rebound.evil.example", { "x-forwarded-host": "localhost", forwarded: "host=localhost" })).toBe(403);
    for (const host of ["localhost:3000", "127.0.0.1", "[::1]:3000", "queues.example.com"]) expect(await statusFor(host)).toBe(200);
  });

  it("a trusted proxy's headers do not determine the requested host", async () => {
    harness = await startDashboard({ DASHBOARD_TRUSTED_PROXIES: "127.0.0.1" });
    expect(await statusFor("rebound.evil.example", { "x-forwarded-host": "localhost" })).toBe(403);
  });
});
