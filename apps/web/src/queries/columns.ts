/** The columns of `celery_task` that the API shows, as SQL and as schemas. */
import { STUCK, celeryTask, isLost, listenedUntil, type Reader } from "@celery-metrics-exporter/db";
import { getTableColumns, sql, type SQL } from "drizzle-orm";
import { z } from "zod";
import { Shared } from "../load/shared.ts";

/** The table, under the name that every query here uses. */
export const TASK = sql`${celeryTask}`;

export const STATUSES = ["PENDING", "RECEIVED", "STARTED", "RETRY", "REJECTED", "REVOKED", "FAILURE", "SUCCESS"] as const;
export type Status = (typeof STATUSES)[number];
/** The statuses in the column `problem`, which has indexes. */
export const PROBLEMS: readonly Status[] = ["FAILURE", "RETRY", "REVOKED", "REJECTED"];

const instant = z.iso.datetime();
const text = z.string().nullable();
const seconds = z.number().nullable();

/** A task as lists show it. */
export const TaskItem = z
  .object({
    task_id: z.string(),
    name: text,
    queue: text,
    status: z.enum(STATUSES),
    worker: text.describe("The worker of the latest event, `name@host`."),
    args: text.describe("Python `repr`, as Celery sent it, which cuts long values. Null for a `viewer`."),
    kwargs: text.describe("As `args`."),
    result: text.describe("Only for SUCCESS. Null for a `viewer`."),
    exception: text.describe("Only for FAILURE and RETRY. Null for a `viewer`."),
    revoked_by: text,
    retries: z.number().int().nullable(),
    root_id: text,
    parent_id: text,
    eta: instant.nullable(),
    expires: instant.nullable(),
    sent_at: instant.nullable(),
    received_at: instant.nullable(),
    started_at: instant.nullable(),
    finished_at: instant.nullable(),
    runtime: seconds.describe("Seconds measured by the worker. Only for SUCCESS."),
    wait_time: seconds.describe("Seconds from sending, or from the ETA, to the first start."),
    duration: seconds.describe("Seconds of the run that led to the status."),
    seen_at: instant.describe("When the task was first seen. Lists are in this order, newest first."),
    last_event_at: instant,
    lost: z
      .boolean()
      .describe(
        "Whether it is unfinished and its worker is gone: silent for 30 s, or restarted since. `status` stays what Celery reported. If another worker takes the task, it is no longer lost.",
      ),
    stuck: z
      .boolean()
      .describe(
        "Whether it has run for at least a minute, and for three times as long as 99 % of the tasks of its name in the last 7 days.",
      ),
  })
  .meta({ id: "TaskItem" });
export type TaskItem = z.output<typeof TaskItem>;

/** A task with everything. */
export const TaskDetail = TaskItem.extend({
  first_name: text.describe("The name of the first attempt, if the task was replaced."),
  first_queue: text,
  traceback: text.describe("Only for FAILURE and RETRY. Null for a `viewer`."),
  args_json: z
    .unknown()
    .describe("`args` as JSON, if it is a complete Python literal. Integers have all their digits. Null for a `viewer`."),
  kwargs_json: z.unknown().describe("As `args_json`."),
  run_started_at: instant.nullable().describe("The latest start."),
  created_at: instant.describe("When the row was created."),
  updated_at: instant,
});
export type TaskDetail = z.output<typeof TaskDetail>;

/** Columns with data of tasks: what users' code passes, returns and raises. */
const DATA: ReadonlySet<string> = new Set(["args", "kwargs", "args_json", "kwargs_json", "result", "exception", "traceback"]);

const types = new Map(Object.values(getTableColumns(celeryTask)).map((column) => [column.name, column.getSQLType()]));

/** `stuck` is completed by `withStuck`: for how many seconds a task that could be stuck has run. */
const STUCK_SECONDS = sql`case when status = 'STARTED' and run_started_at < now() - ${STUCK.atLeastSeconds}::float8 * interval '1 second' then date_part('epoch', now() - run_started_at) end`;

/** How long `listenedUntil` is remembered. */
const KEEP_MS = 1_000;
const listened = new WeakMap<Reader, Shared>();

/** `listenedUntil` as a value, up to a second old: planning the expression takes longer than reading a list. */
export function listenedUntilNow(reader: Reader): Promise<SQL> {
  const shared = listened.get(reader) ?? new Shared(KEEP_MS);
  listened.set(reader, shared);
  return shared.get("listenedUntil", async () => {
    const [row] = await reader.read<{ at: string | null }>(sql`select ${isoOf(listenedUntil())} as at`);
    return sql`${row?.at ?? null}::timestamptz`;
  });
}

/** The select list of the schema's columns. @param withData false for a viewer, for whom columns with data of tasks are NULL. */
export async function selectList(reader: Reader, schema: z.ZodObject, withData: boolean): Promise<SQL> {
  const names = Object.keys(schema.shape);
  const derived: Readonly<Record<string, SQL>> = {
    ...(names.includes("lost") && { lost: isLost({ until: await listenedUntilNow(reader) }, TASK) }),
    stuck: STUCK_SECONDS,
  };
  return sql.join(
    names.map((name) => sql`${withData || !DATA.has(name) ? (derived[name] ?? shown(name)) : sql`null`} as ${sql.identifier(name)}`),
    sql`, `,
  );
}

/** Drivers would turn times into dates without microseconds, and JSON into numbers without all digits. */
function shown(name: string): SQL {
  const column = sql.identifier(name);
  switch (types.get(name)) {
    case "timestamp with time zone":
      return isoOf(sql`${column}`);
    case "jsonb":
      return sql`${column}::text`;
    default:
      return sql`${column}`;
  }
}

/** An instant as text, in ISO 8601 with microseconds. */
export function isoOf(instantColumn: SQL): SQL {
  return sql`to_char(${instantColumn} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
}
