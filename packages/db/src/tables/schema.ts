/**
 * The tables: one row per task, with the data from its events so far, and the events that a row cannot show; workers; and counts of tasks and queues by
 * minute.
 */
import { sql } from "drizzle-orm";
import {
  bigint,
  boolean,
  customType,
  doublePrecision,
  index,
  integer,
  jsonb,
  numeric,
  pgTable,
  primaryKey,
  smallint,
  text,
  timestamp,
} from "drizzle-orm/pg-core";

/** Text in UTF-8 byte order, which JavaScript can reproduce and which is the cheapest order for a key. */
const byteOrderedText = customType<{ data: string }>({ dataType: () => `text COLLATE "C"` });

/** An instant with microseconds. As text, because a JavaScript `Date` has only milliseconds. */
const instant = (name: string) => timestamp(name, { withTimezone: true, mode: "string" });

export const celeryTask = pgTable(
  "celery_task",
  {
    taskId: byteOrderedText("task_id").primaryKey(),
    /** `name` and `queue` belong to the latest attempt: a task that is replaced, or retried into another queue, keeps its id. */
    name: text("name"),
    queue: text("queue"),
    /** Name and queue of the first attempt. NULL in rows older than these columns. */
    firstName: text("first_name"),
    firstQueue: text("first_queue"),
    /** Celery's state: PENDING, RECEIVED, STARTED, RETRY, REJECTED, REVOKED, FAILURE or SUCCESS. */
    status: text("status").notNull(),
    /** The worker of the latest worker event, `name@host`. */
    worker: text("worker"),
    /** Python `repr`, verbatim. Celery truncates it at about 1,024 characters, as it does `kwargs` and `result`. */
    args: text("args"),
    kwargs: text("kwargs"),
    /** `args` as JSON, if it is a complete Python literal. */
    argsJson: jsonb("args_json"),
    kwargsJson: jsonb("kwargs_json"),
    /** Only for SUCCESS. */
    result: text("result"),
    /** Python `repr`. Only for FAILURE and RETRY, like `traceback`. */
    exception: text("exception"),
    traceback: text("traceback"),
    /** Only for REVOKED: `expired`, `request`, `terminated (SIGTERM)`. */
    revokedBy: text("revoked_by"),
    retries: integer("retries"),
    rootId: text("root_id"),
    parentId: text("parent_id"),
    eta: instant("eta"),
    expires: instant("expires"),
    sentAt: instant("sent_at"),
    receivedAt: instant("received_at"),
    startedAt: instant("started_at"),
    /** When the task became final: SUCCESS, FAILURE, REVOKED, or REJECTED without requeue. */
    finishedAt: instant("finished_at").generatedAlwaysAs(sql`case when state_precedence >= 2 then state_at end`),
    /** Seconds measured by the worker. Only for SUCCESS. */
    runtime: doublePrecision("runtime"),
    /**
     * Seconds from sending, or from the ETA if that is later, to the first start. 0 if clock skew would make it negative. NULL if the only known
     * sending comes after the first of several attempts.
     */
    waitTime: doublePrecision("wait_time").generatedAlwaysAs(
      sql`case when started_at < coalesce(sent_at, received_at) and name_at = coalesce(sent_at, received_at) and (retries > 0 or run_started_at > started_at) then null when started_at < greatest(sent_at, eta) then 0 else date_part('epoch', started_at - greatest(sent_at, eta)) end`,
    ),
    lastEventAt: instant("last_event_at").notNull(),
    createdAt: instant("created_at").notNull().defaultNow(),
    updatedAt: instant("updated_at").notNull().defaultNow(),

    // Columns that the merge compares: see docs/adr/0003-row-merge.md.
    statePrecedence: smallint("state_precedence").notNull(),
    stateRank: smallint("state_rank").notNull(),
    stateAt: instant("state_at").notNull(),
    stateHostname: text("state_hostname").notNull(),
    workerRank: smallint("worker_rank"),
    workerAt: instant("worker_at"),
    /** The instant by which the state is compared, if it is not the state's own. */
    stateOrderAt: instant("state_order_at"),
    /** When the attempt of `name` and `queue` was sent, or received if no sending is known. */
    nameAt: instant("name_at"),
    /** The worker of the first start. NULL in rows older than this column. */
    startedHostname: text("started_hostname"),
    /** The latest start and its worker. */
    runStartedAt: instant("run_started_at"),
    runHostname: text("run_hostname"),

    /**
     * Duration in seconds of the run that led to the state: `runtime`, otherwise from its start to its end. NULL if the run has not ended, never
     * started, or has no known start. The latest start counts only if it is on the same worker, so that only one clock is involved, and if no later
     * attempt was sent (or received) after it. An unregistered task never starts.
     */
    duration: doublePrecision("duration").generatedAlwaysAs(
      sql`case when runtime is not null then runtime when state_precedence >= 2 and run_hostname = state_hostname and run_started_at <= state_at and (status <> 'REVOKED' or revoked_by like 'terminated%') and (name_at is null or name_at <= coalesce(sent_at, received_at) or name_at <= run_started_at) and coalesce(exception, '') not like 'NotRegistered(%' then date_part('epoch', state_at - run_started_at) end`,
    ),

    /** When the task was first seen, by the clock of its events. Changes only if an event of an earlier kind comes late, so updates stay HOT. */
    seenAt: instant("seen_at")
      .notNull()
      .generatedAlwaysAs(sql`coalesce(sent_at, received_at, started_at, state_at)`),
    /** `seen_at` before the last update. Roll-ups need it, because a task can leave the minute in which it was counted. */
    seenBefore: instant("seen_before"),
    /**
     * A start or an end that the last update would have lost: a start between the first and the latest, or the lesser of two ends. The same statement
     * stores it in `celery_task_event`.
     */
    leftOut: jsonb("left_out"),
    /** The status, if it is one that people look for and few tasks have. Stays NULL in most updates, so they stay HOT. */
    problem: text("problem").generatedAlwaysAs(sql`case when status in ('FAILURE', 'RETRY', 'REVOKED', 'REJECTED') then status end`),
  },
  // An update is HOT only if no indexed column changes. So no index may contain `status`, `finished_at` or anything else that most updates change.
  (table) => [
    // Also for retention.
    index("celery_task_seen_at_idx").on(table.seenAt, table.taskId),
    index("celery_task_name_idx").on(table.name, table.seenAt, table.taskId),
    index("celery_task_problem_idx")
      .on(table.problem, table.seenAt, table.taskId)
      .where(sql`problem is not null`),
    index("celery_task_problem_name_idx")
      .on(table.problem, table.name, table.seenAt, table.taskId)
      .where(sql`problem is not null`),
    index("celery_task_root_id_idx")
      .on(table.rootId)
      .where(sql`root_id <> task_id`),
  ],
);

