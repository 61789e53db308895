/** Which sessions hold a lock that we wait for, for messages. */
import { sql, type SQL } from "drizzle-orm";
import { query, type Drizzle } from "./database.ts";

interface Holder {
  readonly pid: number;
  readonly application: string | null;
  readonly user: string | null;
  readonly state: string | null;
  readonly since: string | null;
}

/** Sessions that hold the advisory lock `key` of this database; empty where there are none. */
export async function describeAdvisoryHolders(database: Drizzle, key: number): Promise<string> {
  return describeHolders(database, sql`l.locktype = 'advisory' and l.classid = 0 and l.objid = ${key} and l.objsubid = 1`);
}

/** Sessions that hold any lock on these tables; empty where there are none. */
export async function describeTableHolders(database: Drizzle, tables: readonly string[]): Promise<string> {
  return describeHolders(database, sql`l.locktype = 'relation' and l.relation = any(${sql.param(tables)}::text[]::regclass[])`);
}

async function describeHolders(database: Drizzle, condition: SQL): Promise<string> {
  const holders = await query<Holder>(
    database,
    sql`select distinct a.pid, nullif(a.application_name, '') as application, a.usename::text as "user", a.state,
               date_trunc('second', coalesce(a.xact_start, a.state_change, a.backend_start))::text as since
        from pg_locks l join pg_stat_activity a using (pid)
        where l.granted and l.database = (select oid from pg_database where datname = current_database())
          and l.pid <> pg_backend_pid() and ${condition}
        order by a.pid limit 3`,
  );
  return holders.map(describe).join("; ");
}

/** Another user's state and times are shown only to members of `pg_read_all_stats`. */
function describe({ pid, application, user, state, since }: Holder): string {
  const parts = [application ?? "no application_name", `user ${user ?? "unknown"}`, state, since === null ? null : `since ${since}`];
  return `PostgreSQL process ${pid} (${parts.filter((part) => part !== null).join(", ")})`;
}
