import { launchChromium } from "@celery-metrics-exporter/testkit";
import { encodeBatch } from "@celery-metrics-exporter/pipeline";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { CREDENTIALS, startDashboard, stopRedis, type Harness } from "./harness.ts";

type Browser = Awaited<ReturnType<typeof launchChromium>>;
type Page = Awaited<ReturnType<Browser["newPage"]>>;

let browser: Browser;
let harness: Harness;
let page: Page;
let complaints: string[];
let requested: Set<string>;

beforeAll(async () => {
  browser = await launchChromium();
});
afterEach(async () => {
  await page.context().close();
  await harness.stop();
});
afterAll(async () => {
  await browser?.close();
  await stopRedis();
});

/** Chromium's advice about preloaded files depends on how fast the machine is. */
function isComplaint(type: string, text: string): boolean {
  return ["error", "warning"].includes(type) && !text.includes("preloaded using link preload");
}

/** The dashboard with some jobs, and a browser that knows the login. */
async function open(settings: Readonly<Record<string, string>> = {}, { withLogin = true } = {}): Promise<void> {
  harness = await startDashboard({ ...CREDENTIALS, ...settings });
  const event = { type: "task-received", hostname: "celery@a", timestamp: 1, uuid: "u1", name: "shop.pay", args: "('4111 1111',)" };
  const jobs = Array.from({ length: 7 }, () => ({ name: "batch", data: encodeBatch({ broker: "redis", events: [event] }) }));
  await harness.queue("datadog").addBulk(jobs);
  await harness.queue("dead-letter").add("body", { source: "receiver", reason: "body", detail: "the body is not JSON", raw: "4111 1111" });
  const { DASHBOARD_USERNAME: username, DASHBOARD_PASSWORD: password } = CREDENTIALS;
  const context = await browser.newContext(withLogin ? { httpCredentials: { username, password } } : {});
  page = await context.newPage();
  page.setDefaultTimeout(15_000);
  complaints = [];
  requested = new Set();
  page.on("console", (message) => isComplaint(message.type(), message.text()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => requested.add(new URL(request.url()).origin));
}

it("shows the queues, their jobs and the dead letters with their reason, reports no error and loads nothing from elsewhere", async () => {
  await open();
  await page.goto(harness.url);
  for (const name of ["datadog", "dead-letter"]) await page.getByRole("link", { name, exact: true }).first().waitFor();
  await page.getByText("7 Jobs").waitFor();
  expect(await page.title()).toBe("Exporter queues");
  // The version is bull-board's.
  const foot = "getComputedStyle(document.querySelector('a[href*=bull-board]'), '::before').content";
  expect(await page.evaluate(foot)).toBe('"bull-board"');

  await page.goto(`${harness.url}/queue/datadog/1`);
  await page.getByText("broker").first().waitFor();
  for (const tab of ["Progress", "Options", "Logs", "Error"]) await page.getByText(tab, { exact: true }).first().click();
  await page.goto(`${harness.url}/queue/dead-letter`);
  await page.getByText("receiver").first().waitFor();
  expect(await page.content()).toContain("the body is not JSON");
  expect(await page.content()).not.toContain("4111 1111");
  expect(complaints).toEqual([]);
  expect(requested).toEqual(new Set([harness.url]));
});

it.each(["/", "/queue/datadog/1?x=y"])("works with the login in the address: %s", async (path) => {
  await open({}, { withLogin: false });
  const address = new URL(harness.url + path);
  address.username = CREDENTIALS.DASHBOARD_USERNAME;
  address.password = CREDENTIALS.DASHBOARD_PASSWORD;
  await page.goto(address.href);
  await page
    .getByText(path === "/" ? "7 Jobs" : "broker")
    .first()
    .waitFor();
  expect(await page.evaluate("document.URL")).toBe(harness.url + path);
  expect(complaints).toEqual([]);
});

it("makes changes if it may, and reports no error", async () => {
  await open({ DASHBOARD_READ_ONLY: "false" });
  const queue = harness.queue("datadog");
  await page.goto(`${harness.url}/queue/datadog`);
  await page.getByText("batch", { exact: true }).first().waitFor();
  await page.locator('button[aria-haspopup="menu"]').last().click();
  await page.getByRole("menuitem", { name: "Pause" }).click();
  await page.getByRole("button", { name: "Confirm" }).click();
  await expect.poll(() => queue.isPaused(), { timeout: 15_000 }).toBe(true);
  expect(complaints).toEqual([]);
});