/**
 * What happened to a task, as far as its row cannot show it: see docs/adr/0015-task-events.md. Partitioned by the day of `at`, which Drizzle does not
 * know about.
 */
export const celeryTaskEvent = pgTable(
  "celery_task_event",
  {
    taskId: byteOrderedText("task_id").notNull(),
    /** By the clock of the event's sender. */
    at: instant("at").notNull(),
    /** Celery's: `task-started`, `task-retried`, … */
    type: byteOrderedText("type").notNull(),
    /** The worker, or the client for `task-sent`. */
    hostname: byteOrderedText("hostname").notNull(),
    /** `name` and `retries` only for `task-sent` and `task-received`, `queue` only for `task-sent`. */
    name: text("name"),
    queue: text("queue"),
    retries: integer("retries"),
    /** Whether the task itself sent the message, as for a retry or a replacement. True or NULL, like `requeue` and `exited`. */
    again: boolean("again"),
    /** Only for `task-succeeded`. Seconds. */
    runtime: doublePrecision("runtime"),
    /** Only for `task-failed` and `task-retried`, like `traceback`. */
    exception: text("exception"),
    traceback: text("traceback"),
    /** Only for `task-revoked`: as in `celery_task`. */
    revokedBy: text("revoked_by"),
    /** Only for `task-rejected`: whether the message went back to the broker. */
    requeue: boolean("requeue"),
    /** Only for `task-failed`: whether a signal made the process exit. */
    exited: boolean("exited"),
  },
  (table) => [primaryKey({ columns: [table.taskId, table.at, table.type, table.hostname] })],
);

