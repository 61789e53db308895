/** Lists use their index, on a table that is large enough for PostgreSQL to prefer another way. */
import { connectReader, type Reader } from "@celery-metrics-exporter/db";
import { sql, type SQL } from "drizzle-orm";
import { afterAll, beforeAll, expect, it } from "vitest";
import { listenedUntilNow } from "../src/queries/columns.ts";
import { TaskFilters, planOf } from "../src/queries/filters.ts";
import { listTasks } from "../src/queries/list-tasks.ts";
import { readEarlierFailures, readFailureDetails, readFailures } from "../src/queries/failures.ts";
import { findTask } from "../src/queries/find-task.ts";
import { readNames, readTaskTypes } from "../src/queries/names.ts";
import { readOldest, readWaiting } from "../src/queries/queue-flow.ts";
import { readTree } from "../src/queries/tree.ts";
import { readWorkerActivity } from "../src/queries/worker-activity.ts";
import { minutesAgo, useApi } from "./harness.ts";

const api = useApi();
let reader: Reader;
const ROWS = 20_000;

beforeAll(async () => {
  await api.client.query(
    `insert into celery_task (task_id, name, queue, worker, status, sent_at, state_at, last_event_at, state_precedence, state_rank, state_hostname, root_id, parent_id)
     select 'task-' || n, 'name-' || n % 50, 'celery', 'w1@host', case when n % 40 = 0 then 'FAILURE' when n % 1000 = 1 then 'RETRY' when n % 1000 = 2 then 'STARTED' else 'SUCCESS' end,
            now() - n * interval '1 minute', now(), now(), 2, 1, 'w1@host', 'task-' || n - n % 4, case when n % 4 > 0 then 'task-' || n - n % 4 end
     from generate_series(1, ${ROWS}) n`,
  );
  await api.client.query(
    `insert into celery_task_period (width, at, name, queue, status, n, runtime_sum, runtime_hist, wait_sum, wait_hist)
     select 60, date_trunc('hour', now()) - interval '60 hours', '(all)', 'celery', 'PENDING', 5, 0, 0, 0, 0`,
  );
  await api.client.query(
    `insert into celery_task_minute (minute, name, queue, status, n, runtime_sum, runtime_hist, wait_sum, wait_hist)
     select date_trunc('minute', seen_at, 'UTC'), name, 'celery', status, count(*), 0, 0, 0, 0 from celery_task group by 1, 2, 3, 4`,
  );
  await api.client.query("vacuum analyze celery_task, celery_task_minute");
  reader = await connectReader({ url: api.databaseUrl, poolSize: 1, statementTimeoutMs: 10_000 });
});
afterAll(() => reader.close());

interface Used {
  readonly indexes: readonly string[];
  /** Rows of the table that were looked at. */
  readonly rows: number;
}

interface PlanNode {
  readonly "Node Type": string;
  readonly "Index Name"?: string;
  readonly "Relation Name"?: string;
  readonly "Actual Rows"?: number;
  readonly "Actual Loops"?: number;
  readonly "Rows Removed by Filter"?: number;
  readonly Plans?: readonly PlanNode[];
}

/** Runs a query, and says which indexes its statements used and how many rows they read. */
async function used(run: (explaining: Reader) => Promise<unknown>): Promise<Used> {
  const nodes: PlanNode[] = [];
  const add = (node: PlanNode): void => {
    nodes.push(node);
    node.Plans?.forEach(add);
  };
  const explaining = {
    ...reader,
    read: async <R>(statement: SQL) => {
      const [plan] = await reader.read<{ "QUERY PLAN": [{ Plan: PlanNode }] }>(sql`explain (analyze, format json) ${statement}`);
      if (plan !== undefined) add(plan["QUERY PLAN"][0].Plan);
      return reader.read<R>(statement);
    },
  };
  // Read once a second, whatever is asked.
  await listenedUntilNow(explaining);
  nodes.length = 0;
  await run(explaining);
  // The table of workers has few rows. What tells whether a task is lost is read only for one that is unfinished.
  const read = nodes.filter((node) => node["Relation Name"] === "celery_task" && (node["Actual Loops"] ?? 0) > 0);
  expect(read.map((node) => node["Node Type"])).not.toContain("Seq Scan");
  // The node of a bitmap names the index, and the one above it the table.
  const bitmaps = nodes.filter(
    (node) => node["Node Type"] === "Bitmap Index Scan" && node["Index Name"]?.match(/^celery_task_(?!minute|period)/),
  );
  return {
    indexes: [...new Set([...read, ...bitmaps].flatMap((node) => node["Index Name"] ?? []))].toSorted(),
    rows: read.reduce(
      (sum, node) => sum + ((node["Actual Rows"] ?? 0) + (node["Rows Removed by Filter"] ?? 0)) * (node["Actual Loops"] ?? 1),
      0,
    ),
  };
}

const SEEN = "celery_task_seen_at_idx";
const NAME = "celery_task_name_idx";
const PROBLEM = "celery_task_problem_idx";
const PROBLEM_NAME = "celery_task_problem_name_idx";
const ROOT = "celery_task_root_id_idx";
const KEY = "celery_task_pkey";
const PAGE = 51;

