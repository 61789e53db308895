/** Converts a database URL to node-postgres' options. Its TLS settings are libpq's, with their literal meaning. */
import { ConfigError, MAX_TIMER_MS, type TlsOptions, type TlsSettingNames, toTlsOptions } from "@celery-metrics-exporter/runtime";
import { userInfo } from "node:os";
import { Client } from "pg";

/** Options for node-postgres. The driver reads absent ones from the environment (`PGHOST`, `PGPASSWORD`, `PGPASSFILE` …). */
export interface DatabaseConnection {
  readonly host?: string;
  readonly port?: number;
  readonly user?: string;
  readonly password?: string;
  readonly database?: string;
  /** False: not encrypted. Absent: the URL does not say, and the driver uses `PGSSLMODE`. */
  readonly ssl?: false | TlsOptions;
  readonly sslnegotiation?: "direct";
  readonly enableChannelBinding?: boolean;
  readonly connectionTimeoutMillis?: number;
  readonly options?: string;
  readonly application_name?: string;
  readonly fallback_application_name?: string;
  readonly statement_timeout?: number;
  readonly lock_timeout?: number;
  readonly idle_in_transaction_session_timeout?: number;
}

/** Names of libpq's settings (PostgreSQL's documentation, 32.1.2 "Parameter Key Words"). */
export const LIBPQ_TLS_NAMES: TlsSettingNames = {
  ca: "sslrootcert",
  cert: "sslcert",
  key: "sslkey",
  serverName: "host (and the address with hostaddr)",
  noHostCheck: "sslmode=verify-ca",
  noCheck: "sslmode=no-verify",
};

/** The checks of the server's certificate in a mode. */
interface Check {
  readonly verify: boolean;
  readonly checkHostname: boolean;
}

const ALL: Check = { verify: true, checkHostname: true };
const AUTHORITY: Check = { verify: true, checkHostname: false };
const NOTHING: Check = { verify: false, checkHostname: false };

/** The problem of the TLS settings of a database URL; undefined if there is none. Reads no files. */
export function tlsModeProblem(settings: URLSearchParams): string | undefined {
  const mode = modeOf(settings);
  return typeof mode === "string" ? mode : undefined;
}

/** @throws {ConfigError} if the URL is invalid, has an unknown TLS mode, or names an unreadable certificate file. */
export function toDatabaseConnection(url: string): DatabaseConnection {
  const parsed = parseDatabaseUrl(url);
  if (!parsed.ok) throw new ConfigError([`DATABASE_URL: ${parsed.problem}`]);
  const { settings, ...parts } = parsed.parts;
  const mode = modeOf(settings);
  if (typeof mode === "string") throw new ConfigError([`DATABASE_URL: ${mode}`]);
  // hostaddr is the address to connect to. The host is then only the name in the certificate.
  const address = settings.get("hostaddr") || undefined;
  const place = { ...parts, ...(address !== undefined && { host: address }) };
  const client = new Client(place);
  const host = client.host;
  const user = client.user || systemUser();
  const ssl = mode === false || host.startsWith("/") ? false : mode && tlsOptions(settings, mode, parts.host ?? host);
  return {
    ...place,
    // For the operating system's user, the driver knows only the variable USER, which services and containers often lack.
    ...(user !== undefined && { user }),
    ...sessionSettings(settings),
    ...(mode !== undefined && ssl !== undefined && { ssl }),
    ...(ssl !== false && settings.get("sslnegotiation") === "direct" && { sslnegotiation: "direct" as const }),
  };
}

function sessionSettings(settings: URLSearchParams): DatabaseConnection {
  const text = (name: "options" | "application_name" | "fallback_application_name"): DatabaseConnection => {
    const value = settings.get(name);
    return value === null ? {} : { [name]: value };
  };
  const milliseconds = (name: "statement_timeout" | "lock_timeout" | "idle_in_transaction_session_timeout"): DatabaseConnection => {
    const value = Number.parseInt(settings.get(name) ?? "", 10);
    return value > 0 ? { [name]: value } : {};
  };
  const connectSeconds = Number(settings.get("connect_timeout") ?? 0);
  return {
    ...text("options"),
    ...text("application_name"),
    ...text("fallback_application_name"),
    ...milliseconds("statement_timeout"),
    ...milliseconds("lock_timeout"),
    ...milliseconds("idle_in_transaction_session_timeout"),
    ...(connectSeconds > 0 && { connectionTimeoutMillis: Math.min(connectSeconds * 1_000, MAX_TIMER_MS) }),
    ...(/^(require|prefer)$/.test(settings.get("channel_binding") ?? "") && { enableChannelBinding: true }),
  };
}

