/** How fast the API answers over a large table, and what live views and roll-ups cost. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Database, connectDatabase, migrate, rollUp } from "@celery-metrics-exporter/db";
import { freePort } from "@celery-metrics-exporter/testkit";
import { Client } from "pg";
import { Fleet } from "../../fleet/fleet.ts";
import { usageOf } from "../process-usage.ts";
import { Rounds, formatNumber, quantile, type Goal, type Section } from "../report/figure.ts";
import type { Bench, Scenario } from "../scenario.ts";

/** Rows of the table: a tenth of them in the last day, the others evenly over the month before. */
const ROWS = Number(process.env["BENCH_WEB_ROWS"] ?? 10_000_000);
const DAYS = 30;
const ROWS_AT_ONCE = 250_000;
const NODES = 5_000;
const REQUESTS = 200;
/** Of what takes longer than an indexed list. */
const SLOW_REQUESTS = 20;
const PAGE = 50;
/** Answers are shared for less than this. */
const SHARED_MS = 1_500;
const LIVE_CLIENTS = 50;
const LIVE_SECONDS = 20;
const TASKS_PER_SECOND = 1_000;
const ROLL_UP_SECONDS = 120;
/** As in the postgres-processor: every five seconds, or after a pause of a hundred times as long as it took. */
const ROLL_UP_EVERY_MS = 5_000;
const PAUSE_FACTOR = 100;
/** Names of applications in PostgreSQL. */
const WEB = "celery-metrics-exporter web";
const BENCHMARK = "benchmark";

/**
 * Tasks $1 to $2 of $3, as of the instant $4. 200 names, the first of which are the most frequent; 6 queues, one for each name; 12 workers; 2.5 % failed,
 * 0.3 % revoked, 0.1 % waiting for a retry, 0.2 % running; a quarter of the tasks were sent by others.
 */
const FILL = `
  insert into celery_task (task_id, name, first_name, queue, first_queue, status, worker, args, kwargs, args_json, kwargs_json, result, exception, traceback, retries,
    root_id, parent_id, sent_at, received_at, started_at, run_started_at, run_hostname, started_hostname, runtime, last_event_at, state_precedence, state_rank, state_at, state_hostname)
  select id, name, name, queue, queue, status, worker, '(' || n || ', ''atlas'')', '{''customer_id'': ' || n % 50000 || ', ''note'': ''' || repeat(md5(n::text), 3) || '''}',
    json_build_array(n, 'atlas')::jsonb, json_build_object('customer_id', n % 50000, 'note', repeat(md5(n::text), 3))::jsonb, case when status = 'SUCCESS' then 'None' end,
    case when status in ('FAILURE', 'RETRY') then 'ConnectionError("host ' || n % 12 || ' refused connection ' || n || '")' end,
    case when status in ('FAILURE', 'RETRY') then repeat('  File "/srv/shop/tasks.py", line 12, in call' || chr(10), 12) end,
    case when status in ('FAILURE', 'RETRY') then 3 else 0 end,
    case when n % 4 = 0 then lag_id else id end, case when n % 4 = 0 then lag_id end,
    at, at + interval '20 ms', at + interval '50 ms', at + interval '50 ms', worker, worker,
    case when status = 'SUCCESS' then runtime end, at + interval '50 ms' + runtime * interval '1 second',
    case when status in ('SUCCESS', 'FAILURE', 'REVOKED') then 2 else 1 end, 1, at + interval '50 ms' + runtime * interval '1 second', worker
  from (
    select n, md5(n::text) || '-x' as id, md5((n - n % 4 + 1)::text) || '-x' as lag_id, 'shop.task_' || k as name, 'queue' || k % 6 as queue, 'worker' || n % 12 || '@host' as worker,
      (0.001 * exp(6 * ((n * 7919) % 1000) / 1000.0))::float8 as runtime,
      case when n % 1000 < 25 then 'FAILURE' when n % 1000 < 28 then 'REVOKED' when n % 1000 < 29 then 'RETRY' when n % 1000 < 31 then 'STARTED' else 'SUCCESS' end as status,
      $4::timestamptz - case when n <= $3 / 10 then n * (interval '1 day' / ($3 / 10)) else interval '1 day' + (n - $3 / 10) * (interval '${DAYS - 1} days' / ($3 - $3 / 10)) end as at
    from (select n, floor(200 * power(((n * 104729) % 10007) / 10007.0, 3))::int as k from generate_series($1::bigint, $2::bigint) n) numbered
  ) task`;

