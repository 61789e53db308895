/** Converts driver errors to errors that the exporter's host understands. Removes the rows: Drizzle's message contains every parameter. */
import { CodedError, TimedOutError, UnavailableError, tlsProblem, toError } from "@celery-metrics-exporter/runtime";
import { DrizzleQueryError, getTableName } from "drizzle-orm";
import { LIBPQ_TLS_NAMES } from "./connection.ts";
import { celeryTask, celeryTaskEvent } from "../tables/schema.ts";

/** How to migrate. Part of every message that requires it. */
const MIGRATE_ADVICE = "Run `pnpm drizzle-kit migrate` (or `pnpm celery-metrics-exporter migrate`) with the same DATABASE_URL.";
/** Added unless the table itself is missing: a trigger may require something that does not exist. */
const TRIGGER_ADVICE = " If it finds nothing to do, look at the triggers on celery_task.";
const UNDEFINED_TABLE = "42P01";
/** Matches a table's name in a message in any language, but not the name of another table. */
const NAMES_TABLE = new RegExp(`\\b(${getTableName(celeryTask)}|${getTableName(celeryTaskEvent)})\\b`);

/** Thrown when the database rejects the rows of a statement, so that retries cannot help. */
export class RefusedDataError extends CodedError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("ERR_DATA_REFUSED", message, options);
  }
}

/** The meaning of an error. */
export interface DatabaseFault {
  readonly fault: Fault;
  /** One line: the message of the server or the driver, without the rows. */
  readonly reason: string;
  readonly sqlState?: string;
  /** What to do, if the error shows it: a sentence without the full stop. */
  readonly advice?: string;
}

/** Limit on a reason's length: triggers can raise arbitrarily long messages. */
const MAX_REASON_LENGTH = 1_000;

const PASSWORD_ADVICE = "Put it into DATABASE_URL, PGPASSWORD, or ~/.pgpass (PGPASSFILE), which only you may read (mode 0600)";

/** What to do, by SQLSTATE or its class. */
const ADVICE: Readonly<Record<string, string>> = {
  "25006": "It is a read-only replica, or read-only for this user: set DATABASE_URL to the primary",
  "28": "Correct the user and password in DATABASE_URL, or the server's pg_hba.conf",
  "2BP01": "Drop the views that use it, and recreate them afterwards",
  "3D": "Create it (CREATE DATABASE), or correct DATABASE_URL",
  "42501": "Grant this user the rights in docs/permissions.md; only the owner of a table may migrate it",
  "53300": "Raise max_connections, or lower POSTGRES_POOL_SIZE",
};

const SLOW_ADVICE =
  "Check for transactions that hold locks on rows of celery_task, slow triggers, and load; the limits are POSTGRES_STATEMENT_TIMEOUT_MS and the server's lock_timeout";

/** What to do if a connection pooler rejects a parameter. */
const POOLER_ADVICE: ReadonlyMap<string, string> = new Map([
  ["search_path", "It is a connection pooler: leave search_path out of DATABASE_URL, and set it with ALTER ROLE … SET search_path = …"],
  [
    "options",
    "It is a connection pooler: leave options out of DATABASE_URL (and PGOPTIONS), and set them with ALTER ROLE, such as ALTER ROLE … SET search_path = …",
  ],
]);
const POOLER_ADVICE_ELSE =
  "It is a connection pooler: leave the parameter out of DATABASE_URL, or add it to the pooler's ignore_startup_parameters";

const SQLSTATE = /^[0-9A-Z]{5}$/;

const TLS_MISSING_ADVICE = "Enable TLS in the server (ssl = on), or add sslmode=disable to DATABASE_URL to connect without it";

/** Node's errors for a server that does not answer, or stopped answering. */
const NETWORK_ERROR =
  /^(ECONN(REFUSED|RESET|ABORTED)|EPIPE|ETIMEDOUT|E(HOST|NET)(UNREACH|DOWN)|ENOTFOUND|EAI_AGAIN|ENOENT|EACCES|EADDRNOTAVAIL|E[MN]FILE|ENOBUFS)$/;

