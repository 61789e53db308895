/** Runs a user's statement, which can only read. */
import { UnavailableError, redactUrl, toError } from "@celery-metrics-exporter/runtime";
import { DrizzleQueryError, sql } from "drizzle-orm";
import { Client, types, type QueryConfig } from "pg";
import { cannotConnect, connectDatabase } from "../connect/connect-database.ts";
import { toDatabaseConnection } from "../connect/connection.ts";
import { faultOf, toDatabaseError } from "../connect/database-error.ts";
import { checkDatabaseUrl, isEmbedded } from "../connect/database-url.ts";

/** The result of a statement. */
export interface SelectedRows {
  readonly columns: readonly SelectedColumn[];
  /** Values by column. Times are text, and so are numbers that JavaScript cannot represent. */
  readonly rows: readonly Readonly<Record<string, unknown>>[];
}

export interface SelectedColumn {
  readonly name: string;
  /** Whether its values are numbers with possibly many decimals. */
  readonly isDecimal: boolean;
}

export interface ReadRowsOptions {
  /** As for `connectDatabase`. */
  readonly url: string;
  readonly statement: string;
  /** Shown in `pg_stat_activity`. */
  readonly applicationName?: string;
}

/** Thrown when the database rejects or cannot run the statement, with the database's message. */
export class StatementError extends Error {
  /** Five letters and digits; undefined if the database returned none. */
  readonly sqlState: string | undefined;

  constructor(message: string, sqlState: string | undefined, cause: unknown) {
    super(message, { cause });
    this.name = "StatementError";
    this.sqlState = sqlState;
  }
}

/** `float4`, `float8` and `numeric`. */
const DECIMAL_TYPES: ReadonlySet<number> = new Set([700, 701, 1700]);
const INT8 = 20;
/** Times and intervals, and lists of them, kept as the server's text: the driver would convert them to dates without microseconds. */
const AS_TEXT: ReadonlySet<number> = new Set([1082, 1114, 1184, 1186, 1115, 1182, 1185, 1187]);
/** Errors of the server, not of the statement: it is shutting down or out of resources. */
const SERVER_FAULT = /^(08|53|57P|58|F0|XX)/;

const CONNECT_TIMEOUT_MS = 15_000;

/**
 * Runs one statement in a read-only transaction that is rolled back, without a time limit. The extended protocol accepts only a single statement, so it
 * cannot be followed by another outside the transaction. Only the user's rights limit side effects of functions beyond the tables.
 *
 * @throws {ConfigError} if the URL is invalid.
 * @throws {UnavailableError} if the database does not answer, refuses access, or goes away meanwhile.
 * @throws {StatementError} if the statement fails.
 */
export async function readRows(options: ReadRowsOptions): Promise<SelectedRows> {
  checkDatabaseUrl(options.url);
  return isEmbedded(options.url) ? readEmbedded(options) : readPostgres(options);
}

async function readEmbedded({ url, statement }: ReadRowsOptions): Promise<SelectedRows> {
  const database = await connectDatabase({ url });
  try {
    const result: unknown = await database.drizzle.transaction((transaction) => transaction.execute(sql.raw(statement)), {
      accessMode: "read only",
    });
    return toSelected(result as DriverResult);
  } catch (thrown) {
    throw toStatementError(thrown);
  } finally {
    await database.close();
  }
}

async function readPostgres({ url, statement, applicationName }: ReadRowsOptions): Promise<SelectedRows> {
  const connection = toDatabaseConnection(url);
  const { statement_timeout: limitMs } = connection;
  const client = new Client({
    application_name: applicationName ?? "celery-metrics-exporter",
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    ...connection,
    // Set in the transaction instead: a pooler does not accept it for the session.
    statement_timeout: 0,
    lock_timeout: 0,
  });
  // Without a listener, a lost connection would end the process. The statement fails, with the reason.
  client.on("error", () => {});
  try {
    await client.connect().catch((thrown: unknown) => {
      throw cannotConnect(url, faultOf(thrown));
    });
    await client.query("begin transaction read only");
    if (limitMs !== undefined) await client.query(`set local statement_timeout = ${limitMs}`);
    const query: QueryConfig & { queryMode: "extended" } = { text: statement, types: { getTypeParser }, queryMode: "extended" };
    const result: unknown = await client.query(query);
    await client.query("rollback");
    return toSelected(result as DriverResult);
  } catch (thrown) {
    if (thrown instanceof UnavailableError) throw thrown;
    throw toStatementError(thrown, url);
  } finally {
    await client.end();
  }
}

interface DriverResult {
  readonly fields?: readonly { readonly name: string; readonly dataTypeID: number }[];
  readonly rows?: readonly Readonly<Record<string, unknown>>[];
}

function toSelected({ fields = [], rows = [] }: DriverResult): SelectedRows {
  return { columns: fields.map(({ name, dataTypeID }) => ({ name, isDecimal: DECIMAL_TYPES.has(dataTypeID) })), rows };
}

type Parse = (text: string) => unknown;

function getTypeParser(type: number, format?: "text" | "binary"): Parse {
  if (type === INT8) return (text) => (Number.isSafeInteger(Number(text)) ? Number(text) : text);
  if (AS_TEXT.has(type)) return (text) => text;
  return (types.getTypeParser as (type: number, format?: string) => Parse)(type, format);
}

function toStatementError(thrown: unknown, url?: string): Error {
  const error = toError(thrown);
  const cause = (error instanceof DrizzleQueryError ? (error.cause ?? error) : error) as Error & { code?: unknown; hint?: unknown };
  const { fault, sqlState, reason } = faultOf(thrown);
  if (fault === "unavailable" && (sqlState === undefined || SERVER_FAULT.test(sqlState))) {
    const where = url === undefined ? "The embedded database" : `PostgreSQL at ${redactUrl(url)}`;
    return new UnavailableError(`${where} is unavailable (${reason}).`, { cause });
  }
  if (fault === "denied") return toDatabaseError(thrown);
  const hint = typeof cause.hint === "string" ? ` (${cause.hint.replace(/\.$/, "")})` : "";
  const code = typeof cause.code === "string" ? cause.code : undefined;
  return new StatementError(`${cause.message}${hint}`, code, cause);
}
