/** Which migrations a schema's tables have had: a table of our own beside them, in the form of Drizzle's. */
import { sql, type SQL } from "drizzle-orm";
import { execute, type Drizzle } from "./database.ts";

/** A migration's time, which is how Drizzle knows it, and its hash. */
export interface Noted {
  readonly folderMillis: number;
  readonly hash: string;
}

export const JOURNAL = "celery_metrics_exporter_migrations";
/** What earlier versions used: one for the whole database, and for every other program there that uses Drizzle. */
const FORMER = { schema: "drizzle", table: "__drizzle_migrations" } as const;

export class MigrationJournal {
  readonly #transaction: Drizzle;
  readonly #schema: string;

  constructor(transaction: Drizzle, schema: string) {
    this.#transaction = transaction;
    this.#schema = schema;
  }

  /**
   * What has been applied to the tables that are here.
   *
   * @param isEmpty whether none of the tables is here: then nothing has been applied, whatever the notes say.
   */
  async read(all: readonly Noted[], isEmpty: boolean): Promise<ReadonlySet<number>> {
    const own = { schema: this.#schema, table: JOURNAL };
    if (!(await this.#isReadable(own))) {
      await execute(this.#transaction, sql`create table ${name(own)} (id serial primary key, hash text not null, created_at bigint)`);
    }
    if (isEmpty) await execute(this.#transaction, sql`delete from ${name(own)}`);
    const noted = await this.#times(own);
    if (noted.size > 0 || isEmpty) return noted;
    const former = (await this.#isReadable(FORMER)) ? await this.#times(FORMER) : new Set<number>();
    const applied = all.filter(({ folderMillis }) => former.has(folderMillis));
    // No notes anywhere, as after a restore of the tables alone: the check at the end finds out whether this is true.
    const assumed = applied.length > 0 ? applied : all;
    for (const migration of assumed) await this.add(migration);
    return new Set(assumed.map(({ folderMillis }) => folderMillis));
  }

  async add({ hash, folderMillis }: Noted): Promise<void> {
    const own = { schema: this.#schema, table: JOURNAL };
    await execute(this.#transaction, sql`insert into ${name(own)} (hash, created_at) values (${hash}, ${folderMillis})`);
  }

  async #times(table: Place): Promise<ReadonlySet<number>> {
    const rows = await execute<{ at: string }>(this.#transaction, sql`select created_at::text as at from ${name(table)}`);
    return new Set(rows.map(({ at }) => Number(at)));
  }

  /** Of our own, one that we may not read counts as there: reading it then says so. */
  async #isReadable({ schema, table }: Place): Promise<boolean> {
    const rows = await execute(
      this.#transaction,
      sql`select from pg_class c join pg_namespace n on n.oid = relnamespace
          where nspname = ${schema} and relname = ${table}
            and (${schema !== FORMER.schema} or (has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')))`,
    );
    return rows.length > 0;
  }
}

interface Place {
  readonly schema: string;
  readonly table: string;
}

function name({ schema, table }: Place): SQL {
  return sql`${sql.identifier(schema)}.${sql.identifier(table)}`;
}
