/** What a driver throws, as errors the exporter's host understands, without the rows: Drizzle puts every parameter into its message. */
import { CodedError, UnavailableError, tlsProblem, toError } from "@celery-metrics-exporter/runtime";
import { DrizzleQueryError } from "drizzle-orm";
import { LIBPQ_TLS_NAMES } from "./database-connection.ts";
import { faultOfSqlState, type Fault } from "./sql-state.ts";

/** How to migrate; part of every message that asks for it. */
const MIGRATE_ADVICE = "Run `pnpm drizzle-kit migrate` (or `pnpm celery-metrics-exporter migrate`) with the same DATABASE_URL.";

/** Thrown when the rows of a statement are refused, so that trying again cannot help. */
export class RefusedDataError extends CodedError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("ERR_DATA_REFUSED", message, options);
  }
}

/** What is wrong, as far as the error tells. */
export interface DatabaseFault {
  readonly fault: Fault;
  /** One line, without parameters. */
  readonly reason: string;
}

const SQLSTATE = /^[0-9A-Z]{5}$/;

/** Node's network errors that mean that nobody answers, or stopped to. */
const NETWORK_ERROR =
  /^(ECONN(REFUSED|RESET|ABORTED)|EPIPE|ETIMEDOUT|E(HOST|NET)(UNREACH|DOWN)|ENOTFOUND|EAI_AGAIN|ENOENT|EACCES|EADDRNOTAVAIL|E[MN]FILE|ENOBUFS)$/;

/** What pg says without a code when a connection is lost or not made in time (pg/lib/client.js, pg-pool/index.js). */
const CONNECTION_LOST = /Connection terminated|timeout exceeded when trying to connect|timeout expired|not queryable|Query read timeout/;
/** What the server says to a client without a certificate, where `pg_hba.conf` asks for one. */
const CERTIFICATE_MISSING = /requires a valid client certificate/;
/** TLS and SASL, when the two sides do not agree (pg/lib/connection.js, pg/lib/crypto/sasl.js, Node's tls). */
const HANDSHAKE_FAILED = /SSL|SASL|SCRAM|certificate|client password/i;

export function faultOf(thrown: unknown): DatabaseFault {
  const error = rootOf(thrown);
  const code = (error as NodeJS.ErrnoException).code ?? "";
  const tls = tlsProblem(error, LIBPQ_TLS_NAMES);
  if (tls !== undefined) return { fault: "denied", reason: tls };
  if (NETWORK_ERROR.test(code)) return { fault: "unavailable", reason: error.message || code };
  if (CERTIFICATE_MISSING.test(error.message)) return { fault: "denied", reason: `${error.message}; name one with sslcert and sslkey` };
  if (SQLSTATE.test(code)) return { fault: faultOfSqlState(code), reason: `${error.message} (SQLSTATE ${code})` };
  if (CONNECTION_LOST.test(error.message)) return { fault: "unavailable", reason: error.message };
  if (HANDSHAKE_FAILED.test(error.message)) return { fault: "denied", reason: error.message };
  return { fault: "unknown", reason: error.message };
}

/** The error to throw on: `UnavailableError`, `RefusedDataError`, or the driver's own, in every case without parameters. */
export function toDatabaseError(thrown: unknown): Error {
  const { fault, reason } = faultOf(thrown);
  switch (fault) {
    case "unavailable":
      return new UnavailableError(`PostgreSQL does not serve: ${reason}`);
    case "denied":
      return new UnavailableError(`PostgreSQL does not let us in: ${reason}. Check DATABASE_URL and the user's rights.`);
    case "unmigrated":
      return new UnavailableError(`The database is not migrated: ${reason}. ${MIGRATE_ADVICE}`);
    case "data":
      return new RefusedDataError(`PostgreSQL refuses the data: ${reason}`);
    case "unknown":
      return withoutDetail(rootOf(thrown));
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