/**
 * Workers, one row per node, from their own events and from what the monitor observed. Text is byte-ordered, as in a task's id. A row with neither
 * `heard_at` nor `observed_at` only notes a `worker-offline` that came before everything else, and is not a worker to show.
 */
export const celeryWorker = pgTable("celery_worker", {
  /** The node's name, `name@host`. */
  hostname: byteOrderedText("hostname").primaryKey(),
  /** When a receiver last got a `worker-online` or `worker-heartbeat`, by the receiver's clock. */
  heardAt: instant("heard_at"),
  /** The latest event, by the worker's clock: `worker-online`, `worker-heartbeat` or `worker-offline`. */
  lastEventAt: instant("last_event_at"),
  lastEventType: text("last_event_type"),
  /** The latest `worker-online`, by the worker's clock: it has restarted since every earlier event. */
  onlineAt: instant("online_at"),
  /** When these values are from, by the worker's clock. */
  heartbeatAt: instant("heartbeat_at"),
  /** Seconds between heartbeats. */
  freq: doublePrecision("freq"),
  /** Tasks that it is running. */
  active: integer("active"),
  /** Tasks since it started. */
  processed: bigint("processed", { mode: "number" }),
  /** Load averages of its host over 1, 5 and 15 minutes. */
  loadavg: doublePrecision("loadavg").array(),
  pid: integer("pid"),
  swIdent: text("sw_ident"),
  swVer: text("sw_ver"),
  swSys: text("sw_sys"),
  firstSeenAt: instant("first_seen_at").notNull(),
  /** The Celery queues that it consumes from, as of `queues_at`. */
  queues: text("queues").array(),
  queuesAt: instant("queues_at"),
  /** The pool's implementation, such as `celery.concurrency.prefork:TaskPool`. */
  pool: text("pool"),
  concurrency: integer("concurrency"),
  prefetchCount: integer("prefetch_count"),
  startedAt: instant("started_at"),
  statsAt: instant("stats_at"),
  /** When it last answered a monitor, by the monitor's clock. */
  observedAt: instant("observed_at").generatedAlwaysAs(sql`greatest(queues_at, stats_at)`),
});

/** Lengths of Celery's queues by minute, from what the monitor observed. */
export const celeryQueueMinute = pgTable(
  "celery_queue_minute",
  {
    minute: instant("minute").notNull(),
    /** '' for what is known only of all queues together: `unacked` and `oldest_at`, which only Redis tells. */
    queue: byteOrderedText("queue").notNull(),
    /** When the latest observation of this minute was made, by the monitor's clock. */
    observedAt: instant("observed_at").notNull(),
    /** Messages that no worker has taken: the latest number, and the largest of this minute. */
    messages: bigint("messages", { mode: "number" }),
    messagesMax: bigint("messages_max", { mode: "number" }),
    /** Only RabbitMQ tells. */
    consumers: integer("consumers"),
    /** Messages that workers have taken and not acknowledged. */
    unacked: bigint("unacked", { mode: "number" }),
    unackedMax: bigint("unacked_max", { mode: "number" }),
    /** When a worker took the oldest of them. */
    oldestAt: instant("oldest_at"),
  },
  (table) => [primaryKey({ columns: [table.minute, table.queue] }), index("celery_queue_minute_queue_idx").on(table.queue, table.minute)],
);

/** What is counted of tasks. */
const counts = () => ({
  /** Tasks. */
  n: integer("n").notNull(),
  /** Sum of `duration` in seconds, and how many tasks have which, as a number with twelve digits for each bucket: see `packedCount`. */
  runtimeSum: doublePrecision("runtime_sum").notNull(),
  runtimeHist: numeric("runtime_hist").notNull(),
  /** The same of `wait_time`. */
  waitSum: doublePrecision("wait_sum").notNull(),
  waitHist: numeric("wait_hist").notNull(),
  /** The greatest `duration`, and its task. */
  runtimeMax: doublePrecision("runtime_max"),
  slowestId: text("slowest_id"),
  /** The task that failed last. Only for FAILURE. */
  lastFailedId: text("last_failed_id"),
});

