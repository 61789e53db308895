/**
 * Stores workers: from their events, and from what a monitor observed. Any order and repetition leads to the same row.
 *
 * A worker's events are ordered by its own clock, but whether it is alive depends on when a receiver last heard it, because workers' clocks differ. A
 * value that an event lacks changes nothing: a heartbeat that answers a broadcast has no `active`. An offline event of a worker that is not known leaves
 * a row without `heard_at`, so that an earlier heartbeat that comes later does not bring the worker back.
 */
import type { CeleryEvent, Listened, ObservedWorker, WorkerEvent, WorkersObserved } from "@celery-metrics-exporter/celery";
import { type SQL, getTableName, sql } from "drizzle-orm";
import { storableOrAbsent, storableText } from "../merge/task-row.ts";
import { type Database, type Drizzle, query, queryKept } from "../tables/database.ts";
import { celeryListening, celeryWorker } from "../tables/schema.ts";
import { WORKER_LOST_AFTER_SECONDS, fellSilentTogether, seconds } from "./worker-state.ts";

/** Bounds the table, because clients may invent workers. While it has this many, new workers are ignored. */
export const MOST_WORKERS = 10_000;
/** How far a worker's clock may be ahead. Otherwise nothing that it says once its clock is right would count for as long as it was ahead. */
const MOST_AHEAD_SECONDS = 60;
const MAX_INT32 = 2_147_483_647;

const RANKS: Readonly<Record<WorkerEvent["type"], number>> = { "worker-online": 0, "worker-heartbeat": 1, "worker-offline": 2 };

/**
 * Merges the worker events among these into `celery_worker`, with one statement. Without any, it does nothing.
 *
 * @param receivedAt when a receiver got them, in seconds since the epoch. If that is not known, a worker counts as heard when it sent the event: it may
 *   be an old one that is replayed.
 * @throws {UnavailableError} if the database is unavailable, is not migrated or refuses access.
 * @throws {RefusedDataError} if it rejects a row. Then none is stored.
 */
export async function mergeWorkerEvents(database: Database, events: readonly CeleryEvent[], receivedAt?: number): Promise<void> {
  const rows = events.filter(isWorkerEvent).map((event) => fromEvent(event, receivedAt ?? Math.min(event.timestamp, Date.now() / 1_000)));
  if (rows.length > 0) await queryKept(database, eventsStatement(rows));
}

/**
 * Merges the answers of workers into `celery_worker`. Each value is the latest that the worker gave.
 *
 * @throws {UnavailableError} if the database is unavailable, is not migrated or refuses access.
 * @throws {RefusedDataError} if it rejects a row. Then none is stored.
 */
export async function mergeObservedWorkers(database: Database, observations: readonly WorkersObserved[]): Promise<void> {
  const rows = observations.flatMap(({ timestamp, workers }) => workers.map((worker) => fromObservation(worker, timestamp)));
  if (rows.length > 0) await queryKept(database, observationsStatement(rows));
}

/**
 * Stores in `celery_listening` what receivers report. A time that ends in the future is moved so that it ends now: it is as long as the receiver says.
 *
 * @throws {UnavailableError} if the database is unavailable, is not migrated or refuses access.
 */
export async function mergeListened(database: Database, observations: readonly Listened[]): Promise<void> {
  for (const { source, since, timestamp } of observations)
    await queryKept(database, listenedStatement(storableText(source), since, timestamp));
}

/** A source from which nothing came for so long is forgotten. */
const SOURCE_DAYS = 1;

function listenedStatement(source: string, since: number, until: number): SQL {
  const isLater = sql`excluded.until > listening.until`;
  const changing = ["until", "enough_until", "quiet_since", "quiet_until", "silent_since"].map((column) => sql.raw(column));
  const greatest = changing.map((column) => sql`${column} = greatest(listening.${column}, excluded.${column})`);
  const isNews = changing.map((column) => sql`excluded.${column} > coalesce(listening.${column}, '-infinity')`);
  return sql`with reported as (
      select ${source} as source, to_timestamp(${since}::float8) - ahead as since, to_timestamp(${until}::float8) - ahead as until
      from (select greatest(to_timestamp(${until}::float8) - now(), interval '0') as ahead) clock
    ), forgotten as (
      delete from ${celeryListening} where source <> ${source} and until < (select until from reported) - ${SOURCE_DAYS}::int * interval '1 day'
    )
    insert into ${celeryListening} as listening (source, ${sql.join(changing, sql`, `)})
    select source, until, case when since <= until - ${seconds(WORKER_LOST_AFTER_SECONDS)} then until end,
      case when not is_long then fell_silent_at end, case when not is_long then until end, case when is_long then fell_silent_at end
    from reported left join lateral (${fellSilentTogether(sql`since`, sql`until`)}) together on true
    where since < until
    on conflict (source) do update set ${sql.join(greatest, sql`, `)},
      stored_at = case when ${isLater} then excluded.stored_at else listening.stored_at end
    where ${sql.join(isNews, sql` or `)}`;
}

