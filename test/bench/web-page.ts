/**
 * `pnpm bench:web-page [--seconds <n>] [--rounds <n>]`: what the web page costs a browser. First loads with four times less CPU, beside a blank
 * page's, because a busy machine slows both; then Tasks and Live while 2,000 events a second are written. Prints what it measured.
 */
import { taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { connectDatabase, migrate, rollUp, upsertTasks, type Database } from "@celery-metrics-exporter/db";
import { freePort, launchChromium, startPostgres, startProgram } from "@celery-metrics-exporter/testkit";
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { median, quantile } from "./report/figure.ts";

type Browser = Awaited<ReturnType<typeof launchChromium>>;
type Page = Awaited<ReturnType<Browser["newPage"]>>;

const WEB = fileURLToPath(new URL("../../apps/web/dist/bundle.js", import.meta.url));
const THROTTLING = 4;
const TASKS_A_SECOND = 500;
const BATCH_MS = 250;
/** From the start of a task to its end. */
const RUN_SECONDS = 0.5;
const ROLL_UP_MS = 5_000;
const NAMES = ["charge_card", "resize_image", "send_order_mail", "deliver_webhook"].map((name) => `shop.${name}`);

const { values } = parseArgs({ options: { seconds: { type: "string", default: "60" }, rounds: { type: "string", default: "5" } } });
const seconds = Number(values.seconds);
const rounds = Number(values.rounds);

type Events = Parameters<typeof upsertTasks>[1];

/** Tasks that begin now, as three events each, and their ends, which come later. */
function tasksOf(count: number, now: number): { readonly begins: Events; readonly ends: Events } {
  const tasks = Array.from({ length: count }, (_, index) => {
    const uuid = randomUUID();
    const name = NAMES[index % NAMES.length] ?? "";
    const at = now - (count - index) * (BATCH_MS / 1_000 / count);
    const hostname = `w${index % 4}@host`;
    const begins = [
      taskSent({ uuid, name, queue: "payments", hostname: "gen@host", timestamp: at - 0.02, args: "('upload/48216/IMG_0142.jpg', 1600)" }),
      taskReceived({ uuid, name, hostname, timestamp: at - 0.01 }),
      taskStarted({ uuid, hostname, timestamp: at }),
    ];
    return { begins, end: taskSucceeded({ uuid, hostname, timestamp: at + RUN_SECONDS, runtime: RUN_SECONDS, result: "'done'" }) };
  });
  return { begins: tasks.flatMap(({ begins }) => begins), ends: tasks.map(({ end }) => end) };
}

/** Writes events as the postgres-processor does, until it is stopped. @returns the rate that it reached, per second. */
async function write(database: Database, signal: AbortSignal): Promise<number> {
  const startedAt = Date.now();
  let [written, rolledUpAt] = [0, 0];
  let late: Events[] = [];
  for (let tick = 1; !signal.aborted; tick += 1) {
    const { begins, ends } = tasksOf((TASKS_A_SECOND * BATCH_MS) / 1_000, Date.now() / 1_000);
    late = [...late, ends];
    const due = late.length > (RUN_SECONDS * 1_000) / BATCH_MS ? (late.shift() ?? []) : [];
    await upsertTasks(database, [...begins, ...due], "unusual");
    written += begins.length + due.length;
    if (Date.now() - rolledUpAt > ROLL_UP_MS) {
      rolledUpAt = Date.now();
      await rollUp(database);
    }
    await sleep(Math.max(0, startedAt + tick * BATCH_MS - Date.now()));
  }
  return written / ((Date.now() - startedAt) / 1_000);
}

/** Notes in the page when its first row came, long tasks, and how old a finished task is when its row says so. */
const OBSERVER = `
  window.seen = { rowAt: 0, longTasks: [], ages: [], nodes: 0 };
  new PerformanceObserver((list) => seen.longTasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask", buffered: true });
  const ended = new Set();
  // A message that is sent in a frame comes after this frame was laid out and painted.
  const painted = new MessageChannel();
  painted.port1.onmessage = () => (seen.rowAt ||= performance.now());
  const look = () => {
    if (seen.rowAt === 0 && document.querySelector("[data-row]") !== null) requestAnimationFrame(() => painted.port2.postMessage(0));
    for (const row of document.querySelectorAll("[data-row]:has(.s-success)")) {
      if (ended.has(row.dataset.row)) continue;
      ended.add(row.dataset.row);
      if (location.pathname.endsWith("live")) seen.ages.push(Date.now() - Date.parse(row.querySelector("time").dateTime));
    }
    seen.nodes = Math.max(seen.nodes, document.querySelectorAll("*").length);
  };
  new MutationObserver(look).observe(document, { childList: true, subtree: true, characterData: true });`;

interface Seen {
  readonly rowAt: number;
  readonly longTasks: readonly number[];
  readonly ages: readonly number[];
  readonly nodes: number;
}

interface Load {
  readonly paint: number;
  readonly row: number;
}

const PAINT = `new Promise((resolve) => {
  const found = () => performance.getEntriesByName("first-contentful-paint")[0];
  if (found()) return resolve(found().startTime);
  new PerformanceObserver(() => found() && resolve(found().startTime)).observe({ type: "paint", buffered: true });
})`;

async function load(browser: Browser, url: string, hasRows: boolean): Promise<Load> {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.addInitScript(OBSERVER);
  const session = await context.newCDPSession(page);
  await session.send("Emulation.setCPUThrottlingRate", { rate: THROTTLING });
  await page.goto(url);
  const paint = await page.evaluate<number>(PAINT);
  if (hasRows) await page.locator("[data-row]").first().waitFor();
  await sleep(100);
  const { rowAt } = await page.evaluate<Seen>("seen");
  await context.close();
  return { paint, row: rowAt };
}

function print(what: string, measured: string, goal = ""): void {
  process.stdout.write(`${what.padEnd(44)}${measured.padStart(12)}${goal === "" ? "" : `   goal ${goal}`}\n`);
}

async function firstLoads(browser: Browser, site: string): Promise<void> {
  const blank = createServer((_request, response) => response.setHeader("content-type", "text/html").end("<!doctype html><p>Nothing</p>"));
  await new Promise<void>((resolve) => blank.listen(0, "127.0.0.1", resolve));
  const { port } = blank.address() as { port: number };
  const loads: { readonly blank: Load; readonly page: Load }[] = [];
  try {
    await load(browser, `${site}tasks`, true);
    for (let round = 0; round < rounds; round += 1)
      loads.push({ blank: await load(browser, `http://127.0.0.1:${port}/`, false), page: await load(browser, `${site}tasks`, true) });
  } finally {
    blank.close();
  }
  const paintOfBlank = median(loads.map((each) => each.blank.paint));
  const paint = median(loads.map((each) => each.page.paint));
  const row = median(loads.map((each) => each.page.row));
  print(`First paint of a blank page, CPU / ${THROTTLING}`, `${paintOfBlank.toFixed(0)} ms`);
  print("First paint of Tasks", `${paint.toFixed(0)} ms`, "400 ms");
  print("  as many times a blank page's", (paint / paintOfBlank).toFixed(1));
  print("List of Tasks shown", `${row.toFixed(0)} ms`, "700 ms");
  print("  as many times a blank page's paint", (row / paintOfBlank).toFixed(1));
}

async function usedHeap(page: Page): Promise<number> {
  const session = await page.context().newCDPSession(page);
  await session.send("HeapProfiler.collectGarbage");
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  await session.detach();
  return usedSize / 1e6;
}

const WARM_UP_MS = 8_000;

async function underLoad(browser: Browser, database: Database, site: string, path: string): Promise<void> {
  const stopping = new AbortController();
  const writing = write(database, stopping.signal);
  const context = await browser.newContext({ viewport: { width: 1_440, height: 900 } });
  try {
    const page = await context.newPage();
    await page.addInitScript(OBSERVER);
    await page.goto(`${site}${path}`);
    await sleep(WARM_UP_MS);
    const before = await usedHeap(page);
    await page.evaluate("Object.assign(seen, { longTasks: [], ages: [] })");
    // As somebody who looks at what is new every two seconds.
    await page.evaluate("void setInterval(() => document.querySelector('.newrows')?.click(), 2_000)");
    await sleep(seconds * 1_000);
    const { longTasks, ages, nodes } = await page.evaluate<Seen>("seen");
    const grown = (await usedHeap(page)) - before;
    stopping.abort();
    process.stdout.write(`\n${path}, for ${seconds} s at ${(await writing).toFixed(0)} events/s\n`);
    print("Longest browser task", `${Math.max(0, ...longTasks).toFixed(0)} ms`, "100 ms");
    print("Time in tasks over 50 ms", `${(longTasks.reduce((sum, each) => sum + each, 0) / seconds / 10).toFixed(1)} %`);
    print("Most elements", String(nodes), "2500");
    print("Growth of the heap", `${grown.toFixed(1)} MB`, "10 MB");
    if (ages.length > 0) print("Age of an end when it is shown, p99", `${(quantile(ages, 0.99) / 1_000).toFixed(1)} s`, "2.5 s");
  } finally {
    stopping.abort();
    await writing.catch(() => {});
    await context.close();
  }
}

const postgres = await startPostgres({});
const databaseUrl = postgres.url;
await migrate(databaseUrl);
const database = await connectDatabase({ url: databaseUrl, poolSize: 2 });
const port = await freePort();
const web = startProgram(process.execPath, [WEB], { env: { DATABASE_URL: databaseUrl, WEB_PORT: String(port), HEALTH_PORT: "0" } });
const browser = await launchChromium();
try {
  const site = `http://127.0.0.1:${port}/`;
  const filled = tasksOf(5_000, Date.now() / 1_000);
  await upsertTasks(database, [...filled.begins, ...filled.ends], "unusual");
  await rollUp(database, { all: true });
  while (
    !(await fetch(`${site}api/v1/me`).then(
      ({ ok }) => ok,
      () => false,
    ))
  )
    await sleep(100);
  await firstLoads(browser, site);
  for (const path of ["tasks", "live"]) await underLoad(browser, database, site, path);
} finally {
  await browser.close();
  web.signal("SIGTERM");
  await web.exitCode;
  await database.close();
  await postgres.stop();
}
