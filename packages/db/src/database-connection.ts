/** A database's URL as node-postgres wants it: its TLS settings are libpq's, and mean what they say. */
import { ConfigError, MAX_TIMER_MS, toTlsOptions, type TlsOptions, type TlsSettingNames } from "@celery-metrics-exporter/runtime";
import { userInfo } from "node:os";
import { Client } from "pg";
import { parseDatabaseUrl } from "./database-url-parts.ts";

/** What node-postgres is given. What is absent here, the driver looks up in the environment (`PGHOST`, `PGPASSWORD`, `PGPASSFILE` …). */
export interface DatabaseConnection {
  readonly host?: string;
  readonly port?: number;
  readonly user?: string;
  readonly password?: string;
  readonly database?: string;
  /** False: not encrypted. Absent: the URL says nothing, and the driver looks at `PGSSLMODE`. */
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

/** How libpq's settings are called (PostgreSQL's documentation, 32.1.2 "Parameter Key Words"). */
export const LIBPQ_TLS_NAMES: TlsSettingNames = {
  ca: "sslrootcert",
  cert: "sslcert",
  key: "sslkey",
  serverName: "host (and the address with hostaddr)",
  noHostCheck: "sslmode=verify-ca",
  noCheck: "sslmode=no-verify",
};

/** What a mode checks of the server's certificate. */
interface Check {
  readonly verify: boolean;
  readonly checkHostname: boolean;
}

const ALL: Check = { verify: true, checkHostname: true };
const AUTHORITY: Check = { verify: true, checkHostname: false };
const NOTHING: Check = { verify: false, checkHostname: false };

/** What is wrong with the TLS settings of a database's URL; undefined where nothing is. Reads no files. */
export function tlsModeProblem(settings: URLSearchParams): string | undefined {
  const mode = modeOf(settings);
  return typeof mode === "string" ? mode : undefined;
}

/** @throws {ConfigError} when the URL cannot be read, asks for a TLS mode that does not exist, or names a certificate file that cannot be read. */
export function toDatabaseConnection(url: string): DatabaseConnection {
  const parsed = parseDatabaseUrl(url);
  if (!parsed.ok) throw new ConfigError([`DATABASE_URL: ${parsed.problem}`]);
  const { settings, ...parts } = parsed.parts;
  const mode = modeOf(settings);
  if (typeof mode === "string") throw new ConfigError([`DATABASE_URL: ${mode}`]);
  // hostaddr is where to connect; the host is then only the name that the certificate is for.
  const address = settings.get("hostaddr") || undefined;
  const place = { ...parts, ...(address !== undefined && { host: address }) };
  const client = new Client(place);
  const host = client.host;
  const user = client.user || systemUser();
  const ssl = mode === false || host.startsWith("/") ? false : mode && tlsOptions(settings, mode, parts.host ?? host);
  return {
    ...place,
    // Of the operating system's user the driver knows only the variable USER, which services and containers often lack.
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

/** The name of the operating system's user, as libpq; undefined where the system has no name for it. */
function systemUser(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    return undefined;
  }
}

/** False: no TLS; undefined: nothing is said; a text: what is wrong. */
function modeOf(query: URLSearchParams): Check | false | undefined | string {
  const named = query.get("sslmode") ?? fromShortForm(query.get("ssl"));
  const compatible = query.get("uselibpqcompat") === "true";
  switch (named) {
    case null:
      // The driver's rule: who names certificates wants TLS.
      return ["sslrootcert", "sslcert", "sslkey"].some((name) => query.has(name)) || query.get("sslnegotiation") === "direct"
        ? ALL
        : undefined;
    case "disable":
      return false;
    case "require":
      // As strict as `verify-full`, as the driver has always been, unless libpq's own meaning is asked for.
      return compatible ? (query.has("sslrootcert") ? AUTHORITY : NOTHING) : ALL;
    case "verify-full":
      return ALL;
    case "verify-ca":
      return AUTHORITY;
    case "no-verify":
      return NOTHING;
    case "allow":
    case "prefer":
      return `sslmode=${named} may fall back to a connection that is not encrypted, which is not supported: say disable or verify-full`;
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
    // `system` is libpq's word for the usual authorities.
    ...(caFile === null || caFile === "system" ? {} : { caFile }),
    ...(certFile === null ? {} : { certFile }),
    ...(keyFile === null ? {} : { keyFile }),
  };
  return toTlsOptions(tls, { variable: "DATABASE_URL", names: LIBPQ_TLS_NAMES, host });
}