it.each([
  [{}, [SEEN], PAGE],
  [{ range: "all" }, [SEEN], PAGE],
  [{ range: "1h" }, [SEEN], 60],
  [{ name: "name-7", range: "all" }, [NAME], PAGE],
  [{ name: ["name-7", "name-8", "name-9"], range: "all" }, [NAME], 3 * PAGE],
  [{ status: "FAILURE", range: "all" }, [PROBLEM], PAGE],
  [{ status: "FAILURE,RETRY", range: "all" }, [PROBLEM], 2 * PAGE],
  [{ status: "FAILURE", name: "name-0", range: "all" }, [PROBLEM_NAME], PAGE],
  [{ status: "FAILURE,RETRY", name: ["name-0", "name-10"], range: "all" }, [PROBLEM_NAME], 4 * PAGE],
  [{ root: "task-4000", range: "all" }, [KEY, ROOT], 10],
  [{ parent: "task-4000", range: "all" }, [KEY, ROOT], 12],
  [{ id: "task-19999", range: "all" }, [KEY], 2],
  [{ id: "task-1999", range: "all" }, [KEY], 30],
  // A search reads no more than the slices until the page is full.
  [{ worker: "w1@host", range: "all" }, [SEEN], 130],
  // Of the minutes in which no task is running, none is read. The oldest row is.
  [{ status: "STARTED", worker: "w1@host", range: "all" }, [SEEN], 20 + 20 + 1],
  [{ status: "STARTED,RECEIVED", worker: "w1@*", name: "name-2", range: "all" }, [SEEN], 20 + 20 + 1],
  [{ status: "SUCCESS", name: "name-7", range: "all" }, [NAME], 200],
])("%j", async (query, indexes, mostRows) => {
  const filters = TaskFilters.parse(query);
  const plan = planOf({ ...filters, arguments: [] }, true);
  const from = filters.range === "all" ? null : minutesAgo(filters.range === "1h" ? 60 : 24 * 60).toISOString();
  const result = await used((explaining) =>
    listTasks(explaining, { plan, from, to: undefined, after: undefined, limit: PAGE - 1, withData: true }),
  );
  const others = result.indexes.filter((name) => !indexes.includes(name));
  // The oldest row ends a search.
  expect(others.filter((name) => name !== SEEN)).toEqual([]);
  expect(result.indexes).toEqual(expect.arrayContaining(indexes));
  expect(result.rows).toBeLessThanOrEqual(mostRows + 1);
});

it("a page deep in the list reads no more rows than the first", async () => {
  const after = { seenAt: minutesAgo(ROWS - 100).toISOString(), taskId: "task-x" };
  const plan = planOf({ ...TaskFilters.parse({}), arguments: [] }, true);
  const result = await used((explaining) =>
    listTasks(explaining, { plan, from: null, to: undefined, after, limit: PAGE - 1, withData: true }),
  );
  expect(result).toEqual({ indexes: [SEEN], rows: PAGE });
});

/** @param name of the task; undefined for the group of tasks without a name. */
function detailsOf(name: string | undefined): (explaining: Reader) => Promise<unknown> {
  return (explaining) =>
    readFailureDetails(explaining, {
      status: "FAILURE",
      name,
      exception: undefined,
      message: undefined,
      from: null,
      to: undefined,
      withData: true,
    });
}

it.each([
  ["a task", (explaining: Reader) => findTask(explaining, "task-4000", true), [KEY, ROOT], 10],
  ["a tree", (explaining: Reader) => readTree(explaining, "task-4002"), [KEY, ROOT], 12],
  ["names", (explaining: Reader) => readNames(explaining), [NAME, SEEN], 50 + 2 * 5_000 + 10],
  ["task types", (explaining: Reader) => readTaskTypes(explaining), [NAME, PROBLEM_NAME], 4 * 50 + 10],
  [
    "failures",
    (explaining: Reader) => readFailures(explaining, { statuses: ["FAILURE"], name: "name-0", from: null, to: undefined, withData: true }),
    [PROBLEM_NAME],
    ROWS / 40,
  ],
  [
    "failures before a range",
    (explaining: Reader) =>
      readEarlierFailures(explaining, {
        statuses: ["FAILURE"],
        name: undefined,
        from: minutesAgo(1_440).toISOString(),
        days: 30,
        keepMs: 0,
      }),
    [PROBLEM],
    ROWS / 40,
  ],
  ["details of failures", detailsOf("name-0"), [PROBLEM_NAME, KEY], ROWS / 40 + 5],
  ["details of failures without a name", detailsOf(undefined), [PROBLEM_NAME], 0],
  [
    "the activity of workers",
    (explaining: Reader) => readWorkerActivity(explaining, { from: minutesAgo(180), stepMinutes: 5, steps: 36, name: undefined }),
    [PROBLEM, SEEN],
    180 + 1 + 1_440 / 40,
  ],
])("%s", async (_what, run, indexes, mostRows) => {
  const result = await used(run);
  expect(result.indexes).toEqual(indexes.toSorted());
  expect(result.rows).toBeLessThanOrEqual(mostRows);
});

it.each([
  ["the oldest waiting task", (explaining: Reader) => readOldest(explaining, [{ name: "celery", messages: 9 }]), 1_001],
  ["what waits in a queue", (explaining: Reader) => readWaiting(explaining, { name: "celery", messages: 9 }, true), 1_001],
])("%s is looked for among so many tasks", async (_what, run, mostRows) => {
  const result = await used(run);
  expect(result.indexes).toEqual([SEEN]);
  // All that were seen since then have long ended.
  expect(result.rows).toBeGreaterThanOrEqual(1_000);
  expect(result.rows).toBeLessThanOrEqual(mostRows);
});
