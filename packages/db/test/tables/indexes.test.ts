/** The indexes of `celery_task`: which list uses which one, and that they keep updates HOT. */
import {
  taskFailed,
  taskReceived,
  taskRetried,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import { sql } from "drizzle-orm";
import { describe, expect, test } from "vitest";
import { upsertTasks } from "../../src/merge/upsert.ts";
import { query } from "../../src/tables/database.ts";
import { celeryTask } from "../../src/tables/schema.ts";
import { useTaskTable } from "../task-table.ts";

const table = useTaskTable();
const FIRST = 1_796_000_000;

/** Tasks of twenty names, one a second; of every hundred, two fail, one is retried and one is revoked. */
function load(count: number): TaskEvent[][] {
  const tasks = Array.from({ length: count }, (_, index) => ({
    uuid: `${(index * 7919) % count}-of-${count}`,
    name: `shop.task_${index % 20}`,
    timestamp: FIRST + index,
    args: `(${index}, 'a text of the usual length', [1, 2, 3])`,
    kwargs: "{'customer_id': 12345, 'locale': 'de_DE', 'channel': 'mail'}",
    root_id: index % 4 === 0 ? `root-${index % 100}` : `${(index * 7919) % count}-of-${count}`,
  }));
  const end = (task: (typeof tasks)[number], index: number): TaskEvent => {
    const at = { uuid: task.uuid, timestamp: task.timestamp + 2 };
    if (index % 100 < 2) return taskFailed(at);
    if (index % 100 === 2) return taskRetried(at);
    return index % 100 === 3 ? taskRevoked(at) : taskSucceeded(at);
  };
  return [
    tasks.flatMap((task) => [taskSent(task), taskReceived({ ...task, timestamp: task.timestamp + 0.1 })]),
    tasks.map(({ uuid, timestamp }) => taskStarted({ uuid, timestamp: timestamp + 1 })),
    tasks.map(end),
  ];
}

async function storeInBatches(events: readonly TaskEvent[], size: number): Promise<void> {
  for (let index = 0; index < events.length; index += size) await upsertTasks(table.database, events.slice(index, index + size));
}

test("at least 70 % of updates are HOT with three writes per task", async () => {
  // As in a steady stream: the three writes of a task are a few batches apart.
  for (let group = 0; group < 10; group++) {
    const waves = load(1_000).map((events) =>
      events.map((event) => ({ ...event, uuid: `${group}-${event.uuid}`, timestamp: event.timestamp + group * 1_000 })),
    );
    for (const events of waves) await storeInBatches(events, 500);
  }
  const counts = sql`select n_tup_upd::int as updates, n_tup_hot_upd::int as hot from pg_stat_user_tables where relname = 'celery_task'`;
  // The server publishes its counts once a second at most.
  await expect
    .poll(async () => (await query<{ updates: number }>(table.database, counts))[0]?.updates, { timeout: 10_000 })
    .toBeGreaterThanOrEqual(20_000);
  const [{ updates, hot }] = (await query<{ updates: number; hot: number }>(table.database, counts)) as [{ updates: number; hot: number }];
  expect(hot / updates).toBeGreaterThan(0.7);
}, 120_000);

describe("a list", () => {
  const from = sql`to_timestamp(${FIRST + 1_000})`;
  const to = sql`to_timestamp(${FIRST + 15_000})`;
  const page = sql`order by seen_at desc, task_id desc limit 51`;
  const afterCursor = sql`(seen_at, task_id) < (to_timestamp(${FIRST + 9_000}), 'x')`;
  const shapes = {
    "the newest": ["celery_task_seen_at_idx", sql`true ${page}`],
    "the newest, a page further": ["celery_task_seen_at_idx", sql`${afterCursor} ${page}`],
    "of a time range": ["celery_task_seen_at_idx", sql`seen_at >= ${from} and seen_at < ${to} ${page}`],
    "of a name": ["celery_task_name_idx", sql`name = 'shop.task_3' ${page}`],
    "of a name, in a time range": ["celery_task_name_idx", sql`name = 'shop.task_3' and seen_at >= ${from} and ${afterCursor} ${page}`],
    "of failures": ["celery_task_problem_idx", sql`problem = 'FAILURE' ${page}`],
    "of retries": ["celery_task_problem_idx", sql`problem = 'RETRY' and seen_at >= ${from} ${page}`],
    "of revoked tasks": ["celery_task_problem_idx", sql`problem = 'REVOKED' and ${afterCursor} ${page}`],
    "of a name's failures": ["celery_task_problem_name_idx", sql`problem = 'FAILURE' and name = 'shop.task_1' ${page}`],
    "of one id": ["celery_task_pkey", sql`task_id = '77-of-20000'`],
    "of ids that begin with a text": ["celery_task_pkey", sql`task_id >= '77' and task_id < '78' order by task_id limit 51`],
    "of one root": ["celery_task_root_id_idx", sql`root_id = 'root-44' and root_id <> task_id`],
  } as const;

  test("uses its index", async () => {
    for (const events of load(20_000)) await storeInBatches(events, 4_000);
    await query(table.database, sql`vacuum analyze ${celeryTask}`);
    const used: Record<string, string> = {};
    for (const [shape, [, condition]] of Object.entries(shapes)) {
      const plan = await query<Record<string, string>>(table.database, sql`explain select * from ${celeryTask} where ${condition}`);
      const text = plan.map((line) => line["QUERY PLAN"]).join("\n");
      used[shape] = /Sort|Seq Scan/.test(text) ? text : (/ (?:using|on) (celery_task_\w+)/.exec(text)?.[1] ?? text);
    }
    expect(used).toEqual(Object.fromEntries(Object.entries(shapes).map(([shape, [index]]) => [shape, index])));
  }, 120_000);
});
