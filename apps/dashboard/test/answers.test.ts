import { afterAll, afterEach, describe, expect, it } from "vitest";
import { CREDENTIALS, authorization, startDashboard, stopRedis, type Harness } from "./harness.ts";

let harness: Harness;

afterEach(() => harness.stop());
afterAll(stopRedis);

describe("every answer", () => {
  const right = authorization("ops", "correct horse: battery");
  const preflight = { origin: "https://evil.example", "access-control-request-method": "PUT" };
  it.each([
    { what: "the page", path: "/", status: 200 },
    { what: "a queue's page", path: "/queue/datadog", status: 200 },
    { what: "the API", path: "/api/queues", status: 200 },
    { what: "nothing", path: "/nowhere", status: 404 },
    { what: "a login", path: "/", headers: {}, status: 401 },
    { what: "a refusal", path: "/api/queues/pause", method: "PUT", status: 405 },
    { what: "a preflight", path: "/api/queues/pause", method: "OPTIONS", headers: preflight, status: 405 },
  ])("restricts the browser, and allows no caching: $what", async ({ path, method = "GET", headers = right, status }) => {
    harness = await startDashboard(CREDENTIALS);
    const answer = await fetch(harness.url + path, { method, headers });
    expect(answer.status).toBe(status);
    expectHeaders(answer);
    expect(answer.headers.get("cache-control")).toBe("no-store");
  });

  it("restricts the browser, and allows caching: a file", async () => {
    harness = await startDashboard(CREDENTIALS);
    const answer = await fetch(`${harness.url}/static/favicon.ico`, { headers: right });
    expectHeaders(answer);
    expect(answer.headers.get("cache-control")).not.toBe("no-store");
  });
});

function expectHeaders(answer: Response): void {
  const told = Object.fromEntries(answer.headers);
  expect(told).toMatchObject({
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
  });
  const policy = told["content-security-policy"]?.split(";") ?? [];
  expect(policy).toEqual(
    expect.arrayContaining([
      "default-src 'none'",
      "script-src 'self'",
      "connect-src 'self'",
      "form-action 'none'",
      "frame-ancestors 'none'",
    ]),
  );
  // Styles that an element sets for itself, and no others.
  expect(policy.filter((directive) => directive.includes("unsafe"))).toEqual(["style-src-attr 'unsafe-inline'"]);
  expect(Object.keys(told).filter((name) => /^access-control|^x-powered-by$|^server$|^strict-transport/.test(name))).toEqual([]);
}

it("an internal error is logged, and not shown to the client", async () => {
  harness = await startDashboard();
  await harness.redis.set("{cme}:datadog:wait", "no list");
  const answer = await fetch(`${harness.url}/api/queues?activeQueue=datadog&status=latest&page=1&jobsPerPage=10`);
  expect(answer.status).toBe(500);
  expect(answer.headers.get("content-type")).toContain("application/json");
  const text = await answer.text();
  expect(text).toContain("see the dashboard's log");
  expect(text).not.toMatch(/WRONGTYPE|\bat /);
  expect(harness.log.join("")).toContain("WRONGTYPE");
});

it("an invalid request is refused without a stack trace", async () => {
  harness = await startDashboard();
  for (const path of ["/api/queues/%E0%A4%A", "/api/queues/datadog/1", "/api/queues/nowhere/1"]) {
    const answer = await fetch(harness.url + path);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.status).toBeLessThan(500);
    expect(await answer.text()).not.toMatch(/\n\s+at |node_modules/);
  }
});

it("a page contains a limited number of jobs, whatever is requested", async () => {
  harness = await startDashboard();
  await harness.queue("datadog").addBulk(Array.from({ length: 50 }, () => ({ name: "batch", data: { v: 1 } })));
  for (const query of ["page=1&jobsPerPage=1e9", "page=1&jobsPerPage=1&jobsPerPage=1000000000", "page=1&jobsPerPage=Infinity"]) {
    const answer = await fetch(`${harness.url}/api/queues?activeQueue=datadog&status=waiting&${query}`);
    const { queues } = (await answer.json()) as { queues?: { name: string; jobs: unknown[]; pagination: unknown }[] };
    const shown = queues?.find(({ name }) => name === "datadog");
    expect(shown).toMatchObject({ pagination: { pageCount: 3, range: { start: 0, end: 19 } } });
    expect(shown?.jobs).toHaveLength(20);
  }
  const far = await fetch(`${harness.url}/api/queues?activeQueue=datadog&status=waiting&page=1e300&jobsPerPage=10`);
  expect(far.status).toBe(200);
});

it("a person gets a page where a script gets JSON", async () => {
  harness = await startDashboard(CREDENTIALS);
  const page = await fetch(harness.url, { headers: { accept: "text/html" } });
  expect(page.headers.get("content-type")).toContain("text/html");
  expect(await page.text()).toContain("<h1>Login required</h1>");
  expectHeaders(page);
  const json = await fetch(`${harness.url}/api/queues`, { headers: { accept: "application/json, text/plain, */*" } });
  expect(json.status).toBe(401);
  expect(await json.json()).toHaveProperty("message");
});
