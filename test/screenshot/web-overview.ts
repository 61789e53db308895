/**
 * `pnpm docs:screenshot [--keep]`: takes the screenshot of the README, of the web page over a made-up day of a shop. With `--keep`, the page stays
 * open until Ctrl-C.
 */
import { connectDatabase, migrate, rollUp } from "@celery-metrics-exporter/db";
import { freePort, launchChromium, seededRandom, startPostgres, startProgram } from "@celery-metrics-exporter/testkit";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Client } from "pg";

const WEB = fileURLToPath(new URL("../../apps/web/dist/bundle.js", import.meta.url));
const IMAGE = fileURLToPath(new URL("../../docs/images/web-overview.png", import.meta.url));
const SIZE = { width: 1_280, height: 1_000 };
const DAY_MINUTES = 1_440;
/** When the payment gateway answered late. */
const INCIDENT = { from: 85, to: 57 };

const random = seededRandom(7);

/** About 1 on average, and never very far from it. */
function around(value: number): number {
  return value * (0.4 + random() * 0.6 + random() * 0.6);
}

interface TaskType {
  readonly name: string;
  readonly queue: string | null;
  readonly workers: readonly string[];
  /** Of 100 tasks. */
  readonly share: number;
  /** Seconds. */
  readonly runtime: number;
  readonly failures: number;
  readonly exception: string;
  readonly kwargs: (order: number) => string;
}

const TYPES: readonly TaskType[] = [
  {
    name: "shop.charge_card",
    queue: "payments",
    workers: ["pay-1@atlas", "pay-2@borea"],
    share: 18,
    runtime: 0.9,
    failures: 0.004,
    exception: "PaymentGatewayTimeout('read timed out after 10 s')",
    kwargs: (order) => `{'order_id': ${order}, 'customer_id': ${(order * 7) % 9_000}, 'amount': '${(order % 200) + 9}.90'}`,
  },
  {
    name: "shop.resize_image",
    queue: "images",
    workers: ["img-1@corvo", "img-2@corvo"],
    share: 34,
    runtime: 0.8,
    failures: 0.006,
    exception: "UnidentifiedImageError('cannot identify image file')",
    kwargs: (order) => `{'path': 'upload/${order}/IMG_0142.jpg', 'width': 1600, 'quality': 80}`,
  },
  {
    name: "shop.send_order_mail",
    queue: "mail",
    workers: ["mail-1@atlas", "mail-2@borea"],
    share: 20,
    runtime: 0.2,
    failures: 0.001,
    exception: "SMTPRecipientsRefused({'n.n@mail.example': (550, b'no such user')})",
    kwargs: (order) => `{'order_id': ${order}, 'kind': 'confirmation'}`,
  },
  {
    name: "shop.deliver_webhook",
    queue: "webhooks",
    workers: ["hooks-1@atlas"],
    share: 15,
    runtime: 0.6,
    failures: 0.008,
    exception: "HTTPError('503 Service Unavailable: hooks.partner.example')",
    kwargs: (order) => `{'event': 'order.paid', 'order_id': ${order}}`,
  },
  {
    name: "shop.reindex_product",
    queue: "search",
    workers: ["search-1@delos"],
    share: 10,
    runtime: 0.3,
    failures: 0.0005,
    exception: "KeyError('price_net')",
    kwargs: (order) => `{'sku': ${order}, 'reason': 'price'}`,
  },
  {
    name: "shop.sync_stock",
    queue: null,
    workers: ["stock-1@borea"],
    share: 3,
    runtime: 2.4,
    failures: 0.02,
    exception: "StockConflict('SKU 88213: expected 4, found 3')",
    kwargs: (order) => `{'sku': ${order}, 'warehouse': 'HAM-2'}`,
  },
];