/** pg's errors without a code for a connection that is lost or times out (pg/lib/client.js, pg-pool/index.js). */
const CONNECTION_LOST = /Connection terminated|timeout exceeded when trying to connect|timeout expired|not queryable|Query read timeout/;
/** The server's error for a client without a certificate, if `pg_hba.conf` requires one. */
const CERTIFICATE_MISSING = /requires a valid client certificate/;
/** pg's error if the server requires a password and we have none (pg/lib/crypto/sasl.js, utils.js). */
const PASSWORD_MISSING = /client password must be a (non-empty )?string|argument must be of type string.*Received null/;
/** Errors from PgBouncer, and errors it forwards, which arrive as a protocol violation (08P01). */
const POOLER_REFUSES_LOGIN = /^(no such (database|user)\b|(database|role) ".*" does not exist$|.*authentication failed)/i;
const POOLER_WITHOUT_TRANSACTIONS = /transaction blocks not allowed in statement pooling mode/;
/** Failed negotiation of TLS or SASL (pg/lib/connection.js, pg/lib/crypto/sasl.js, Node's tls). */
const HANDSHAKE_FAILED = /SSL|SASL|SCRAM|certificate|client password/i;

export function faultOf(thrown: unknown): DatabaseFault {
  const error = rootOf(thrown);
  const code = (error as NodeJS.ErrnoException).code ?? "";
  const message = error.message.slice(0, MAX_REASON_LENGTH);
  const tls = tlsProblem(error, LIBPQ_TLS_NAMES);
  if (tls !== undefined) return { fault: "denied", reason: tls };
  if (NETWORK_ERROR.test(code)) return { fault: "unavailable", reason: message || code };
  if (CERTIFICATE_MISSING.test(message)) return { fault: "denied", reason: `${message}; set one with sslcert and sslkey` };
  if (SQLSTATE.test(code)) return { ...faultOfServer(code, message), reason: `${message} (SQLSTATE ${code})`, sqlState: code };
  if (CONNECTION_LOST.test(message)) return { fault: "unavailable", reason: message };
  if (PASSWORD_MISSING.test(message))
    return { fault: "denied", reason: "it requires a password, and we have none", advice: PASSWORD_ADVICE };
  if (message.includes("does not support SSL")) return { fault: "denied", reason: message, advice: TLS_MISSING_ADVICE };
  if (HANDSHAKE_FAILED.test(message)) return { fault: "denied", reason: message };
  return { fault: "unknown", reason: message };
}

function faultOfServer(sqlState: string, message: string): Pick<DatabaseFault, "fault" | "advice"> {
  const parameter = refusedParameter(message);
  if (parameter !== undefined) return { fault: "denied", advice: POOLER_ADVICE.get(parameter) ?? POOLER_ADVICE_ELSE };
  if (POOLER_WITHOUT_TRANSACTIONS.test(message)) return { fault: "denied", advice: "Set pool_mode to transaction or session in PgBouncer" };
  const fault = POOLER_REFUSES_LOGIN.test(message) ? "denied" : faultOfSqlState(sqlState);
  const advice = ADVICE[sqlState] ?? ADVICE[sqlState.slice(0, 2)];
  return advice === undefined ? { fault } : { fault, advice };
}

/** The startup parameter that a connection pooler rejects; undefined for any other error. */
export function refusedParameter(message: string): string | undefined {
  return /unsupported startup parameter(?: in options)?: (\w+)/.exec(message)?.[1];
}

/** Converts an error to an `UnavailableError` (`TimedOutError` for a time limit), a `RefusedDataError`, or a plain error, without parameters and rows. */
export function toDatabaseError(thrown: unknown): Error {
  const { fault, reason, advice, sqlState } = faultOf(thrown);
  const words = advice === undefined ? `${reason}.` : `${reason}. ${advice}.`;
  const isTableMissing = sqlState === UNDEFINED_TABLE && NAMES_TABLE.test(reason);
  switch (fault) {
    case "unavailable":
      return new UnavailableError(`PostgreSQL is unavailable: ${advice === undefined ? reason : words}`);
    case "slow":
      return new TimedOutError(`PostgreSQL takes too long: ${reason}. ${SLOW_ADVICE}.`);
    case "denied":
      return new UnavailableError(
        `PostgreSQL refused access: ${advice === undefined ? `${words} Check DATABASE_URL and the user's rights.` : words}`,
      );
    case "unmigrated":
      return new UnavailableError(`The database is not migrated: ${reason}. ${MIGRATE_ADVICE}${isTableMissing ? "" : TRIGGER_ADVICE}`);
    case "data":
      return new RefusedDataError(`PostgreSQL rejected the data: ${reason}`);
    case "unknown":
      return sqlState === undefined ? withoutDetail(rootOf(thrown)) : new Error(`PostgreSQL failed: ${reason}`);
    default:
      return fault satisfies never;
  }
}

