/** A running API over a private database. */
import { migrate } from "@celery-metrics-exporter/db";
import { createLogger, startRoles, type Environment, type RunningRoles } from "@celery-metrics-exporter/runtime";
import { createDatabase, type TestDatabase } from "@celery-metrics-exporter/testkit";
import { Client } from "pg";
import { afterAll, beforeAll } from "vitest";
import { webRole } from "../src/web.ts";

export interface Harness {
  /** The address of the API, without a trailing slash: `http://127.0.0.1:…/api/v1`. */
  readonly url: string;
  /** A connection that may write. */
  readonly client: Client;
  readonly databaseUrl: string;
  /** Log lines with warnings and errors. */
  readonly log: readonly string[];
  /** Inserts tasks, in one statement. */
  insert(tasks: readonly TaskFields[]): Promise<void>;
  /** Starts another server over the same database, until the end of the file. */
  start(settings: Environment): Promise<string>;
}

/** Fields of a row. The others have values of a task that succeeded a minute ago. */
export interface TaskFields {
  readonly id: string;
  readonly name?: string | null;
  readonly queue?: string | null;
  readonly worker?: string | null;
  readonly status?: string;
  /** When it was sent. */
  readonly at?: Date | string;
  readonly args?: string;
  readonly kwargs?: string;
  /** JSON */
  readonly args_json?: string;
  readonly kwargs_json?: string;
  readonly result?: string;
  readonly exception?: string;
  readonly traceback?: string;
  readonly root?: string | null;
  readonly parent?: string | null;
  readonly runtime?: number;
  readonly retries?: number;
}

const INSERT = `
  insert into celery_task (task_id, name, queue, worker, status, sent_at, state_at, last_event_at, started_at, state_precedence, state_rank, state_hostname,
    args, kwargs, args_json, kwargs_json, result, exception, traceback, root_id, parent_id, runtime, retries)
  select id, name, queue, worker, status, at, at + interval '1 second', at + interval '1 second', at + interval '0.5 second',
    case when status in ('SUCCESS', 'FAILURE', 'REVOKED') then 2 else 1 end, 1, 'w1@host',
    args, kwargs, args_json::jsonb, kwargs_json::jsonb, result, exception, traceback, root, parent, runtime, retries
  from json_to_recordset($1) as t (id text, name text, queue text, worker text, status text, at timestamptz, args text, kwargs text, args_json text,
    kwargs_json text, result text, exception text, traceback text, root text, parent text, runtime float8, retries int)`;

export function minutesAgo(minutes: number): Date {
  return new Date(Date.now() - minutes * 60_000);
}

async function insertTasks(client: Client, tasks: readonly TaskFields[]): Promise<void> {
  const rows = tasks.map((task) => ({
    name: "shop.cart.total",
    queue: "celery",
    worker: "w1@host",
    status: "SUCCESS",
    at: minutesAgo(1),
    root: task.id,
    ...task,
  }));
  await client.query(INSERT, [JSON.stringify(rows)]);
  // As the postgres-processor does. Running tasks are looked for in such minutes.
  await client.query(
    "insert into celery_task_minute_dirty (minute) select distinct date_trunc('minute', at, 'UTC') from json_to_recordset($1) as t (at timestamptz)",
    [JSON.stringify(rows)],
  );
}

/** Starts the API once for a test file. */
export function useApi(settings: Environment = {}): Harness {
  let database: TestDatabase;
  let client: Client;
  let url = "";
  const running: RunningRoles[] = [];
  const log: string[] = [];

  const start = async (more: Environment): Promise<string> => {
    let opened = "";
    const role = webRole((address) => (opened = address));
    // Patient, because other tests share the processors.
    const env = { DATABASE_URL: database.url, WEB_PORT: "0", HEALTH_PORT: "0", WEB_REQUEST_TIMEOUT_SECONDS: "30", ...more };
    running.push(await startRoles([role], env, createLogger("web", "warn", { write: (line) => log.push(line) })));
    return `${opened}/api/v1`;
  };
  beforeAll(async () => {
    database = await createDatabase();
    await migrate(database.url);
    client = new Client({ connectionString: database.url });
    await client.connect();
    url = await start(settings);
  });
  afterAll(async () => {
    for (const each of running) await each.stop();
    await client?.end();
    await database?.drop();
  });
  return {
    get url() {
      return url;
    },
    get client() {
      return client;
    },
    get databaseUrl() {
      return database.url;
    },
    log,
    start,
    insert: (tasks) => insertTasks(client, tasks),
  };
}