/** How busy the shop is: little at night, and a wave in between. */
function tasksIn(minute: number): number {
  const day = 0.62 - 0.38 * Math.cos(((DAY_MINUTES - minute + 200) / DAY_MINUTES) * 2 * Math.PI);
  const isSlow = minute < INCIDENT.from && minute > INCIDENT.to;
  return Math.round((150 * day + 14 * Math.sin(minute / 17) + random() * 12) * (isSlow ? 0.75 : 1));
}

function* dayOfTasks(now: number): Generator<object> {
  const all = TYPES.flatMap((type) => Array.from({ length: type.share }, () => type));
  let order = 48_000;
  for (let minute = DAY_MINUTES; minute >= 0; minute -= 1) {
    for (let count = tasksIn(minute); count > 0; count -= 1) {
      order += 1;
      const at = now - minute * 60_000 - random() * 60_000;
      const type = all[Math.floor(random() * all.length)] ?? all[0];
      if (type === undefined || at > now - 500) continue;
      const isLate = type.queue === "payments" && minute < INCIDENT.from && minute > INCIDENT.to;
      const wait = around(type.queue === "images" ? 0.2 + Math.max(0, 120 - minute) / 4 : 0.12);
      const runtime = around(isLate ? 9 : type.runtime);
      const begun = at + wait * 1_000;
      const ended = begun + runtime * 1_000;
      const isFailed = random() < (isLate ? 0.45 : type.failures);
      const status =
        begun > now ? "PENDING" : ended > now ? "STARTED" : isFailed ? "FAILURE" : isLate && random() < 0.3 ? "RETRY" : "SUCCESS";
      const hasFailed = status === "FAILURE" || status === "RETRY";
      yield {
        id: `${order.toString(16).padStart(8, "0")}-${Math.floor(random() * 0xffff)
          .toString(16)
          .padStart(4, "0")}-4000-8000-${Math.floor(at).toString(16).padStart(12, "0")}`,
        name: type.name,
        queue: type.queue,
        worker: status === "PENDING" ? null : type.workers[order % type.workers.length],
        status,
        sent: type.queue === null ? null : new Date(at).toISOString(),
        started: status === "PENDING" ? null : new Date(begun).toISOString(),
        ended: new Date(status === "PENDING" ? at : Math.min(ended, now)).toISOString(),
        kwargs: type.kwargs(order),
        runtime: status === "SUCCESS" ? runtime : null,
        exception: hasFailed ? type.exception : null,
        is_final: status === "SUCCESS" || status === "FAILURE",
      };
    }
  }
}

const INSERT_TASKS = `
  insert into celery_task (task_id, root_id, name, queue, worker, status, sent_at, received_at, started_at, run_started_at, run_hostname, state_at, last_event_at,
    state_precedence, state_rank, state_hostname, args, kwargs, runtime, exception, retries, updated_at)
  select id, id, name, queue, worker, status, sent, sent, started, started, worker, ended, ended, case when is_final then 2 else 1 end, 1,
    coalesce(worker, 'web-1@atlas'), '()', kwargs, runtime, exception, 0, ended + interval '0.4 second'
  from json_to_recordset($1) as t (id text, name text, queue text, worker text, status text, sent timestamptz, started timestamptz, ended timestamptz,
    kwargs text, runtime float8, exception text, is_final boolean)`;

const WORKERS: readonly (readonly [name: string, queue: string, slots: number, active: number, silentSeconds?: number, type?: string])[] = [
  ["img-3@delos", "images", 16, 4, 720],
  ["pay-1@atlas", "payments", 8, 7],
  ["pay-2@borea", "payments", 8, 8],
  ["mail-1@atlas", "mail", 20, 3],
  ["mail-2@borea", "mail", 20, 2],
  ["img-1@corvo", "images", 16, 16],
  ["img-2@corvo", "images", 16, 15],
  ["search-1@delos", "search", 12, 5],
  ["hooks-1@atlas", "webhooks", 32, 21],
  ["stock-1@borea", "default", 4, 1],
  ["export-1@delos", "exports", 4, 0, 5_400, "worker-offline"],
];

