/** What a driver throws, as errors the exporter's host understands, without the rows: Drizzle puts every parameter into its message. */
import { CodedError, TimedOutError, UnavailableError, tlsProblem, toError } from "@celery-metrics-exporter/runtime";
import { DrizzleQueryError, getTableName } from "drizzle-orm";
import { LIBPQ_TLS_NAMES } from "./connection.ts";
import { celeryTask } from "../tables/schema.ts";

/** How to migrate; part of every message that asks for it. */
const MIGRATE_ADVICE = "Run `pnpm drizzle-kit migrate` (or `pnpm celery-metrics-exporter migrate`) with the same DATABASE_URL.";
/** A trigger may need something that does not exist. There is none where the table itself is missing. */
const TRIGGER_ADVICE = " If it finds nothing to do, look at the triggers on celery_task.";
const UNDEFINED_TABLE = "42P01";
/** The table's own name, in the server's language, and not that of a table beside it. */
const NAMES_TABLE = new RegExp(`\\b${getTableName(celeryTask)}\\b`);

/** Thrown when the rows of a statement are refused, so that trying again cannot help. */
export class RefusedDataError extends CodedError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("ERR_DATA_REFUSED", message, options);
  }
}

/** What is wrong, as far as the error says. */
export interface DatabaseFault {
  readonly fault: Fault;
  /** One line: the server's or the driver's words, without the rows. */
  readonly reason: string;
  readonly sqlState?: string;
  /** What to do, where it follows from the error: a sentence without its full stop. */
  readonly advice?: string;
}

/** Users' triggers can say anything at any length. */
const MAX_REASON_LENGTH = 1_000;

const PASSWORD_ADVICE =
  "Write it into DATABASE_URL, set PGPASSWORD, or put it into ~/.pgpass (PGPASSFILE), which only you may read (mode 0600)";

/** What to do, by SQLSTATE or its class. */
const ADVICE: Readonly<Record<string, string>> = {
  "25006": "It is a read-only replica, or read-only for this user: name the primary in DATABASE_URL",
  "28": "Correct user and password in DATABASE_URL, or the server's pg_hba.conf",
  "2BP01": "Drop the views that use it, and create them again afterwards",
  "3D": "Create it (CREATE DATABASE), or correct DATABASE_URL",
  "42501": "Give this user the rights in docs/permissions.md; only a table's owner may migrate it",
  "53300": "Raise max_connections, or lower POSTGRES_POOL_SIZE",
};

const SLOW_ADVICE =
  "Look for transactions that keep rows of celery_task locked, for slow triggers, and for load; the limits are POSTGRES_STATEMENT_TIMEOUT_MS and the server's lock_timeout";

/** What to do when a connection pooler refuses a parameter. */
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

const TLS_MISSING_ADVICE = "Turn TLS on in the server (ssl = on), or write sslmode=disable into DATABASE_URL to go without";

/** Node's network errors that mean that nobody answers, or stopped to. */
const NETWORK_ERROR =
  /^(ECONN(REFUSED|RESET|ABORTED)|EPIPE|ETIMEDOUT|E(HOST|NET)(UNREACH|DOWN)|ENOTFOUND|EAI_AGAIN|ENOENT|EACCES|EADDRNOTAVAIL|E[MN]FILE|ENOBUFS)$/;

/** What pg says without a code when a connection is lost or not made in time (pg/lib/client.js, pg-pool/index.js). */
const CONNECTION_LOST = /Connection terminated|timeout exceeded when trying to connect|timeout expired|not queryable|Query read timeout/;
/** What the server says to a client without a certificate, where `pg_hba.conf` asks for one. */
const CERTIFICATE_MISSING = /requires a valid client certificate/;
/** What pg says when the server asks for a password and there is none (pg/lib/crypto/sasl.js, utils.js). */
const PASSWORD_MISSING = /client password must be a (non-empty )?string|argument must be of type string.*Received null/;
/** PgBouncer's words and those it passes on, which come as a protocol violation (08P01). */
const POOLER_REFUSES_LOGIN = /^(no such (database|user)\b|(database|role) ".*" does not exist$|.*authentication failed)/i;
const POOLER_WITHOUT_TRANSACTIONS = /transaction blocks not allowed in statement pooling mode/;
/** TLS and SASL, when the two sides do not agree (pg/lib/connection.js, pg/lib/crypto/sasl.js, Node's tls). */
const HANDSHAKE_FAILED = /SSL|SASL|SCRAM|certificate|client password/i;