/** A tree: each task sent three others. */
const TREE = `
  insert into celery_task (task_id, name, status, root_id, parent_id, sent_at, started_at, last_event_at, state_precedence, state_rank, state_at, state_hostname)
  select 'tree-' || n, 'shop.tree', 'SUCCESS', 'tree-0', case when n > 0 then 'tree-' || (n - 1) / 3 end, at, at + interval '1 s', at + interval '2 s', 2, 1, at + interval '2 s', 'worker1@host'
  from (select n, $1::timestamptz - interval '1 hour' + n * interval '1 ms' as at from generate_series(0, ${NODES - 1}) n) numbered`;

/** Tasks that were sent in the last second, and the note for the roll-up that the postgres-processor writes in the same transaction. */
const ARRIVE = `
  with added as (
    insert into celery_task (task_id, name, queue, status, sent_at, started_at, runtime, last_event_at, state_precedence, state_rank, state_at, state_hostname)
    select md5(random()::text), 'shop.task_' || floor(200 * power(random(), 3))::int, 'queue' || n % 6, case when n % 40 = 0 then 'FAILURE' else 'SUCCESS' end,
      now() - n * interval '1 ms', now(), random(), now(), 2, 1, now(), 'worker1@host'
    from generate_series(1, ${TASKS_PER_SECOND}) n returning seen_at
  )
  insert into celery_task_minute_dirty (minute) select distinct date_trunc('minute', seen_at, 'UTC') from added`;

export const web: Scenario = {
  name: "web",
  async run({ servers, progress }: Bench): Promise<Section> {
    const name = `bench_web_${Date.now()}`;
    const url = Object.assign(new URL(servers.postgres.url), { pathname: `/${name}` }).href;
    const admin = await connect(servers.postgres.url);
    await admin.query(`create database ${name}`);
    const rounds = new Rounds();
    try {
      await migrate(url);
      await fill(url, rounds, progress);
      const port = await freePort();
      const fleet = await Fleet.start({
        env: { DATABASE_URL: url, WEB_PORT: String(port), HEALTH_PORT: "0" },
        processes: { web: 1 },
      });
      try {
        const api = `http://127.0.0.1:${port}/api/v1`;
        await measureRequests(api, url, rounds, progress);
        progress(`${LIVE_CLIENTS} live clients`);
        await measureLive(api, url, fleet.processes("web")[0]?.child.pid ?? 0, rounds);
      } finally {
        await fleet.stop();
      }
      progress("roll-ups");
      await measureRollUps(url, rounds);
    } finally {
      await admin.query(`drop database if exists ${name} with (force)`);
      await admin.end();
    }
    return {
      title: `The API over ${formatNumber(ROWS)} tasks`,
      note:
        `A tenth of the tasks in the last day, the others in the ${DAYS - 1} days before; 200 names, 6 queues, 12 workers, 2.5 % failed. Times are of whole requests over HTTP, ` +
        `one after the other, of ${REQUESTS} different ones (${SLOW_REQUESTS} for what is not a list), with everything cached; the 95th percentile. ` +
        `Live: ${LIVE_CLIENTS} clients with the same list for ${LIVE_SECONDS} s while ${formatNumber(TASKS_PER_SECOND)} tasks per second arrive, CPU of the API and of PostgreSQL for it. ` +
        `Roll-ups: CPU of PostgreSQL for ${ROLL_UP_SECONDS} s of the same load, and until the last one's pause is over.`,
      figures: rounds.figures(),
    };
  },
};

async function connect(url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  // The database is dropped although a failed measurement has left it open.
  client.on("error", () => {});
  await client.connect();
  return client;
}

async function fill(url: string, rounds: Rounds, progress: Bench["progress"]): Promise<void> {
  const client = await connect(url);
  const now = new Date();
  await client.query("set synchronous_commit = off");
  for (let from = 1; from <= ROWS; from += ROWS_AT_ONCE) {
    const to = Math.min(ROWS, from + ROWS_AT_ONCE - 1);
    await client.query(FILL, [from, to, ROWS, now]);
    progress(`${formatNumber(to)} of ${formatNumber(ROWS)} tasks stored`);
  }
  await client.query(TREE, [now]);
  await client.query(
    `insert into celery_worker (hostname, heard_at, first_seen_at) select 'worker' || n || '@host', now(), now() from generate_series(0, 11) n`,
  );
  await client.query(`insert into celery_task_minute_dirty (minute) select distinct date_trunc('minute', seen_at, 'UTC') from celery_task`);
  progress("counting all of them for statistics");
  const began = performance.now();
  const database = await open(url);
  await rollUp(database, { all: true });
  await database.close();
  rounds.add("statistics of all tasks, counted from nothing", "s", (performance.now() - began) / 1_000);
  progress("vacuum");
  await client.query("vacuum (analyze)");
  const { rows } = await client.query<{ name: string; bytes: string }>(
    "select relname as name, pg_total_relation_size(oid) as bytes from pg_class where relkind = 'r' and relname in ('celery_task', 'celery_task_minute') order by 1",
  );
  for (const { name, bytes } of rows) rounds.add(`size of ${name} with its indexes`, "MB", Number(bytes) / 1e6);
  await client.end();
}