/**
 * Runs the statements without rows, so that PostgreSQL checks the table and our rights.
 *
 * @throws {UnavailableError} if they could not work.
 */
export async function checkWorkers(database: Drizzle): Promise<void> {
  await query(database, eventsStatement([]));
  await query(database, observationsStatement([]));
  await query(database, listenedStatement("", 0, 0));
  await query(database, sql`delete from ${celeryWorker} where false`);
}

function isWorkerEvent(event: CeleryEvent): event is WorkerEvent {
  return Object.hasOwn(RANKS, event.type);
}

/** A row of the parameter. Instants are seconds since the epoch. */
type Row = Readonly<Record<string, unknown>>;

function fromEvent(event: WorkerEvent, heardAt: number): Row {
  const at = Math.min(event.timestamp, heardAt + MOST_AHEAD_SECONDS);
  return {
    hostname: storableText(event.hostname),
    heard_at: event.type === "worker-offline" ? undefined : heardAt,
    last_event_at: at,
    last_event_type: event.type,
    online_at: event.type === "worker-online" ? at : undefined,
    heartbeat_at: at,
    freq: event.freq,
    active: whole(event.active, MAX_INT32),
    processed: whole(event.processed, Number.MAX_SAFE_INTEGER),
    loadavg: event.loadavg,
    pid: event.pid,
    sw_ident: storableOrAbsent(event.sw_ident),
    sw_ver: storableOrAbsent(event.sw_ver),
    sw_sys: storableOrAbsent(event.sw_sys),
    first_seen_at: heardAt,
  };
}

function fromObservation(worker: ObservedWorker, at: number): Row {
  const { hostname, queues, uptime, pool, concurrency, prefetchCount } = worker;
  const hasStats = [uptime, pool, concurrency, prefetchCount].some((value) => value !== undefined);
  return {
    hostname: storableText(hostname),
    first_seen_at: at,
    queues: queues?.map(storableText).toSorted(),
    queues_at: queues === undefined ? undefined : at,
    pool: storableOrAbsent(pool),
    concurrency: whole(concurrency, MAX_INT32),
    prefetch_count: whole(prefetchCount, MAX_INT32),
    started_at: uptime === undefined ? undefined : Math.floor(at - uptime),
    stats_at: hasStats ? at : undefined,
  };
}

function whole(value: number | undefined, max: number): number | undefined {
  return value === undefined ? undefined : Math.min(Math.floor(value), max);
}

// The statements. Each has groups of columns that move together: those of the row that comes first in the group's order.

interface Group {
  /** Expressions over a row, greatest first. Together they distinguish any two rows with different values, so that the order of arrival never decides. */
  readonly order: readonly string[];
  readonly columns: readonly string[];
}

const text = (column: string): string => `coalesce(ROW.${column}, '') COLLATE "C"`;
const number = (column: string): string => `coalesce(ROW.${column}, -1)`;
const instant = (column: string): string => `coalesce(ROW.${column}, '-infinity')`;

const LATEST: Group = {
  order: [
    instant("last_event_at"),
    `CASE ROW.last_event_type ${Object.entries(RANKS)
      .map(([type, rank]) => `WHEN '${type}' THEN ${rank}`)
      .join(" ")} ELSE -1 END`,
  ],
  columns: ["last_event_at", "last_event_type"],
};

/** A heartbeat that answers a broadcast has no `active`, and a `freq` that is not the worker's. */
const BEAT: Group = {
  order: [
    "(ROW.active IS NOT NULL)",
    instant("heartbeat_at"),
    ...["processed", "active", "freq", "pid"].map(number),
    "coalesce(ROW.loadavg, '{}')",
    ...["sw_ver", "sw_ident", "sw_sys"].map(text),
  ],
  columns: ["heartbeat_at", "freq", "active", "processed", "loadavg", "pid", "sw_ident", "sw_ver", "sw_sys"],
};

const QUEUES: Group = { order: [instant("queues_at"), `coalesce(ROW.queues, '{}') COLLATE "C"`], columns: ["queues_at", "queues"] };

const STATS: Group = {
  order: [instant("stats_at"), text("pool"), number("concurrency"), number("prefetch_count"), instant("started_at")],
  columns: ["stats_at", "pool", "concurrency", "prefetch_count", "started_at"],
};

const TYPES: Readonly<Record<string, string>> = {
  hostname: "text",
  heard_at: "double precision",
  last_event_at: "double precision",
  last_event_type: "text",
  online_at: "double precision",
  heartbeat_at: "double precision",
  freq: "double precision",
  active: "integer",
  processed: "bigint",
  loadavg: "double precision[]",
  pid: "integer",
  sw_ident: "text",
  sw_ver: "text",
  sw_sys: "text",
  first_seen_at: "double precision",
  queues: "text[]",
  queues_at: "double precision",
  pool: "text",
  concurrency: "integer",
  prefetch_count: "integer",
  started_at: "double precision",
  stats_at: "double precision",
};

/** Times by the clocks of workers. */
const OF_WORKERS: ReadonlySet<string> = new Set(["last_event_at", "online_at", "heartbeat_at"]);

