/** Our advisory locks in the user's database. The numbers are arbitrary, but no other program there may use them. */
import { pause } from "@celery-metrics-exporter/runtime";
import { type SQL, sql } from "drizzle-orm";
import { type Drizzle, execute, query } from "../tables/database.ts";

/** Keys: ASCII "cme" and a counter. */
export const ADVISORY_LOCKS = { migrate: 0x636d6501, retention: 0x636d6502, partitions: 0x636d6503, rollUp: 0x636d6504 } as const;

// For messages: the sessions that hold a lock we wait for.

interface Session {
  /** 0 for a prepared transaction. */
  readonly pid: number;
  readonly application: string | null;
  readonly user: string | null;
  readonly state: string | null;
  readonly since: string | null;
}

/** Describes the sessions that hold the advisory lock `key` of this database; empty if there are none. */
export async function describeAdvisoryHolders(database: Drizzle, key: number): Promise<string> {
  const holders = sql`select pid from pg_locks l
    where l.granted and l.database = (select oid from pg_database where datname = current_database()) and l.pid <> pg_backend_pid()
      and l.locktype = 'advisory' and l.classid = 0 and l.objid = ${key} and l.objsubid = 1`;
  return describeSessions(await query<Session>(database, sessions(holders)));
}

/**
 * Watches, on a separate connection, which sessions block session `pid`. It must poll while that session waits: once it gives up, the sessions that
 * waited behind it hold locks too.
 *
 * @returns the blockers of the last time it was blocked; empty if it never was.
 */
export async function watchBlockers(database: Drizzle, pid: number, everyMs: number, signal: AbortSignal): Promise<string> {
  let blockers: readonly Session[] = [];
  for (await pause(everyMs, signal); !signal.aborted; await pause(everyMs, signal)) {
    const found = await execute<Session>(database, sessions(sql`select unnest(pg_blocking_pids(${pid})) as pid`)).catch(() => []);
    if (found.length > 0) blockers = found;
  }
  return describeSessions(blockers);
}

function sessions(pids: SQL): SQL {
  return sql`select distinct pid, nullif(a.application_name, '') as application, a.usename::text as "user", a.state,
                    date_trunc('second', coalesce(a.xact_start, a.state_change, a.backend_start))::text as since
             from (${pids}) found left join pg_stat_activity a using (pid)
             order by pid limit 3`;
}

function describeSessions(found: readonly Session[]): string {
  return found.map(describe).join("; ");
}

/** PostgreSQL shows another user's state and times only to members of `pg_read_all_stats`. */
function describe({ pid, application, user, state, since }: Session): string {
  if (pid === 0) return "a prepared transaction (see pg_prepared_xacts)";
  const parts = [application ?? "no application_name", `user ${user ?? "unknown"}`, state, since === null ? null : `since ${since}`];
  return `PostgreSQL process ${pid} (${parts.filter((part) => part !== null).join(", ")})`;
}
