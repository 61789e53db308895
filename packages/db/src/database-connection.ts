/** A database's URL as node-postgres wants it: its TLS settings are libpq's, and mean what they say. */
import { ConfigError, toTlsOptions, type TlsOptions, type TlsSettingNames } from "@celery-metrics-exporter/runtime";

export interface DatabaseConnection {
  /** Without the settings that are beside it. */
  readonly connectionString: string;
  /** False: not encrypted. Absent: the URL says nothing, and the driver asks `PGSSLMODE`. */
  readonly ssl?: false | TlsOptions;
  readonly sslnegotiation?: "postgres" | "direct";
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

/** Settings that node-postgres would read in its own way, which makes `verify-ca` check too much and an unreadable file a stack. */
const OWN = ["sslmode", "ssl", "sslrootcert", "sslcert", "sslkey", "sslnegotiation", "uselibpqcompat", "hostaddr"];

/** What is wrong with the TLS settings of a database's URL; undefined where nothing is. Reads no files. */
export function tlsModeProblem(url: string): string | undefined {
  const mode = modeOf(queryOf(url));
  return typeof mode === "string" ? mode : undefined;
}

/** @throws {ConfigError} when the URL asks for a mode that there is not, or names a certificate file that cannot be read. */
export function toDatabaseConnection(url: string): DatabaseConnection {
  const query = queryOf(url);
  const mode = modeOf(query);
  if (typeof mode === "string") throw new ConfigError([`DATABASE_URL: ${mode}`]);
  const rest = new URLSearchParams(query);
  for (const name of OWN) rest.delete(name);
  // libpq's way to look for one name at another's address.
  const address = query.get("hostaddr");
  if (address !== null) rest.set("host", address);
  const [base = ""] = url.split("?", 1);
  const negotiation = query.get("sslnegotiation") === "direct" ? ({ sslnegotiation: "direct" } as const) : {};
  return {
    connectionString: rest.size === 0 ? base : `${base}?${rest.toString().replaceAll("+", "%20")}`,
    ...(mode === undefined ? {} : { ssl: mode === false || isSocket(base, query) ? false : tlsOptions(base, query, mode) }),
    ...negotiation,
  };
}

function queryOf(url: string): URLSearchParams {
  const start = url.indexOf("?");
  return new URLSearchParams(start === -1 ? "" : url.slice(start + 1));
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

function tlsOptions(base: string, query: URLSearchParams, check: Check): TlsOptions {
  const caFile = query.get("sslrootcert");
  const certFile = query.get("sslcert");
  const keyFile = query.get("sslkey");
  const host = hostOf(base, query);
  const settings = {
    ...check,
    ...(query.has("hostaddr") && host !== "" ? { serverName: host } : {}),
    // `system` is libpq's word for the usual authorities.
    ...(caFile === null || caFile === "system" ? {} : { caFile }),
    ...(certFile === null ? {} : { certFile }),
    ...(keyFile === null ? {} : { keyFile }),
  };
  return toTlsOptions(settings, { variable: "DATABASE_URL", names: LIBPQ_TLS_NAMES, host });
}

/** The name the server goes by: a setting of the query wins, as in the driver. */
function hostOf(base: string, query: URLSearchParams): string {
  const authority = /^[a-z]+:\/\/(?:[^/]*@)?(\[[^\]]*\]|[^:/]*)/i.exec(base)?.[1] ?? "";
  return query.get("host") ?? decodeURIComponent(authority.replace(/^\[|\]$/g, ""));
}

/** No TLS there, whatever the mode, as in libpq. */
function isSocket(base: string, query: URLSearchParams): boolean {
  return !query.has("hostaddr") && hostOf(base, query).startsWith("/");
}
