import { launchChromium } from "@celery-metrics-exporter/testkit";
import { encodeBatch } from "@celery-metrics-exporter/pipeline";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startDashboard, stopRedis, type Harness } from "./harness.ts";

type Browser = Awaited<ReturnType<typeof launchChromium>>;

let browser: Browser;
let harness: Harness;

beforeAll(async () => {
  harness = await startDashboard();
  browser = await launchChromium();
});
afterAll(async () => {
  await browser?.close();
  await harness?.stop();
  await stopRedis();
});

it("shows the queues and their jobs, complains of nothing and loads nothing from elsewhere", async () => {
  const event = { type: "task-received", hostname: "celery@a", timestamp: 1, uuid: "u1", name: "shop.pay", args: "('4111 1111',)" };
  const jobs = Array.from({ length: 7 }, () => ({ name: "batch", data: encodeBatch({ broker: "redis", events: [event] }) }));
  await harness.queue("datadog").addBulk(jobs);
  await harness.queue("dead-letter").add("body", { source: "receiver", reason: "body", detail: "4111 1111", raw: "4111 1111" });
  const page = await browser.newPage();
  const complaints: string[] = [];
  const requested: string[] = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => requested.push(new URL(request.url()).origin));

  await page.goto(harness.url);
  for (const name of ["datadog", "postgres", "dead-letter"]) await page.getByRole("link", { name, exact: true }).first().waitFor();
  await page.getByText("7 Jobs").waitFor();
  expect(await page.title()).toBe("Celery metrics");

  await page.goto(`${harness.url}/queue/datadog/1`);
  await page.getByText("broker").first().waitFor();
  await page.goto(`${harness.url}/queue/dead-letter`);
  await page.getByText("receiver").first().waitFor();
  expect(await page.content()).not.toContain("4111");
  expect(complaints).toEqual([]);
  expect(new Set(requested)).toEqual(new Set([harness.url]));
});
