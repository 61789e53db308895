/** Runs the queries in the documentation, and checks that none reads the whole table. */
import { readFileSync } from "node:fs";
import { migrate } from "@celery-metrics-exporter/db";
import { createDatabase, type TestDatabase } from "@celery-metrics-exporter/testkit";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const PAGES = ["docs/sql-cookbook.md", "docs/troubleshooting.md", "README.md"];

interface Plan {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly Plans?: readonly Plan[];
}

let database: TestDatabase;
let client: Client;

beforeAll(async () => {
  database = await createDatabase();
  await migrate(database.url);
  client = new Client({ connectionString: database.url });
  await client.connect();
  await client.query(MONTH_OF_TASKS);
  await client.query("analyze celery_task");
});
afterAll(async () => {
  await client.end();
  await database.drop();
});

describe.each(PAGES)("the queries of %s", (page) => {
  it.each(statementsOf(page).filter((statement) => statement.includes("celery_task")))("use an index: %s", async (statement) => {
    const { rows } = await client.query<{ "QUERY PLAN": readonly { Plan: Plan }[] }>(`explain (format json) ${statement}`);
    const nodes = rows.flatMap((row) => row["QUERY PLAN"].flatMap(({ Plan: plan }) => nodesOf(plan)));
    const onTable = nodes.filter((node) => node["Relation Name"]?.startsWith("celery_task")).map((node) => node["Node Type"]);
    expect(onTable).not.toEqual([]);
    expect(onTable).not.toContain("Seq Scan");
  });

  it.each(statementsOf(page))("run: %s", async (statement) => {
    await client.query("begin");
    try {
      await expect(client.query(statement)).resolves.toBeDefined();
    } finally {
      await client.query("rollback");
    }
  });
});

it("finds the queries of each page", () => {
  expect(PAGES.filter((page) => statementsOf(page).length === 0)).toEqual([]);
});

/** The statements in the SQL blocks of a page, without comments. */
function statementsOf(page: string): string[] {
  const text = readFileSync(new URL(`../../${page}`, import.meta.url), "utf8");
  return [...text.matchAll(/^```sql\n(.*?)^```/gms)].flatMap(([, code = ""]) =>
    code
      .replace(/^--.*$/gm, "")
      .split(/;\s*$/m)
      .map((statement) => statement.trim())
      .filter((statement) => statement !== ""),
  );
}

function nodesOf(plan: Plan): Plan[] {
  return [plan, ...(plan.Plans ?? []).flatMap(nodesOf)];
}

/** 20,000 tasks of 30 days, in order of arrival. */
const MONTH_OF_TASKS = `
  insert into celery_task (
    task_id, name, queue, first_name, first_queue, status, worker, args, kwargs, args_json, kwargs_json, exception, traceback, revoked_by,
    retries, root_id, parent_id, eta, expires, sent_at, received_at, started_at, runtime, last_event_at, created_at, updated_at,
    state_precedence, state_rank, state_at, state_hostname, name_at, run_started_at, run_hostname
  )
  select
    md5(number::text), name, queue, name, case when number % 50 = 0 then 'slow' else queue end, status, host, '(1, 2)', '{}', '[1, 2]',
    jsonb_build_object('customer_id', number % 500), case when status = 'FAILURE' then 'ValueError(''no'')' end,
    case when status = 'FAILURE' then repeat('line of a traceback ', 20) end, case when status = 'REVOKED' then 'expired' end,
    case when number % 40 = 0 then 2 else 0 end, md5((number / 5)::text), md5((number / 5)::text), null, at + interval '1 hour',
    at, at + interval '10 ms', case when precedence > 0 then at + interval '20 ms' end, case when status = 'SUCCESS' then number % 7 end,
    at + interval '3 s', at, at, precedence, precedence, at + interval '3 s', host, at, at + interval '20 ms', host
  from (
    select
      number, now() - interval '30 days' * (1 - number / 20000.0) as at, 'shop.task_' || number % 17 as name,
      (array['default', 'mail', 'payments'])[1 + number % 3] as queue, 'worker-' || number % 4 as host, status,
      case when status in ('SUCCESS', 'FAILURE', 'REVOKED') then 3 when status = 'STARTED' then 1 else 0 end as precedence
    from generate_series(1, 20000) as number,
      lateral (select (array['SUCCESS', 'SUCCESS', 'SUCCESS', 'SUCCESS', 'FAILURE', 'REVOKED', 'STARTED', 'PENDING'])[1 + number % 8] as status) as chosen
  ) as tasks`;
