/** A database with tasks, workers and queues, and a browser that looks at them. */
import { taskFailed, taskReceived, taskRetried, taskSent, taskStarted } from "@celery-metrics-exporter/celery/testing";
import { connectDatabase, rollUp, upsertTasks } from "@celery-metrics-exporter/db";
import { launchChromium } from "@celery-metrics-exporter/testkit";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll } from "vitest";
import { minutesAgo, type Harness, type TaskFields } from "./harness.ts";

type Browser = Awaited<ReturnType<typeof launchChromium>>;
type Context = Awaited<ReturnType<Browser["newContext"]>>;
export type Page = Awaited<ReturnType<Browser["newPage"]>>;

interface Look {
  readonly width?: number;
  readonly path?: string;
  /** In a browser of its own, which nobody used before. */
  readonly isNew?: boolean;
}

export interface Viewer {
  /** Opens a page of the web page, in the light theme. They share their files. */
  open(url: string, look?: Look): Promise<Page>;
  /** Errors on the console, exceptions and refused files. */
  readonly complaints: readonly string[];
  /** Origins that were asked. */
  readonly origins: ReadonlySet<string>;
}

const HEIGHT = 900;

export function useBrowser(): Viewer {
  let browser: Browser;
  const complaints: string[] = [];
  const origins = new Set<string>();
  let shared: Context;
  /** Keeps the window of its context open: a new window takes a second of CPU time. */
  let blank: Page;
  beforeAll(async () => {
    // All pages in one process: a new one takes 0.3 s of CPU time, and compiles every script again. With site isolation the blank page, which
    // keeps the process, would not share its own.
    browser = await launchChromium(["--renderer-process-limit=1", "--disable-site-isolation-trials"]);
    shared = await browser.newContext();
    blank = await shared.newPage();
  });
  afterEach(async () => {
    for (const context of browser.contexts()) {
      if (context !== shared) await context.close();
      else for (const page of context.pages()) if (page !== blank) await page.close();
    }
    complaints.length = 0;
    origins.clear();
  });
  afterAll(() => browser?.close());
  return {
    complaints,
    origins,
    open: async (url, { width = 1_440, path = "", isNew = false } = {}) => {
      const context = isNew ? await browser.newContext() : shared;
      const page = await context.newPage();
      await resize(page, width);
      page.setDefaultTimeout(15_000);
      page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
      page.on("pageerror", (error) => complaints.push(String(error)));
      page.on("dialog", (dialog) => complaints.push(`a dialog: ${dialog.message()}`));
      page.on("request", (request) => origins.add(new URL(request.url()).origin));
      await page.goto(`${url}${path}`);
      await page.locator("main h1, main .crumb").first().waitFor();
      return page;
    },
  };
}

export async function resize(page: Page, width: number): Promise<void> {
  await page.setViewportSize({ width, height: HEIGHT });
}

/** Resolves when everything on the page was answered and drawn. */
export async function settle(page: Page): Promise<void> {
  await page.locator("main .loading, main [aria-busy=true]").first().waitFor({ state: "detached" });
  await page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))");
}

const SCREENSHOTS = new URL("../../../.data/screenshots/", import.meta.url).pathname;

/** Only if somebody wants to look at them: they take a tenth of the time. */
export async function keepScreenshot(page: Page, name: string): Promise<void> {
  if (process.env["SCREENSHOTS"] !== "1") return;
  await mkdir(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });
}

const TRACEBACK = `Traceback (most recent call last):
  File "/srv/venv/lib/python3.12/site-packages/celery/app/trace.py", line 585, in trace_task
    R = retval = fun(*args, **kwargs)
  File "/srv/shop/tasks.py", line 88, in charge_card
    receipt = gateway.charge(order)
  File "/srv/shop/gateway.py", line 41, in charge
    response = self.http.post("/v2/charges")
shop.errors.PaymentGatewayTimeout: read timed out after 10 s
`;

export const FAILED = "7d0b3c1e-52fa-4b0e-9a6c-f3c1d08e9b27";
export const ROOT = "f2a61b90-0000-4000-8000-000000000001";
/** Sent by the last of the root's many tasks, as the body of a chord. */
export const BODY = "b0d70000-0000-4000-8000-000000000000";
/** Among those images, one that was resized. */
export const PART = "0a0a0a0a-0010-4000-8000-000000000000";
/** A client sent it. */
export const FAILED_ALONE = "00000004-1111-4000-8000-000000000000";
const BIG = "12345678901234567890123";

const STATUSES = ["SUCCESS", "SUCCESS", "SUCCESS", "SUCCESS", "FAILURE", "STARTED", "RECEIVED", "PENDING", "RETRY", "REVOKED", "REJECTED"];
const NAMES = ["shop.charge_card", "shop.resize_image", "shop.send_order_mail", "shop.deliver_webhook"];
const QUEUES = ["payments", "images", "mail", null];

