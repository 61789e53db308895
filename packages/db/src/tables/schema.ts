/** The table: one row per task, with what its events told so far. */
import { sql } from "drizzle-orm";
import { customType, doublePrecision, index, integer, jsonb, pgTable, smallint, text, timestamp } from "drizzle-orm/pg-core";

/** Text in UTF-8 byte order, as JavaScript can compare it too; also the cheapest order for a key. */
const byteOrderedText = customType<{ data: string }>({ dataType: () => `text COLLATE "C"` });

/** An instant to the microsecond. As text, for a JavaScript `Date` ends at the millisecond. */
const instant = (name: string) => timestamp(name, { withTimezone: true, mode: "string" });

export const celeryTask = pgTable(
  "celery_task",
  {
    taskId: byteOrderedText("task_id").primaryKey(),
    /** Of the latest attempt, as `queue`: a task that is replaced, or retried into another queue, keeps its id. */
    name: text("name"),
    queue: text("queue"),
    /** Of the first attempt. NULL in rows from before these columns existed. */
    firstName: text("first_name"),
    firstQueue: text("first_queue"),
    /** Celery's word: PENDING, RECEIVED, STARTED, RETRY, REJECTED, REVOKED, FAILURE or SUCCESS. */
    status: text("status").notNull(),
    /** The worker of the latest worker event, `name@host`. */
    worker: text("worker"),
    /** Python `repr`, verbatim, cut by Celery at about 1,024 characters; so are `kwargs` and `result`. */
    args: text("args"),
    kwargs: text("kwargs"),
    /** `args` as JSON, where it is a whole Python literal. */
    argsJson: jsonb("args_json"),
    kwargsJson: jsonb("kwargs_json"),
    /** Only of SUCCESS. */
    result: text("result"),
    /** Python `repr`; only of FAILURE and RETRY, as `traceback`. */
    exception: text("exception"),
    traceback: text("traceback"),
    /** Only of REVOKED: `expired`, `request`, `terminated (SIGTERM)`. */
    revokedBy: text("revoked_by"),
    retries: integer("retries"),
    rootId: text("root_id"),
    parentId: text("parent_id"),
    eta: instant("eta"),
    expires: instant("expires"),
    sentAt: instant("sent_at"),
    receivedAt: instant("received_at"),
    startedAt: instant("started_at"),
    /** When it became final: SUCCESS, FAILURE, REVOKED, or REJECTED without requeue. */
    finishedAt: instant("finished_at").generatedAlwaysAs(sql`case when state_precedence >= 2 then state_at end`),
    /** Seconds that the worker measured; only of SUCCESS. */
    runtime: doublePrecision("runtime"),
    /**
     * Seconds from when it was sent, or its ETA if that is later, to the first start; 0 where clocks differ so much that it would be negative.
     * NULL where the only sending that is known comes after the first of several attempts.
     */
    waitTime: doublePrecision("wait_time").generatedAlwaysAs(
      sql`case when started_at < coalesce(sent_at, received_at) and name_at = coalesce(sent_at, received_at) and (retries > 0 or run_started_at > started_at) then null when started_at < greatest(sent_at, eta) then 0 else date_part('epoch', started_at - greatest(sent_at, eta)) end`,
    ),
    lastEventAt: instant("last_event_at").notNull(),
    createdAt: instant("created_at").notNull().defaultNow(),
    updatedAt: instant("updated_at").notNull().defaultNow(),

    // What the merge compares: see docs/adr/0003-row-merge.md.
    statePrecedence: smallint("state_precedence").notNull(),
    stateRank: smallint("state_rank").notNull(),
    stateAt: instant("state_at").notNull(),
    stateHostname: text("state_hostname").notNull(),
    workerRank: smallint("worker_rank"),
    workerAt: instant("worker_at"),
    /** Where the state's instant is not the one that it is compared by. */
    stateOrderAt: instant("state_order_at"),
    /** When the attempt was sent, or received where no sending is known, that `name` and `queue` are of. */
    nameAt: instant("name_at"),
    /** The latest start, and where it was. */
    runStartedAt: instant("run_started_at"),
    runHostname: text("run_hostname"),

    /**
     * Seconds that the run took which gave the state: `runtime`, else from its start to its end. NULL where it has not ended, never ran, or its
     * start is not known: the latest start must be on the same worker, so that no clock of another is involved, and not before a later attempt was
     * sent (or received). A task that is not registered never starts.
     */
    duration: doublePrecision("duration").generatedAlwaysAs(
      sql`case when runtime is not null then runtime when state_precedence >= 2 and run_hostname = state_hostname and run_started_at <= state_at and (status <> 'REVOKED' or revoked_by like 'terminated%') and (name_at is null or name_at <= coalesce(sent_at, received_at) or name_at <= run_started_at) and coalesce(exception, '') not like 'NotRegistered(%' then date_part('epoch', state_at - run_started_at) end`,
    ),
  },
  // The only index besides the key, for retention and for questions about recent tasks. Its column never changes, so updates stay HOT.
  (table) => [index("celery_task_created_at_idx").on(table.createdAt)],
);
