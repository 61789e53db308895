import { afterAll, afterEach, describe, expect, it } from "vitest";
import { CREDENTIALS, authorization, startDashboard, stopRedis, type Harness } from "./harness.ts";

let harness: Harness;

afterEach(() => harness.stop());
afterAll(stopRedis);

const RIGHT = authorization("ops", "correct horse: battery");

async function answer(headers: Record<string, string>): Promise<Response> {
  return fetch(harness.url, { headers });
}

/** The statuses of this many wrong logins, one after the other. */
async function guess(times: number, headers: (attempt: number) => Record<string, string> = () => ({})): Promise<number[]> {
  const statuses: number[] = [];
  for (let attempt = 0; attempt < times; attempt++) {
    statuses.push((await answer({ ...authorization("ops", `guess ${attempt}`), ...headers(attempt) })).status);
  }
  return statuses;
}

describe("the login", () => {
  it.each(["/", "/api/queues", "/static/favicon.ico", "/nowhere"])("is required at %s", async (path) => {
    harness = await startDashboard(CREDENTIALS);
    const anonymous = await fetch(harness.url + path);
    expect(anonymous.status).toBe(401);
    expect(anonymous.headers.get("www-authenticate")).toContain("Basic");
    for (const wrong of [authorization("ops", "correct horse"), authorization("op", "correct horse: battery"), authorization("", "")]) {
      expect((await fetch(harness.url + path, { headers: wrong })).status).toBe(401);
    }
    expect((await fetch(harness.url + path, { headers: RIGHT })).status).toBe(path === "/nowhere" ? 404 : 200);
  });

  it("is required for every method, and before anything is done", async () => {
    harness = await startDashboard({ ...CREDENTIALS, DASHBOARD_READ_ONLY: "false" });
    await harness.queue("datadog").add("batch", { v: 1 });
    const clean = await fetch(`${harness.url}/api/queues/datadog/1/clean`, { method: "PUT", headers: { origin: harness.url } });
    expect(clean.status).toBe(401);
    expect(await harness.queue("datadog").count()).toBe(1);
  });

  it.each(["Basic", "Basic ", "Basic !", "Bearer abc", `Basic ${Buffer.from("ops").toString("base64")}`, "Basic b3BzOg=="])(
    "is not %j",
    async (header) => {
      harness = await startDashboard(CREDENTIALS);
      expect((await answer({ authorization: header })).status).toBe(401);
    },
  );

  it("checks at most ten wrong ones a minute from one address, and says when to retry", async () => {
    harness = await startDashboard(CREDENTIALS);
    expect(await guess(12)).toEqual([...Array<number>(10).fill(401), 429, 429]);
    const right = await answer(RIGHT);
    expect(right.status).toBe(429);
    const seconds = Number(right.headers.get("retry-after"));
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(60);
    expect(await right.text()).toContain("Too many wrong logins");
  });

  it("checks no more if they arrive all at once", async () => {
    harness = await startDashboard(CREDENTIALS);
    const answers = await Promise.all(Array.from({ length: 40 }, (_, attempt) => answer(authorization("ops", `guess ${attempt}`))));
    expect(answers.filter(({ status }) => status === 401)).toHaveLength(10);
  });

  it("does not trust a client that claims other addresses", async () => {
    harness = await startDashboard(CREDENTIALS);
    const forwarded = await guess(12, (attempt) => ({ "x-forwarded-for": `203.0.113.${attempt}`, "x-real-ip": `203.0.113.${attempt}` }));
    expect(forwarded.slice(10)).toEqual([429, 429]);
  });

  it("checks at most a hundred wrong ones a minute in total, but still works for addresses where it was right before", async () => {
    harness = await startDashboard({ ...CREDENTIALS, DASHBOARD_TRUSTED_PROXIES: "127.0.0.1" });
    const known = { ...RIGHT, "x-forwarded-for": "198.51.100.1" };
    expect((await answer(known)).status).toBe(200);
    const statuses = await guess(101, (attempt) => ({ "x-forwarded-for": `203.0.113.${attempt}` }));
    expect(statuses).toEqual([...Array<number>(100).fill(401), 429]);
    expect((await answer({ ...RIGHT, "x-forwarded-for": "192.0.2.1" })).status).toBe(429);
    expect((await answer(known)).status).toBe(200);
  });

  it("counts the addresses of an IPv6 network as one", async () => {
    harness = await startDashboard({ ...CREDENTIALS, DASHBOARD_TRUSTED_PROXIES: "127.0.0.1" });
    const statuses = await guess(11, (attempt) => ({ "x-forwarded-for": `2001:db8::${attempt + 1}` }));
    expect(statuses.at(-1)).toBe(429);
  });

  it("may be right any number of times", async () => {
    harness = await startDashboard(CREDENTIALS);
    for (let attempt = 0; attempt < 15; attempt++) expect((await answer(RIGHT)).status).toBe(200);
  });

  it("is logged if it is wrong, with the address but without the attempted login", async () => {
    harness = await startDashboard(CREDENTIALS);
    await answer(authorization("hunter1", "hunter2"));
    const log = harness.log.join("");
    expect(log).toContain("wrong login for the dashboard");
    expect(log).toContain("127.0.0.1");
    expect(log).not.toMatch(/hunter|aHVudGVy|correct horse/);
  });
});
