/** Splits the URL of a PostgreSQL database as libpq does: only %XX is decoded, so a + is a plus. A setting's value may contain a = too. */

interface DatabaseUrlParts {
  /** A name, an address, or the folder of a Unix socket; absent where the URL names none. */
  readonly host?: string;
  readonly port?: number;
  readonly user?: string;
  readonly password?: string;
  readonly database?: string;
  /** The settings after `?`, without those above. */
  readonly settings: URLSearchParams;
}

/** `problem` never repeats the URL: it may contain a password. */
export type ParsedDatabaseUrl = { readonly ok: true; readonly parts: DatabaseUrlParts } | { readonly ok: false; readonly problem: string };

const UNREADABLE =
  "is not a URL that can be read: write % / ? # : @ in a user name or password as %25 %2F %3F %23 %3A %40, and @ in a setting as %40";
const WRONG_PORT = "its port must be a number from 1 to 65535 (write / ? # : @ in a user name or password as %2F %3F %23 %3A %40)";
const SEVERAL_HOSTS =
  "names several hosts, which is not supported: name one address that always leads to the primary, such as a DNS name, a virtual IP or a proxy";

/** Settings that say the same as a part of the URL, and win over it. */
const PART_SETTINGS = ["host", "port", "user", "password", "dbname"] as const;

/** Splits `postgres://user:password@host:port/database?setting=value`, of which every part may be absent. */
export function parseDatabaseUrl(url: string): ParsedDatabaseUrl {
  const [, authority = "", path = "", query = "", fragment = ""] =
    /^[a-z]+:\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?(.*)$/s.exec(url) ?? [];
  // What follows an unescaped / ? or # in a password looks like one of these, with the @ that ends the password.
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

/** Of two with one name, the latter counts. @throws {Error} when one cannot be decoded. */
function toSettings(query: string): URLSearchParams {
  const settings = new URLSearchParams();
  for (const setting of query.split("&").filter((text) => text !== "")) {
    const [, name = "", value = ""] = /^([^=]*)=?(.*)$/s.exec(setting) ?? [];
    settings.set(decode(name), decode(value));
  }
  return settings;
}

class PortError extends Error {}

/** @throws {Error} when a part cannot be decoded. */
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
