/** Which migrations a schema's tables have had: a table of our own beside them, in the form of Drizzle's. */
import { sql, type SQL } from "drizzle-orm";
import { execute, type Drizzle } from "./database.ts";

/** A migration's time, which is how Drizzle knows it, and its hash. */
export interface Noted {
  readonly folderMillis: number;
  readonly hash: string;
}

export const JOURNAL = "celery_metrics_exporter_migrations";

export class MigrationJournal {
  readonly #transaction: Drizzle;
  readonly #schema: string;
  readonly #name: SQL;

  constructor(transaction: Drizzle, schema: string) {
    this.#transaction = transaction;
    this.#schema = schema;
    this.#name = sql`${sql.identifier(schema)}.${sql.identifier(JOURNAL)}`;
  }

  /**
   * What has been applied, as far as it is noted.
   *
   * @param isEmpty whether none of the tables is here: then nothing has been applied, whatever the notes say.
   */
  async read(isEmpty: boolean): Promise<ReadonlySet<number>> {
    // Not `if not exists`, which needs the right to create tables even where there is one.
    if (!(await this.#exists())) {
      await execute(this.#transaction, sql`create table ${this.#name} (id serial primary key, hash text not null, created_at bigint)`);
    }
    if (isEmpty) await execute(this.#transaction, sql`delete from ${this.#name}`);
    const rows = await execute<{ at: string }>(this.#transaction, sql`select created_at::text as at from ${this.#name}`);
    return new Set(rows.map(({ at }) => Number(at)));
  }

  async add({ hash, folderMillis }: Noted): Promise<void> {
    await execute(this.#transaction, sql`insert into ${this.#name} (hash, created_at) values (${hash}, ${folderMillis})`);
  }

  async #exists(): Promise<boolean> {
    const rows = await execute(
      this.#transaction,
      sql`select from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = ${this.#schema} and relname = ${JOURNAL}`,
    );
    return rows.length > 0;
  }
}