const TABLE = getTableName(celeryWorker);

const eventsStatement = statementOf({ groups: [LATEST, BEAT], greatest: ["heard_at", "online_at"] });
const observationsStatement = statementOf({ groups: [QUEUES, STATS], greatest: [] });

interface Parts {
  readonly groups: readonly Group[];
  /** Columns of which the greatest value counts. */
  readonly greatest: readonly string[];
}

/**
 * The statement takes a JSON array of rows, of which several can be of one worker. Rows are sorted by name, so that overlapping statements lock them in
 * the same order. Unchanged rows are not written. The number of workers is counted only if there is a new one.
 */
function statementOf({ groups, greatest }: Parts): (rows: readonly Row[]) => SQL {
  const grouped = groups.flatMap(({ columns }) => columns);
  const columns = ["hostname", ...grouped, ...greatest, "first_seen_at"];
  const best = groups.map(
    ({ columns: moved, order }, index) =>
      `best${index} AS (SELECT DISTINCT ON (hostname) hostname, ${moved.join(", ")} FROM incoming ORDER BY hostname, ${order.map((part) => `${of("incoming", part)} DESC`).join(", ")})`,
  );
  const merged = [...greatest.map((column) => `max(${column}) AS ${column}`), "min(first_seen_at) AS first_seen_at"];
  const wins = groups.map(
    ({ order }) => `(${order.map((part) => of("excluded", part)).join(", ")}) > (${order.map((part) => of("worker", part)).join(", ")})`,
  );
  const changes = [
    ...greatest.map((column) => `${column} = greatest(worker.${column}, excluded.${column})`),
    "first_seen_at = least(worker.first_seen_at, excluded.first_seen_at)",
  ];
  const isNews = [
    ...wins,
    ...greatest.map((column) => `excluded.${column} > coalesce(worker.${column}, '-infinity')`),
    "excluded.first_seen_at < worker.first_seen_at",
  ];
  const before = `
WITH incoming AS MATERIALIZED (SELECT ${columns.map(read).join(", ")} FROM json_to_recordset(`;
  const after = `::json) AS row (${columns.map((column) => `${column} ${TYPES[column] ?? "text"}`).join(", ")})),
${best.join(",\n")},
merged AS (SELECT hostname, ${merged.join(", ")} FROM incoming GROUP BY hostname),
known AS (
  SELECT merged.*, worker.hostname IS NOT NULL AS is_known, row_number() OVER (PARTITION BY worker.hostname IS NOT NULL ORDER BY merged.hostname COLLATE "C") AS place
  FROM merged LEFT JOIN ${TABLE} worker ON worker.hostname = merged.hostname COLLATE "C"
)
INSERT INTO ${TABLE} AS worker (${columns.join(", ")})
SELECT ${columns.join(", ")} FROM known ${groups.map((_, index) => `JOIN best${index} USING (hostname)`).join(" ")}
WHERE is_known OR place <= ${MOST_WORKERS} - (SELECT count(*) FROM ${TABLE})
ORDER BY hostname COLLATE "C"
ON CONFLICT (hostname) DO UPDATE SET
(${grouped.join(", ")}) = (
  SELECT ${groups.flatMap(({ columns: moved }, index) => moved.map((column) => `CASE WHEN wins${index} THEN excluded.${column} ELSE worker.${column} END`)).join(", ")}
  FROM (SELECT ${wins.map((condition, index) => `${condition} AS wins${index}`).join(", ")} OFFSET 0) AS comparison
),
${changes.join(",\n")}
WHERE ${isNews.join("\nOR ")}`;
  return (rows) => sql`${sql.raw(before)}${JSON.stringify(rows)}${sql.raw(after)}`;
}

/**
 * Nothing was heard later than now, by the clock of the database: processes that store events and reports may have different clocks. By times of workers
 * their events are ordered, so those depend on nothing else.
 */
function read(column: string): string {
  if (!column.endsWith("_at")) return column;
  return OF_WORKERS.has(column)
    ? `to_timestamp(${column}) AS ${column}`
    : `CASE WHEN ${column} IS NOT NULL THEN least(to_timestamp(${column}), now()) END AS ${column}`;
}

function of(row: string, expression: string): string {
  return expression.replaceAll("ROW.", `${row}.`);
}

// Forgetting workers.

/**
 * Deletes workers that have been silent for this many days, or for an hour while the table is full.
 *
 * @returns how many.
 * @throws {UnavailableError} if the database is unavailable.
 */
export async function deleteSilentWorkers(database: Database, days: number): Promise<number> {
  const deleted = await query(
    database,
    sql`with doomed as materialized (
          select hostname from ${celeryWorker}
          where coalesce(greatest(heard_at, observed_at), first_seen_at) < now() - case
            when (select count(*) from ${celeryWorker}) >= ${MOST_WORKERS}::int then interval '1 hour' else ${days}::int * interval '1 day' end
          order by hostname for update skip locked
        )
        delete from ${celeryWorker} where hostname in (select hostname from doomed) returning 1`,
  );
  return deleted.length;
}