const INSERT_WORKERS = `
  insert into celery_worker (hostname, heard_at, last_event_at, last_event_type, online_at, heartbeat_at, freq, active, processed, loadavg, pid,
    sw_ident, sw_ver, sw_sys, first_seen_at, queues, queues_at, pool, concurrency, stats_at)
  select name, now() - silent * interval '1 second', now() - silent * interval '1 second', type, now() - interval '2 days', now(), 2, active, 184212,
    '{3.1,2.9,2.7}', 4402, 'py-celery', '5.6.3', 'Linux', now() - interval '3 days', array[queue], answered, 'celery.concurrency.prefork:TaskPool', slots, answered
  from json_to_recordset($1) as t (name text, queue text, slots int, active int, silent float8, type text),
    lateral (select now() - silent * interval '1 second' as answered) at`;

/** Lengths of queues over three hours: that of `images` grows. */
const INSERT_QUEUES = `
  insert into celery_queue_minute (minute, queue, observed_at, messages, messages_max, consumers)
  select date_trunc('minute', now()) - age * interval '1 minute', queue, now() - age * interval '1 minute', length, length, consumers
  from generate_series(0, 180) age,
    (values ('payments', 12, 0, 2), ('images', 40, 32, 2), ('mail', 6, 0, 2), ('webhooks', 41, 0, 1), ('search', 18, 0, 1), ('exports', 57, 0, 0)) queues (queue, usual, growth, consumers),
    lateral (select (usual + usual * 0.2 * sin(age * 2.4 + usual) + growth * greatest(0, 120 - age))::int as length) of_minute`;

const CHUNK = 5_000;

async function fill(databaseUrl: string): Promise<void> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  const tasks = [...dayOfTasks(Date.now())];
  for (let first = 0; first < tasks.length; first += CHUNK)
    await client.query(INSERT_TASKS, [JSON.stringify(tasks.slice(first, first + CHUNK))]);
  const workers = WORKERS.map(([name, queue, slots, active, silent = 0, type = "worker-heartbeat"]) => ({
    name,
    queue,
    slots,
    active,
    silent,
    type,
  }));
  await client.query(INSERT_WORKERS, [JSON.stringify(workers)]);
  await client.query(INSERT_QUEUES);
  // Rows that are inserted here lack the notes that the processor writes.
  await client.query("insert into celery_task_minute_dirty (minute) select distinct date_trunc('minute', seen_at) from celery_task");
  await client.end();
  const database = await connectDatabase({ url: databaseUrl, poolSize: 2 });
  await rollUp(database, { all: true }).finally(() => database.close());
}

async function takeScreenshot(site: string): Promise<void> {
  const browser = await launchChromium();
  try {
    const page = await (await browser.newContext({ viewport: SIZE, colorScheme: "light", timezoneId: "Europe/Berlin" })).newPage();
    await page.goto(site);
    await page.locator("main .grp").first().waitFor();
    await page.locator("main .brush [role=img]").waitFor();
    await page.locator(".side .c").first().waitFor();
    await page.screenshot({ path: IMAGE });
  } finally {
    await browser.close();
  }
}

const { values } = parseArgs({ options: { keep: { type: "boolean", default: false } } });
const postgres = await startPostgres({});
await migrate(postgres.url);
await fill(postgres.url);
const port = await freePort();
const site = `http://127.0.0.1:${port}/`;
const web = startProgram(process.execPath, [WEB], { env: { DATABASE_URL: postgres.url, WEB_PORT: String(port), HEALTH_PORT: "0" } });
const isUp = (): Promise<boolean> =>
  fetch(`${site}api/v1/me`).then(
    ({ ok }) => ok,
    () => false,
  );
try {
  while (!(await isUp())) await sleep(100);
  if (values.keep) {
    process.stdout.write(`${site}\n`);
    await once(process, "SIGINT");
  } else {
    await takeScreenshot(site);
  }
} finally {
  web.signal("SIGTERM");
  await web.exitCode;
  await postgres.stop();
}
