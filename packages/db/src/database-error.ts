/** What a driver throws, as errors the exporter's host understands, without the rows: Drizzle puts every parameter into its message. */
import { CodedError, TimedOutError, UnavailableError, tlsProblem, toError } from "@celery-metrics-exporter/runtime";
import { DrizzleQueryError, getTableName } from "drizzle-orm";
import { LIBPQ_TLS_NAMES } from "./database-connection.ts";
import { celeryTask } from "./schema.ts";
import { faultOfSqlState, type Fault } from "./sql-state.ts";

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
