/** Checks database URLs. */
import { ConfigError } from "@celery-metrics-exporter/runtime";
import { parseDatabaseUrl, tlsModeProblem } from "./connection.ts";

/** Whether the URL names PGlite, the database embedded in this process. */
export function isEmbedded(value: string): boolean {
  return value.startsWith("pglite:");
}

/** The problem of a database URL, without the password; undefined if there is none. Reads no files. */
export function databaseUrlProblem(value: string): string | undefined {
  if (isEmbedded(value)) return undefined;
  if (!/^postgres(ql)?:\/\//.test(value)) {
    return "must be a URL that starts with postgres:// or postgresql://, or pglite:memory or pglite:<folder>";
  }
  const parsed = parseDatabaseUrl(value);
  if (!parsed.ok) return parsed.problem;
  const { settings } = parsed.parts;
  return settingsProblem(settings) ?? tlsModeProblem(settings);
}

/** @throws {ConfigError} if the URL does not name a usable database. */
export function checkDatabaseUrl(value: string): void {
  const problem = databaseUrlProblem(value);
  if (problem !== undefined) throw new ConfigError([`DATABASE_URL: ${problem}`]);
}

// The query settings of a database URL. Like libpq, rejects unknown ones.

/** Supported settings (PostgreSQL's documentation, 32.1.2 "Parameter Key Words", and node-postgres' own). */
const USED = [
  "application_name",
  "channel_binding",
  "client_encoding",
  "connect_timeout",
  "fallback_application_name",
  "host",
  "hostaddr",
  "idle_in_transaction_session_timeout",
  "lock_timeout",
  "options",
  "password",
  "port",
  "dbname",
  "ssl",
  "sslcert",
  "sslkey",
  "sslmode",
  "sslnegotiation",
  "sslrootcert",
  "statement_timeout",
  "target_session_attrs",
  "uselibpqcompat",
  "user",
];

/** Ignored settings for other programs, which hosting providers add to their URLs. */
const HARMLESS =
  /^(keepalives(_idle|_interval|_count)?|tcp_user_timeout|gssencmode|sslsni|sslcompression|load_balance_hosts|pgbouncer|supa|connection_limit|pool_timeout|prepareThreshold|prepared_statements|prepared_statement_cache_size|statement_cache_size)$/;

const SEARCH_PATH = "set the schema with ?options=-c search_path=NAME";

/** Names of settings in other drivers and frameworks, and what to write here instead. */
const REMEDIES: ReadonlyMap<string, string> = new Map([
  ["schema", SEARCH_PATH],
  ["search_path", SEARCH_PATH],
  ["currentschema", SEARCH_PATH],
  ["schemaname", SEARCH_PATH],
  ["tls", "write sslmode=verify-full"],
  ["usessl", "write sslmode=verify-full"],
  ["ssl_mode", "write sslmode"],
  ["ssl_ca_certs", "write sslrootcert"],
  ["sslca", "write sslrootcert"],
  ["ssl_certfile", "write sslcert"],
  ["ssl_keyfile", "write sslkey"],
  ["database", "write the database after the slash, or use dbname"],
  ["username", "write user"],
  ["passfile", "set the environment variable PGPASSFILE"],
  ["service", "write host, port, user and database into the URL"],
  ["sslpassword", "use a key without a password"],
  ["timezone", "leave it out: all times are stored with their time zone"],
]);

/** The problem of the settings, without their values; undefined if there is none. */
function settingsProblem(settings: URLSearchParams): string | undefined {
  for (const name of settings.keys()) {
    if (!/^\w+$/.test(name)) return "has invalid settings after the ?: write name=value, separated by &";
    if (!USED.includes(name) && !HARMLESS.test(name)) return `has an unknown setting ${name}: ${remedyFor(name)}`;
  }
  const encoding = settings.get("client_encoding");
  if (encoding !== null && !/^(utf-?8|unicode|auto)$/i.test(encoding)) return "client_encoding must be UTF8";
  if (/^(standby|read-only|prefer-standby)$/.test(settings.get("target_session_attrs") ?? "")) {
    return "target_session_attrs must be read-write or primary, because rows are written";
  }
  const timeout = settings.get("connect_timeout");
  if (timeout !== null && !/^\d{1,5}$/.test(timeout)) return "connect_timeout must be a whole number of seconds";
  return undefined;
}

function remedyFor(name: string): string {
  const remedy = REMEDIES.get(name.toLowerCase());
  if (remedy !== undefined) return remedy;
  const nearest = USED.find((used) => plain(used) === plain(name)) ?? USED.find((used) => isNear(plain(used), plain(name)));
  return nearest === undefined ? `leave it out, or use one of ${USED.join(", ")}` : `did you mean ${nearest}?`;
}

function plain(name: string): string {
  return name.toLowerCase().replaceAll(/_/g, "");
}

/** Whether the names differ only by one added, missing, wrong or swapped character. */
function isNear(a: string, b: string): boolean {
  let start = 0;
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start++;
  let end = 0;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const [left, right] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  return left.length + right.length <= 2 || (left.length === 2 && left === `${right.charAt(1)}${right.charAt(0)}`);
}