/** The name of the operating system's user, as in libpq; undefined if it has none. */
function systemUser(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    return undefined;
  }
}

/** False: no TLS. Undefined: not set. A string: the problem. */
function modeOf(query: URLSearchParams): Check | false | undefined | string {
  const named = query.get("sslmode") ?? fromShortForm(query.get("ssl"));
  const compatible = query.get("uselibpqcompat") === "true";
  switch (named) {
    case null:
      // As in the driver, certificates imply TLS.
      return ["sslrootcert", "sslcert", "sslkey"].some((name) => query.has(name)) || query.get("sslnegotiation") === "direct"
        ? ALL
        : undefined;
    case "disable":
      return false;
    case "require":
      // As strict as `verify-full`, like the driver, unless the URL requests libpq's meaning.
      return compatible ? (query.has("sslrootcert") ? AUTHORITY : NOTHING) : ALL;
    case "verify-full":
      return ALL;
    case "verify-ca":
      return AUTHORITY;
    case "no-verify":
      return NOTHING;
    case "allow":
    case "prefer":
      return `sslmode=${named} may fall back to an unencrypted connection, which is not supported: use disable or verify-full`;
    default:
      return "sslmode must be disable, require, verify-ca, verify-full or no-verify";
  }
}

/** node-postgres' own `ssl=true`. */
function fromShortForm(ssl: string | null): string | null {
  if (ssl === "true" || ssl === "1") return "verify-full";
  return ssl === "false" || ssl === "0" ? "disable" : ssl;
}

function tlsOptions(settings: URLSearchParams, check: Check, host: string): TlsOptions {
  const caFile = settings.get("sslrootcert");
  const certFile = settings.get("sslcert");
  const keyFile = settings.get("sslkey");
  const tls = {
    ...check,
    ...(settings.has("hostaddr") && host !== "" ? { serverName: host } : {}),
    // `system` is libpq's name for the default authorities.
    ...(caFile === null || caFile === "system" ? {} : { caFile }),
    ...(certFile === null ? {} : { certFile }),
    ...(keyFile === null ? {} : { keyFile }),
  };
  return toTlsOptions(tls, { variable: "DATABASE_URL", names: LIBPQ_TLS_NAMES, host });
}

// A database URL in parts, for drizzle-kit: it rejects URLs of Unix sockets, and interprets TLS settings differently.

export interface DatabaseCredentials {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
  readonly password?: string;
  readonly ssl: boolean | TlsOptions;
  /** `-c name=value …` for the session. drizzle-kit does not pass them on. */
  readonly options?: string;
}

/** @throws {ConfigError} like `toDatabaseConnection`. */
export function toDatabaseCredentials(url: string): DatabaseCredentials {
  const { ssl, ...connection } = toDatabaseConnection(url);
  // The driver reads missing parts from the environment. `ssl` is left out, because the driver would hide the client's key from drizzle-kit.
  const client: unknown = new Client(connection);
  const { host, port, user, database, password, ssl: fromEnvironment, connectionParameters } = client as Parsed;
  return {
    host,
    port,
    user: user ?? "",
    database: database ?? "",
    ssl: ssl ?? fromEnvironment,
    // Without a password, the driver returns null and reads PGPASSFILE later.
    ...(typeof password === "string" && password !== "" && { password }),
    ...(typeof connectionParameters.options === "string" && { options: connectionParameters.options }),
  };
}

/** Properties of `Client` that its types omit. */
type Parsed = Pick<Client, "host" | "port" | "user" | "database" | "ssl"> & {
  readonly password?: unknown;
  readonly connectionParameters: { readonly options?: unknown };
};

// Splits a PostgreSQL URL like libpq: decodes only %XX, so a + is a plus. A setting's value may contain = too.

