/** A private PostgreSQL with a database that belongs to a user without privileges, and the faults of both. */
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startPostgres, type PostgresServer } from "@celery-metrics-exporter/testkit";
import { Client } from "pg";
import { freeze } from "./frozen-server.ts";

/** Undoes a fault. */
export type Mend = () => Promise<void>;

const NAME = "celery";
/** Commits must survive a crash of the server, but not of the machine. */
const SERVER_ARGS = ["-c", "synchronous_commit=on", "-c", "deadlock_timeout=100ms"];

export class BreakableDatabase {
  readonly server: PostgresServer;

  private constructor(server: PostgresServer) {
    this.server = server;
  }

  static async start(): Promise<BreakableDatabase> {
    const database = new BreakableDatabase(await startPostgres({ args: SERVER_ARGS, durable: false }));
    await database.#administer([`create role ${NAME} login password '${NAME}'`, `create database ${NAME} owner ${NAME}`]);
    return database;
  }

  /** The URL for the user who owns the database. */
  get url(): string {
    return `postgres://${NAME}:${NAME}@127.0.0.1:${this.server.port}/${NAME}`;
  }

  /** The server hangs: connections stay open, but nothing is answered. */
  async freeze(): Promise<Mend> {
    const thaw = await freeze(this.server.pid);
    return async () => thaw();
  }

  async stop(): Promise<Mend> {
    await this.server.terminate();
    return () => this.server.start();
  }

  /** SIGKILLs everything at once: the server recovers from its log when it starts again. */
  async crash(): Promise<Mend> {
    await this.server.kill();
    return () => this.server.start();
  }

  /** The server shuts down when the last session, which is ours, ends: all others get 57P03. */
  async beginShutdown(): Promise<Mend> {
    const session = await this.#connect("postgres");
    process.kill(this.server.pid, "SIGTERM");
    await session.query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", [NAME]);
    return async () => {
      await session.end();
      await this.server.restart();
    };
  }

  /** The database accepts no connections, and existing ones are ended (55000). */
  async closeDoors(): Promise<Mend> {
    await this.#administer([`alter database ${NAME} allow_connections false`, ENDS_SESSIONS]);
    return () => this.#administer([`alter database ${NAME} allow_connections true`]);
  }

  /** The database has no free connection (53300). */
  async exhaustConnections(): Promise<Mend> {
    await this.#administer([`alter database ${NAME} connection limit 0`, ENDS_SESSIONS]);
    return () => this.#administer([`alter database ${NAME} connection limit -1`]);
  }

  /** The server returns as a standby, which only reads (25006), and is promoted at the end. */
  async failOver(): Promise<Mend> {
    await this.server.terminate();
    const signal = join(this.server.folder, "data", "standby.signal");
    writeFileSync(signal, "");
    chmodSync(signal, 0o666);
    await this.server.start();
    return () => this.#administer(["select pg_promote()"]);
  }

  /** Every write fails as if the disk were full (53100). */
  async fillDisk(): Promise<Mend> {
    await this.#inside([
      `create function no_space() returns trigger language plpgsql as
         $$ begin raise exception 'could not extend file: No space left on device' using errcode = '53100'; end $$`,
      "create trigger no_space before insert on celery_task for each statement execute function no_space()",
    ]);
    return () => this.#inside(["drop function no_space cascade"]);
  }

  /** Another session has locked the table: statements wait until their timeout (57014). */
  async lockTable(): Promise<Mend> {
    const session = await this.#connect(NAME);
    await session.query("begin");
    await session.query("lock table celery_task in access exclusive mode");
    return () => session.end();
  }

  /** The same with a lock timeout of the database (55P03). */
  async lockTableBriefly(): Promise<Mend> {
    await this.#administer([`alter database ${NAME} set lock_timeout = '100ms'`, ENDS_SESSIONS]);
    const unlock = await this.lockTable();
    return async () => {
      await unlock();
      await this.#administer([`alter database ${NAME} reset lock_timeout`, ENDS_SESSIONS]);
    };
  }

  /** Updates the rows of unfinished tasks in descending order of ids, while the exporter ascends (40P01). Resolves when the exporter was the victim. */
  async deadlock(): Promise<void> {
    const session = await this.#connect(NAME);
    // This session detects deadlocks late, so that the exporter's statement finds the deadlock.
    await session.query("set deadlock_timeout = '1min'");
    const before = await deadlocksIn(session);
    const written = "select task_id from celery_task where state_precedence < 2 order by updated_at desc limit 300";
    const deadline = Date.now() + 60_000;
    while ((await deadlocksIn(session)) === before) {
      if (Date.now() > deadline) throw new Error("no deadlock occurred");
      await session.query("begin");
      const { rows } = await session.query<{ task_id: string }>(written);
      const ids = rows.map(({ task_id }) => task_id).sort();
      const middle = Math.floor(ids.length / 2);
      const update = "update celery_task set updated_at = updated_at where task_id = any($1)";
      await session.query(update, [ids.slice(middle)]);
      for (let look = 0; look < 40 && (await waitingFor(session)) === 0; look++) await new Promise((resolve) => setTimeout(resolve, 50));
      await session.query(update, [ids.slice(0, middle)]).catch(() => {});
      await session.query("rollback");
    }
    await session.end();
  }

  async close(): Promise<void> {
    await this.server.stop();
  }

  async #administer(statements: readonly string[]): Promise<void> {
    await this.#run("postgres", statements);
  }

  async #inside(statements: readonly string[]): Promise<void> {
    await this.#run(NAME, statements);
  }

  async #run(database: string, statements: readonly string[]): Promise<void> {
    const session = await this.#connect(database);
    for (const statement of statements) await session.query(statement);
    await session.end();
  }

  /** Runs statements as the superuser. */
  async #connect(database: string): Promise<Client> {
    const url = new URL(this.server.url);
    url.pathname = `/${database}`;
    const client = new Client({ connectionString: url.href });
    client.on("error", () => {});
    await client.connect();
    // A timeout that a test sets for the whole database is meant for the exporter.
    await client.query("set lock_timeout = 0");
    return client;
  }
}

const ENDS_SESSIONS = `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${NAME}'`;

async function deadlocksIn(session: Client): Promise<number> {
  const { rows } = await session.query<{ deadlocks: string }>("select deadlocks from pg_stat_database where datname = current_database()");
  return Number(rows[0]?.deadlocks);
}

/** Number of other sessions' statements that wait for a lock. */
async function waitingFor(session: Client): Promise<number> {
  const { rows } = await session.query<{ waiting: number }>(
    "select count(*)::int as waiting from pg_locks where not granted and pid <> pg_backend_pid()",
  );
  return rows[0]?.waiting ?? 0;
}