function open(url: string): Promise<Database> {
  return connectDatabase({ url, poolSize: 1, statementTimeoutMs: 600_000, applicationName: BENCHMARK });
}

/** @returns the answer and the milliseconds until it was there. */
async function request(url: string): Promise<{ body: Record<string, unknown>; ms: number }> {
  const began = performance.now();
  const response = await fetch(url);
  const text = await response.text();
  const ms = performance.now() - began;
  if (!response.ok) throw new Error(`${url} was answered with ${response.status}: ${text}`);
  return { body: JSON.parse(text) as Record<string, unknown>, ms };
}

/** A name in the table. */
const name = (index: number): string => `shop.task_${index % 200}`;

/** The parameter for another end of the range for each index. */
const until = (index: number): string => `to=${new Date(Date.now() - index * 60_000).toISOString()}`;

async function measureRequests(api: string, databaseUrl: string, rounds: Rounds, progress: Bench["progress"]): Promise<void> {
  let longest = 0;
  const client = await connect(databaseUrl);
  let backends = 0;
  const watching = setInterval(() => {
    void client
      .query<{ n: number }>("select count(*)::int as n from pg_stat_activity where application_name = $1", [WEB])
      .then(({ rows: [row] }) => (backends = Math.max(backends, row?.n ?? 0)));
  }, 200);
  /** Most requests are different, because equal ones within a second share their answer. */
  const measure = async (label: string, path: (index: number) => string, goal?: Goal, count = REQUESTS): Promise<void> => {
    progress(label);
    const times: number[] = [];
    for (let index = -3; index < count; index += 1) {
      const { ms } = await request(api + path(Math.abs(index)));
      if (index >= 0) times.push(ms);
    }
    longest = Math.max(longest, ...times);
    rounds.add(label, "ms", quantile(times, 0.95), goal);
  };
  const quick: Goal = { atMost: 20 };
  const list = `/tasks?limit=${PAGE}&`;
  await measure("list: newest", (index) => `${list}range=all&to=${new Date(Date.now() - index).toISOString()}`, quick);
  await measure("list: name, status and 24 h", (index) => `${list}name=${name(index)}&status=FAILURE&range=24h`, quick);
  await measure("list: a name, all time", (index) => `${list}name=${name(index)}&range=all`, quick);
  const statuses = ["FAILURE", "RETRY", "REVOKED", "FAILURE,RETRY"];
  await measure("list: a status, all time", (index) => `${list}status=${statuses[index % 4]}&range=all&${until(index)}`, quick);
  await measure("list: a name and a rare status, all time", (index) => `${list}name=${name(index)}&status=REVOKED&range=all`, quick);
  await measure("list: a worker", (index) => `${list}worker=worker${index % 12}@host&${until(index)}`, quick);
  await measure("list: a queue", (index) => `${list}queue=queue${index % 6}&${until(index)}`, quick);
  /** Paths of pages behind this share of all tasks. */
  const pagesAt = async (share: number): Promise<readonly string[]> => {
    const pages: string[] = [];
    for (let index = 0; index < REQUESTS; index += 1) {
      const query = `${list}range=all&to=${new Date(Date.now() - share * DAYS * 86_400_000 - index).toISOString()}`;
      pages.push(`${query}&cursor=${String((await request(api + query)).body["next"])}`);
    }
    return pages;
  };
  const [second, deep] = [await pagesAt(0), await pagesAt(0.5)];
  await measure("list: second page", (index) => second[index] ?? "", quick);
  await measure("list: a page in the middle of all", (index) => deep[index] ?? "", quick);
  const { rows } = await client.query<{ id: string }>("select task_id as id from celery_task tablesample system (0.1) limit 203");
  const ids = rows.map(({ id }) => id);
  // Brings their rows from the disk into memory. Then no answer is young enough to be shared.
  for (const id of ids) await request(`${api}/tasks/${id}`);
  await sleep(SHARED_MS);
  await measure("one task", (index) => `/tasks/${ids[index % ids.length]}`, { atMost: 10 });
  await measure(`tree of ${formatNumber(NODES)} tasks`, (index) => `/tasks/tree-${index}/tree`, { atMost: 50 }, SLOW_REQUESTS);
  await measure("text search over a day: first answer", (index) => `${list}text=nothing${index}&range=24h`, { atMost: 350 }, SLOW_REQUESTS);
  await measure("failures of a day", (index) => `/failures?range=24h&${until(index)}`, { atMost: 50 }, SLOW_REQUESTS);
  const charts = { atMost: 50 };
  await measure("chart of 30 days, by status", (index) => `/statistics?range=30d&step=6h&by=status&${until(index)}`, charts, SLOW_REQUESTS);
  await measure(
    "chart of 30 days, one name",
    (index) => `/statistics?range=30d&step=6h&by=status&name=${name(index)}`,
    charts,
    SLOW_REQUESTS,
  );
  await measure("table of 30 days, by name", (index) => `/statistics?range=30d&by=name&${until(index)}`, charts, SLOW_REQUESTS);
  await measure(
    "chart of 24 hours, by status",
    (index) => `/statistics?range=24h&step=30m&by=status&${until(index)}`,
    charts,
    SLOW_REQUESTS,
  );
  clearInterval(watching);
  await client.end();
  rounds.add("longest request", "ms", longest, { atMost: 2_000 });
  rounds.add("connections to PostgreSQL, most at once", "", backends, { atMost: 4 });
}