function isFailed(status: string): boolean {
  return status === "FAILURE" || status === "RETRY";
}

/** Tasks of every status, a tree with a task that failed on its third attempt, and many siblings. */
function sceneTasks(): TaskFields[] {
  const many = Array.from({ length: 120 }, (_, index): TaskFields => {
    const status = STATUSES[index % STATUSES.length] ?? "SUCCESS";
    return {
      id: `${index.toString(16).padStart(8, "0")}-1111-4000-8000-000000000000`,
      name: NAMES[index % NAMES.length] ?? null,
      queue: QUEUES[index % QUEUES.length] ?? null,
      worker: status === "PENDING" ? null : index % 2 === 0 ? "pay-1@atlas" : "img-1@corvo",
      status,
      at: minutesAgo(index * 1.3 + 0.5),
      args: "('upload/48216/IMG_0142.jpg', 1600)",
      kwargs: `{'order_id': ${48_000 + index}, 'customer_id': 1234}`,
      runtime: 0.05 + (index % 9) / 4,
      ...(isFailed(status) && { exception: `StockConflict('SKU ${index}: expected 4, found 3')`, traceback: TRACEBACK }),
    };
  });
  const root: TaskFields = { id: ROOT, name: "shop.place_order", queue: "payments", worker: "pay-1@atlas", at: minutesAgo(3), root: ROOT };
  const failed: TaskFields = {
    id: FAILED,
    name: "shop.charge_card",
    queue: "payments",
    worker: "pay-1@atlas",
    status: "FAILURE",
    at: minutesAgo(2.5),
    retries: 2,
    root: ROOT,
    parent: ROOT,
    args: "()",
    kwargs: `{'order_id': ${BIG}, 'currency': 'EUR', 'items': [{'sku': 88213, 'qty': 1, 'price': '89.90'}, {'sku': 50417, 'qty': 2, 'price': '30.00'}], 'shipping': '...`,
    args_json: "[]",
    kwargs_json: `{"order_id": ${BIG}, "currency": "EUR", "express": true, "note": null, "items": [{"sku": 88213, "qty": 1, "price": "89.90"}, {"sku": 50417, "qty": 2, "price": "30.00"}]}`,
    exception: "PaymentGatewayTimeout('read timed out after 10 s')",
    traceback: TRACEBACK,
  };
  const siblings = Array.from({ length: 30 }, (_, index): TaskFields => ({
    id: `0a0a0a0a-${index.toString().padStart(4, "0")}-4000-8000-000000000000`,
    name: "shop.resize_image",
    queue: "images",
    worker: "img-1@corvo",
    status: index < 3 ? "FAILURE" : "SUCCESS",
    at: minutesAgo(2.8),
    root: ROOT,
    parent: ROOT,
    ...(index < 3 && { exception: "UnidentifiedImageError('cannot identify image file')", traceback: TRACEBACK }),
  }));
  const body: TaskFields = {
    id: BODY,
    name: "shop.pack_album",
    queue: "images",
    worker: "img-1@corvo",
    at: minutesAgo(2.6),
    root: ROOT,
    parent: siblings.at(-1)?.id ?? null,
  };
  return [...many, root, failed, ...siblings, body];
}

/** Failed on its third attempt, each time for another reason. */
export const RETRIED = "5eed0001-0000-4000-8000-000000000000";
/** It runs on a worker that is gone. */
export const LOST = "5eed0002-0000-4000-8000-000000000000";

function tracebackOf(line: string): string {
  return `Traceback (most recent call last):\n  File "/srv/shop/tasks.py", line 31, in import_feed\n    feed = read(url)\n${line}\n`;
}

