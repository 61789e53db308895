/** Statements that PostgreSQL parses and plans once for each connection. For a batch of a few tasks, that takes five times as long as storing them. */
import type { Logger } from "@celery-metrics-exporter/runtime";
import type { SQL } from "drizzle-orm";
import { PgDialect } from "drizzle-orm/pg-core";
import { createHash } from "node:crypto";
import { DatabaseError, type Pool } from "pg";

/** The server's errors, before it runs anything, if the statement was kept in another session than this one: it does not exist, or it exists already. */
const OTHER_SESSION = new Set(["26000", "42P05"]);

const dialect = new PgDialect();

/**
 * Runs statements of a few different texts under names. Behind a pooler that gives a session to several clients, names can be lost; from then on it
 * sends each statement whole.
 */
export class KeptStatements {
  readonly #pool: Pick<Pool, "query">;
  readonly #logger: Logger | undefined;
  readonly #names = new Map<string, string>();
  #areLost = false;

  constructor(pool: Pick<Pool, "query">, logger?: Logger) {
    this.#pool = pool;
    this.#logger = logger;
  }

  /** @throws the driver's error. */
  async run(statement: SQL): Promise<void> {
    const { sql: text, params: values } = dialect.sqlToQuery(statement);
    if (!this.#areLost) {
      try {
        await this.#pool.query({ name: this.#nameOf(text), text, values });
        return;
      } catch (thrown) {
        if (!(thrown instanceof DatabaseError && OTHER_SESSION.has(thrown.code ?? ""))) throw thrown;
        this.#areLost = true;
        this.#logger?.info(
          { reason: thrown.message },
          "the connection pooler does not keep prepared statements; sending each statement whole",
        );
      }
    }
    await this.#pool.query({ text, values });
  }

  /** Another release, which shares a session through a pooler, has other names for other texts. */
  #nameOf(text: string): string {
    let name = this.#names.get(text);
    if (name === undefined) {
      name = `celery_metrics_exporter_${createHash("sha256").update(text).digest("hex").slice(0, 16)}`;
      this.#names.set(text, name);
    }
    return name;
  }
}
