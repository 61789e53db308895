/** What an SQLSTATE means for a batch that was not stored (https://www.postgresql.org/docs/current/errcodes-appendix.html). */

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