/** As the postgres-processor stores it: what a row cannot show is in `celery_task_event`. */
async function storeAttempts({ databaseUrl }: Harness): Promise<void> {
  const now = Date.now() / 1_000;
  const ago = (seconds: number): { timestamp: number } => ({ timestamp: now - seconds });
  const pay1 = { hostname: "pay-1@atlas" };
  const img1 = { hostname: "img-1@corvo" };
  const delos = { hostname: "img-3@delos" };
  const sender = { hostname: "web-1@atlas" };
  const [uuid, name] = [RETRIED, "shop.import_feed"];
  const database = await connectDatabase({ url: databaseUrl, poolSize: 2 });
  const events = [
    taskSent({ uuid, name, queue: "payments", retries: 0, args: "('https://example.com/feed.xml',)", ...sender, ...ago(402) }),
    taskReceived({ uuid, name, retries: 0, ...pay1, ...ago(401.8) }),
    taskStarted({ uuid, ...pay1, ...ago(401.5) }),
    taskRetried({
      uuid,
      ...pay1,
      ...ago(391.5),
      exception: "FeedTimeout('no answer after 10 s')",
      traceback: tracebackOf("FeedTimeout: no answer after 10 s"),
    }),
    taskReceived({ uuid, name, retries: 1, ...img1, ...ago(391) }),
    taskStarted({ uuid, ...img1, ...ago(371) }),
    taskRetried({
      uuid,
      ...img1,
      ...ago(368),
      exception: "DiskFull('no space left on /srv/feeds')",
      traceback: tracebackOf("DiskFull: no space left on /srv/feeds"),
    }),
    taskReceived({ uuid, name, retries: 2, ...pay1, ...ago(367) }),
    taskStarted({ uuid, ...pay1, ...ago(330) }),
    taskFailed({ uuid, ...pay1, ...ago(329), exception: "BadFeed('line 7')", traceback: tracebackOf("BadFeed: line 7") }),
    taskSent({ uuid: LOST, name: "shop.render_video", queue: "images", retries: 0, ...sender, ...ago(800) }),
    taskReceived({ uuid: LOST, name: "shop.render_video", retries: 0, ...delos, ...ago(799) }),
    taskStarted({ uuid: LOST, ...delos, ...ago(798) }),
  ];
  await upsertTasks(database, events, "unusual").finally(() => database.close());
}

const INSERT_WORKER = `
  insert into celery_worker (hostname, heard_at, last_event_at, last_event_type, online_at, heartbeat_at, freq, active, processed, loadavg, pid,
    sw_ident, sw_ver, sw_sys, first_seen_at, queues, queues_at, pool, concurrency, stats_at)
  select name, now() - silent * interval '1 second', now(), type, now() - interval '2 days', now(), 2, active, processed, '{3.1,2.9,2.7}', 4402, 'py-celery',
    '5.6.3', 'Linux', now() - interval '3 days', queues, observed, pool, concurrency, observed
  from json_to_recordset($1) as t (name text, silent float8, type text, active int, processed bigint, queues text[], pool text, concurrency int, observed timestamptz)`;

const PREFORK = "celery.concurrency.prefork:TaskPool";

/** One that is up and answers the monitor, one that is lost, one that said goodbye, and one without events of tasks. */
export async function insertScene(harness: Harness): Promise<void> {
  const { client } = harness;
  await harness.insert(sceneTasks());
  const observed = new Date().toISOString();
  const workers = [
    {
      name: "pay-1@atlas",
      silent: 0,
      type: "worker-heartbeat",
      active: 7,
      processed: 184_212,
      queues: ["payments"],
      pool: PREFORK,
      concurrency: 8,
      observed,
    },
    { name: "img-1@corvo", silent: 0, type: "worker-heartbeat", active: 3, processed: 4_212 },
    { name: "img-3@delos", silent: 720, type: "worker-heartbeat", active: 4, processed: 88_120 },
    { name: "export-1@delos", silent: 5_400, type: "worker-offline", active: 0, processed: 412 },
    { name: "search-1@delos", silent: 0, type: "worker-heartbeat", active: 2, processed: 9_120 },
  ];
  await client.query(INSERT_WORKER, [JSON.stringify(workers)]);
  await client.query("insert into celery_listening (source, until, enough_until) values ('broker', now(), now())");
  await client.query(`
    insert into celery_queue_minute (minute, queue, observed_at, messages, messages_max, consumers, unacked, oldest_at)
    select date_trunc('minute', now()) - age * interval '1 minute', queue, now() - age * interval '1 minute',
      case when queue <> '' then 400 - age * growth end, case when queue <> '' then 400 - age * growth end, null,
      case when queue = '' then 31 end, case when queue = '' then now() - interval '5 minutes' end
    from generate_series(0, 90) age, (values ('payments', 0), ('images', 4), ('exports', 0), ('', 0)) queues (queue, growth)`);
  await storeAttempts(harness);
  await countTasks(harness);
}

/** Heartbeats of those that are up, while a receiver listens: tests may take longer than workers may be silent. */
export async function beatHearts({ client }: Harness): Promise<void> {
  await client.query("update celery_worker set heard_at = now() where last_event_type = 'worker-heartbeat' and hostname <> 'img-3@delos'");
  await client.query("update celery_listening set until = now(), enough_until = now(), stored_at = now()");
}

/** What the postgres-processor does every few seconds, also after tests have deleted tasks. */
export async function countTasks({ client, databaseUrl }: Harness): Promise<void> {
  // Rows of tests are inserted without the notes that the processor writes.
  await client.query(
    "insert into celery_task_minute_dirty (minute) select date_trunc('minute', seen_at) from celery_task union select minute from celery_task_minute",
  );
  const database = await connectDatabase({ url: databaseUrl, poolSize: 2 });
  await rollUp(database, { all: true }).finally(() => database.close());
}