/** Tasks counted by the minute of `seen_at`, name, queue and status. Recomputed from `celery_task`, never added to. */
export const celeryTaskMinute = pgTable(
  "celery_task_minute",
  {
    minute: instant("minute").notNull(),
    /** '' if it is not known, `(other)` for the names beyond the 200 most frequent of the minute. The same is true of 100 queues. */
    name: byteOrderedText("name").notNull(),
    queue: byteOrderedText("queue").notNull(),
    status: byteOrderedText("status").notNull(),
    ...counts(),
  },
  (table) => [
    primaryKey({ columns: [table.minute, table.name, table.queue, table.status] }),
    index("celery_task_minute_name_idx").on(table.name, table.minute),
    // Finds the minutes of tasks that a worker has, of which there are few.
    index("celery_task_minute_running_idx")
      .on(table.minute)
      .where(sql`status in ('RECEIVED', 'STARTED')`),
  ],
);

/**
 * The counts of `celery_task_minute` summed up, so that charts of months read few rows: by hour and day, and over all names and queues. Recomputed like
 * them.
 */
export const celeryTaskPeriod = pgTable(
  "celery_task_period",
  {
    /** How long the period is, in minutes: 1, 60 or 1440. A query must choose one, and choose between `(all)` and names. */
    width: smallint("width").notNull(),
    /** The beginning of the period, in UTC. */
    at: instant("at").notNull(),
    /** As in `celery_task_minute`, or `(all)`. With the width 1, only `(all)`. */
    name: byteOrderedText("name").notNull(),
    /** As in `celery_task_minute`. `(all)` only if the name is `(all)`. */
    queue: byteOrderedText("queue").notNull(),
    status: byteOrderedText("status").notNull(),
    ...counts(),
  },
  (table) => [
    primaryKey({ columns: [table.width, table.at, table.name, table.queue, table.status] }),
    index("celery_task_period_name_idx").on(table.width, table.name, table.at),
    // Charts without a name or a queue read only these few.
    index("celery_task_period_all_idx")
      .on(table.width, table.at)
      .where(sql`name = '(all)' and queue = '(all)'`),
  ],
);

/** Minutes whose tasks have changed since they were counted. Without a key, so that batches never wait for each other. */
export const celeryTaskMinuteDirty = pgTable("celery_task_minute_dirty", {
  minute: instant("minute").notNull(),
  notedAt: instant("noted_at").notNull().defaultNow(),
});

/**
 * What the receivers of a source have reported: that they listened without interruption from one time until another. One row per source, in which each
 * value is the greatest of those that the reports give, so that neither order nor repetition matters, and no later report takes one back.
 */
export const celeryListening = pgTable("celery_listening", {
  /** What the receivers read from, without credentials. */
  source: text("source").primaryKey(),
  /** Until when they listened at all. */
  until: instant("until").notNull(),
  /** Until when one had listened for long enough that a worker that was silent meanwhile is gone. */
  enoughUntil: instant("enough_until"),
  /** All workers were silent together, after this time and until the other. */
  quietSince: instant("quiet_since"),
  quietUntil: instant("quiet_until"),
  /** All workers were silent after this time, and for so long that the broker is not at fault. */
  silentSince: instant("silent_since"),
  /** When `until` was stored, by the clock of the database. */
  storedAt: instant("stored_at").notNull().defaultNow(),
});

/** One row per roll-up, written by the process that does the periodic work. */
export const celeryRollup = pgTable("celery_rollup", {
  /** The table of the roll-up. */
  name: text("name").primaryKey(),
  /** When it was last brought up to date. */
  rolledUpAt: instant("rolled_up_at"),
  /** Earlier minutes are never recomputed, because retention may have deleted some of their tasks. */
  sealedBefore: instant("sealed_before"),
  /** Earlier hours and days are in `celery_task_period`. */
  hoursBefore: instant("hours_before"),
  daysBefore: instant("days_before"),
  /** Earlier minutes may have been deleted. */
  minutesSince: instant("minutes_since"),
});