/** CPU of the processes of PostgreSQL that served an application, also of those that ended since they were last looked at. */
class BackendUsage {
  readonly #client: Client;
  readonly #application: string;
  readonly #seconds = new Map<number, number>();

  constructor(client: Client, application: string) {
    this.#client = client;
    this.#application = application;
  }

  async cpuSeconds(): Promise<number> {
    const { rows } = await this.#client.query<{ pid: number }>(
      "select pid from pg_stat_activity where application_name = $1 and datname = current_database()",
      [this.#application],
    );
    for (const { pid } of rows) this.#seconds.set(pid, usageOf(pid).cpuSeconds);
    return [...this.#seconds.values()].reduce((sum, seconds) => sum + seconds, 0);
  }
}

/** Runs `work` once a second, after more tasks have arrived, and returns how many seconds of CPU were used meanwhile. */
async function whileTasksArrive(
  client: Client,
  seconds: number,
  cpu: () => Promise<number>,
  work: (second: number) => Promise<void>,
): Promise<number> {
  const before = await cpu();
  let now = before;
  for (let second = 0; second < seconds; second += 1) {
    const began = performance.now();
    await client.query(ARRIVE);
    await work(second);
    now = await cpu();
    await sleep(Math.max(0, 1_000 - (performance.now() - began)));
  }
  return now - before;
}

async function measureLive(api: string, databaseUrl: string, pid: number, rounds: Rounds): Promise<void> {
  const client = await connect(databaseUrl);
  const end = new AbortController();
  let events = 0;
  const watch = async (): Promise<void> => {
    const response = await fetch(`${api}/live?range=24h`, { signal: end.signal });
    for await (const _chunk of response.body ?? []) events += 1;
  };
  const clients = Array.from({ length: LIVE_CLIENTS }, () => watch().catch(() => {}));
  await sleep(3_000);
  const backends = new BackendUsage(client, WEB);
  const cpu = async (): Promise<number> => usageOf(pid).cpuSeconds + (await backends.cpuSeconds());
  const used = await whileTasksArrive(client, LIVE_SECONDS, cpu, async () => {});
  end.abort();
  await Promise.all(clients);
  await client.end();
  if (events < LIVE_CLIENTS * LIVE_SECONDS) throw new Error(`${LIVE_CLIENTS} clients received only ${events} events`);
  rounds.add(`${LIVE_CLIENTS} live clients`, "% of a core", (used / LIVE_SECONDS) * 100, { atMost: 10 });
}

async function measureRollUps(url: string, rounds: Rounds): Promise<void> {
  const [client, database] = [await connect(url), await open(url)];
  try {
    await rollUp(database);
    const first = performance.now();
    let next = first;
    const pauses: number[] = [];
    const backends = new BackendUsage(client, BENCHMARK);
    const used = await whileTasksArrive(
      client,
      ROLL_UP_SECONDS,
      () => backends.cpuSeconds(),
      async () => {
        const began = performance.now();
        if (began < next) return;
        await rollUp(database);
        const pause = Math.max(ROLL_UP_EVERY_MS, (performance.now() - began) * PAUSE_FACTOR);
        pauses.push(pause);
        next = performance.now() + pause;
      },
    );
    // The pause after the last one belongs to it.
    rounds.add("roll-ups", "% of a core", (used / ((next - first) / 1_000)) * 100, { atMost: 1 });
    rounds.add("roll-ups: longest time between two", "s", Math.max(...pauses) / 1_000);
  } finally {
    await database.close();
    await client.end();
  }
}