export function faultOf(thrown: unknown): DatabaseFault {
  const error = rootOf(thrown);
  const code = (error as NodeJS.ErrnoException).code ?? "";
  const message = error.message.slice(0, MAX_REASON_LENGTH);
  const tls = tlsProblem(error, LIBPQ_TLS_NAMES);
  if (tls !== undefined) return { fault: "denied", reason: tls };
  if (NETWORK_ERROR.test(code)) return { fault: "unavailable", reason: message || code };
  if (CERTIFICATE_MISSING.test(message)) return { fault: "denied", reason: `${message}; name one with sslcert and sslkey` };
  if (SQLSTATE.test(code)) return { ...faultOfServer(code, message), reason: `${message} (SQLSTATE ${code})`, sqlState: code };
  if (CONNECTION_LOST.test(message)) return { fault: "unavailable", reason: message };
  if (PASSWORD_MISSING.test(message))
    return { fault: "denied", reason: "it asks for a password, and we have none", advice: PASSWORD_ADVICE };
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

/** The parameter of the startup that a connection pooler does not take; undefined for any other error. */
export function refusedParameter(message: string): string | undefined {
  return /unsupported startup parameter(?: in options)?: (\w+)/.exec(message)?.[1];
}

/** The error to throw on: `UnavailableError` (`TimedOutError` if it was a time limit), `RefusedDataError`, or a plain one, in every case without parameters and rows. */
export function toDatabaseError(thrown: unknown): Error {
  const { fault, reason, advice, sqlState } = faultOf(thrown);
  const words = advice === undefined ? `${reason}.` : `${reason}. ${advice}.`;
  const isTableMissing = sqlState === UNDEFINED_TABLE && NAMES_TABLE.test(reason);
  switch (fault) {
    case "unavailable":
      return new UnavailableError(`PostgreSQL does not serve: ${advice === undefined ? reason : words}`);
    case "slow":
      return new TimedOutError(`PostgreSQL takes too long: ${reason}. ${SLOW_ADVICE}.`);
    case "denied":
      return new UnavailableError(
        `PostgreSQL does not let us in: ${advice === undefined ? `${words} Check DATABASE_URL and the user's rights.` : words}`,
      );
    case "unmigrated":
      return new UnavailableError(`The database is not migrated: ${reason}. ${MIGRATE_ADVICE}${isTableMissing ? "" : TRIGGER_ADVICE}`);
    case "data":
      return new RefusedDataError(`PostgreSQL refuses the data: ${reason}`);
    case "unknown":
      return sqlState === undefined ? withoutDetail(rootOf(thrown)) : new Error(`PostgreSQL fails: ${reason}`);
    default:
      return fault satisfies never;
  }
}

/** The driver's error under Drizzle's. */
function rootOf(thrown: unknown): Error {
  let error = toError(thrown);
  while (error instanceof DrizzleQueryError && error.cause !== undefined) error = error.cause;
  // Where a name has several addresses, Node tells one error for each.
  if (error instanceof AggregateError && error.message === "" && error.errors[0] instanceof Error) return error.errors[0];
  return error;
}

/** Postgres' `detail` shows the failing row, and loggers print all properties of an error. */
function withoutDetail(error: Error): Error {
  const plain = new Error(error.message);
  plain.name = error.name;
  if (error.stack !== undefined) plain.stack = error.stack;
  return plain;
}

// What an SQLSTATE means for a batch that was not stored (https://www.postgresql.org/docs/current/errcodes-appendix.html).

/**
 * - `unavailable`: the database does not serve right now; the same statement may work later.
 * - `slow`: it took longer than a time limit. The database is overloaded, or one of the rows takes too long.
 * - `unmigrated`: the table is not the one we know; works once somebody migrates.
 * - `denied`: the database, the user or its rights are wrong; works once somebody corrects that.
 * - `data`: the rows themselves are refused, and would be again.
 * - `unknown`: none of these.
 */
export type Fault = "unavailable" | "slow" | "unmigrated" | "denied" | "data" | "unknown";

const BY_CODE: Readonly<Record<string, Fault>> = {
  "25P04": "slow", // transaction_timeout
  "42501": "denied", // insufficient_privilege
  "55P03": "slow", // lock_not_available: lock_timeout
  "57014": "slow", // query_canceled: statement_timeout
  XX001: "unavailable", // data_corrupted: works again once somebody repairs the table
  XX002: "unavailable", // index_corrupted
};

const BY_CLASS: Readonly<Record<string, Fault>> = {
  "08": "unavailable", // connection exception
  "0A": "unavailable", // feature not supported: the table is a view that takes no rows, or there is something else in between
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
  "55": "unavailable", // object not in prerequisite state: the database takes no connections (55000)
  "57": "unavailable", // operator intervention: shutting down, starting up
  "58": "unavailable", // system error outside of PostgreSQL: I/O
  "72": "unavailable", // snapshot too old
  F0: "unavailable", // configuration file error
  HV: "unavailable", // the table is a foreign one, and the other server fails
  // Unknown: P0 (raised by a trigger, over one row or all), 21, 38, 39, and XX000, which may be a bug that one row meets.
};

export function faultOfSqlState(sqlState: string): Fault {
  return BY_CODE[sqlState] ?? BY_CLASS[sqlState.slice(0, 2)] ?? "unknown";
}

// What makes a database unfit, whatever its tables: found before anything is stored in it.

/** What a server says about itself. */
export interface DatabaseFacts {
  /** `server_encoding` */
  readonly encoding: string;
  /** `server_version_num`, such as 150004 */
  readonly version: number;
}

/** Generated columns came with 12. */
const OLDEST_VERSION = 120_000;

export const DATABASE_FACTS_STATEMENT =
  "select current_setting('server_encoding') as encoding, current_setting('server_version_num')::int as version";

/** One sentence, with the remedy; undefined when the database will do. */
export function databaseProblem({ encoding, version }: DatabaseFacts): string | undefined {
  if (version < OLDEST_VERSION) return `it is PostgreSQL ${Math.floor(version / 10_000)}, and 12 or later is needed`;
  if (encoding !== "UTF8") {
    return `the database's encoding must be UTF8, and is ${encoding}: create another with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0`;
  }
  return undefined;
}