interface DatabaseUrlParts {
  /** A name, an address, or the folder of a Unix socket; absent if the URL has none. */
  readonly host?: string;
  readonly port?: number;
  readonly user?: string;
  readonly password?: string;
  readonly database?: string;
  /** The settings after `?`, except those above. */
  readonly settings: URLSearchParams;
}

/** `problem` never quotes the URL, which may contain a password. */
export type ParsedDatabaseUrl = { readonly ok: true; readonly parts: DatabaseUrlParts } | { readonly ok: false; readonly problem: string };

const UNREADABLE = "is not a valid URL: write % / ? # : @ in a user name or password as %25 %2F %3F %23 %3A %40, and @ in a setting as %40";
const WRONG_PORT = "its port must be a number from 1 to 65535 (write / ? # : @ in a user name or password as %2F %3F %23 %3A %40)";
const SEVERAL_HOSTS =
  "names several hosts, which is not supported: use one address that always leads to the primary, such as a DNS name, a virtual IP or a proxy";

/** Settings that override a part of the URL. */
const PART_SETTINGS = ["host", "port", "user", "password", "dbname"] as const;

/** Splits `postgres://user:password@host:port/database?setting=value`. Every part may be absent. */
export function parseDatabaseUrl(url: string): ParsedDatabaseUrl {
  const [, authority = "", path = "", query = "", fragment = ""] =
    /^[a-z]+:\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?(.*)$/s.exec(url) ?? [];
  // After an unescaped / ? or # in a password, the rest looks like one of these parts and contains the @ that ends the password.
  if (fragment !== "" || /@/.test(path + query)) return { ok: false, problem: UNREADABLE };
  const at = authority.lastIndexOf("@");
  const address = authority.slice(at + 1);
  try {
    const settings = toSettings(query);
    if ([address, ...["host", "hostaddr", "port"].map((name) => settings.get(name) ?? "")].some((text) => text.includes(","))) {
      return { ok: false, problem: SEVERAL_HOSTS };
    }
    return { ok: true, parts: toParts({ userinfo: authority.slice(0, Math.max(0, at)), address, path, settings }) };
  } catch (thrown) {
    return { ok: false, problem: thrown instanceof PortError ? WRONG_PORT : UNREADABLE };
  }
}

interface Text {
  readonly userinfo: string;
  readonly address: string;
  readonly path: string;
  readonly settings: URLSearchParams;
}

/** The last setting of a name wins. @throws {Error} if one cannot be decoded. */
function toSettings(query: string): URLSearchParams {
  const settings = new URLSearchParams();
  for (const setting of query.split("&").filter((text) => text !== "")) {
    const [, name = "", value = ""] = /^([^=]*)=?(.*)$/s.exec(setting) ?? [];
    settings.set(decode(name), decode(value));
  }
  return settings;
}

class PortError extends Error {}

/** @throws {Error} if a part cannot be decoded. */
function toParts({ userinfo, address, path, settings }: Text): DatabaseUrlParts {
  const [, user = "", password = ""] = /^([^:]*)(?::(.*))?$/s.exec(userinfo) ?? [];
  const place = /^(\[[^\]]*\]|[^:]*)(?::([^:]*))?$/.exec(address);
  if (place === null) throw new Error("the address cannot be read");
  const given = (name: (typeof PART_SETTINGS)[number], part: string): string | undefined => settings.get(name) || decode(part) || undefined;
  const host = given("host", (place[1] ?? "").replace(/^\[|\]$/g, ""));
  const port = toPort(given("port", place[2] ?? ""));
  const parts = { host, port, user: given("user", user), password: given("password", password), database: given("dbname", path) };
  const others = new URLSearchParams(settings);
  for (const name of PART_SETTINGS) others.delete(name);
  return { ...withoutAbsent(parts), settings: others };
}

function toPort(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,5}$/.test(text) || Number(text) < 1 || Number(text) > 65_535) throw new PortError();
  return Number(text);
}

function decode(text: string): string {
  const decoded = decodeURIComponent(text);
  if (decoded.includes("\0")) throw new Error("a part contains NUL");
  return decoded;
}

function withoutAbsent<T extends object>(parts: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(parts).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