/** The driver's error inside Drizzle's. */
function rootOf(thrown: unknown): Error {
  let error = toError(thrown);
  while (error instanceof DrizzleQueryError && error.cause !== undefined) error = error.cause;
  // For a name with several addresses, Node's error contains one error per address.
  if (error instanceof AggregateError && error.message === "" && error.errors[0] instanceof Error) return error.errors[0];
  return error;
}

/** Removes the `detail`, which contains the failing row: loggers print all properties of an error. */
function withoutDetail(error: Error): Error {
  const plain = new Error(error.message);
  plain.name = error.name;
  if (error.stack !== undefined) plain.stack = error.stack;
  return plain;
}

// The meaning of an SQLSTATE for a batch that was not stored (https://www.postgresql.org/docs/current/errcodes-appendix.html).

/**
 * - `unavailable`: the database is temporarily unavailable. The same statement may work later.
 * - `slow`: the statement exceeded a time limit. The database is overloaded, or one of the rows takes too long.
 * - `unmigrated`: the table is not the expected one. Works after a migration.
 * - `denied`: the database, the user or its rights are wrong. Works once that is corrected.
 * - `data`: the rows themselves are rejected, and would be again.
 * - `unknown`: none of these.
 */
export type Fault = "unavailable" | "slow" | "unmigrated" | "denied" | "data" | "unknown";

const BY_CODE: Readonly<Record<string, Fault>> = {
  "25P04": "slow", // transaction_timeout
  "42501": "denied", // insufficient_privilege
  "55P03": "slow", // lock_not_available: lock_timeout
  "57014": "slow", // query_canceled: statement_timeout
  XX001: "unavailable", // data_corrupted: works again once the table is repaired
  XX002: "unavailable", // index_corrupted
};

const BY_CLASS: Readonly<Record<string, Fault>> = {
  "08": "unavailable", // connection exception
  "0A": "unavailable", // feature not supported: the table is a view that does not accept rows, or a proxy is in between
  "22": "data", // data exception
  "23": "data", // integrity constraint violation
  "25": "unavailable", // invalid transaction state: read-only (25006), idle_in_transaction_session_timeout
  "26": "unavailable", // invalid statement name: a pooler gave us another session
  "28": "denied", // invalid authorization specification
  "3D": "denied", // invalid catalog name: no such database
  "3F": "unmigrated", // invalid schema name
  "40": "unavailable", // transaction rollback: deadlock, serialization failure
  "42": "unmigrated", // syntax error or access rule violation: no such table, column or key. Never the rows' fault, so never split for it
  "44": "data", // WITH CHECK OPTION violation
  "53": "unavailable", // insufficient resources: disk full, too many connections
  "54": "data", // program limit exceeded: an id too long for the index, JSON nested too deep
  "55": "unavailable", // object not in prerequisite state: the database does not accept connections (55000)
  "57": "unavailable", // operator intervention: shutting down, starting up
  "58": "unavailable", // system error outside of PostgreSQL: I/O
  "72": "unavailable", // snapshot too old
  F0: "unavailable", // configuration file error
  HV: "unavailable", // the table is a foreign one, and the other server fails
  // Unknown: P0 (raised by a trigger, for one row or all), 21, 38, 39, and XX000, which may be a bug that one row triggers.
};

export function faultOfSqlState(sqlState: string): Fault {
  return BY_CODE[sqlState] ?? BY_CLASS[sqlState.slice(0, 2)] ?? "unknown";
}

// Requirements of a database, checked before anything is stored.

/** Properties of a server. */
export interface DatabaseFacts {
  /** `server_encoding` */
  readonly encoding: string;
  /** `server_version_num`, such as 150004 */
  readonly version: number;
}

/** The first version with generated columns: 12. */
const OLDEST_VERSION = 120_000;

export const DATABASE_FACTS_STATEMENT =
  "select current_setting('server_encoding') as encoding, current_setting('server_version_num')::int as version";

/** The problem and its remedy as a clause; undefined if the database is suitable. */
export function databaseProblem({ encoding, version }: DatabaseFacts): string | undefined {
  if (version < OLDEST_VERSION) return `it is PostgreSQL ${Math.floor(version / 10_000)}, but 12 or later is required`;
  if (encoding !== "UTF8") {
    return `the database's encoding must be UTF8, but is ${encoding}: create another one with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0`;
  }
  return undefined;
}
