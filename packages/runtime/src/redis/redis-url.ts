/** Parses the URL of a Redis server, of sentinels (kombu/transport/redis.py, redis/connection.py), or of a Redis Cluster. */
import { editDistance } from "../config/misspelling.ts";
import { TLS_QUERY, parseTlsSettings, type TlsSettings } from "../tls/tls.ts";
import { parseUrlParts, type UrlParts } from "../config/url.ts";

export interface RedisServer {
  readonly host: string;
  readonly port: number;
  readonly username?: string;
  readonly password?: string;
  readonly db: number;
  /** Set if the connection is encrypted. */
  readonly tls?: TlsSettings;
  /** A Unix socket, instead of host and port. */
  readonly socketPath?: string;
  /** The sentinels that know the master's address, instead of host and port. */
  readonly sentinels?: readonly Place[];
  /** Some nodes of a cluster, which know all others, instead of host and port. */
  readonly nodes?: readonly Place[];
}

interface Place {
  readonly host: string;
  readonly port: number;
}

/** `problem` is a message for the user, without a password. */
export type ParsedRedisUrl = { readonly ok: true; readonly server: RedisServer } | { readonly ok: false; readonly problem: string };

const SCHEMES: Readonly<Record<string, { readonly tls: boolean; readonly port: number }>> = {
  redis: { tls: false, port: 6379 },
  rediss: { tls: true, port: 6379 },
  "redis+socket": { tls: false, port: 0 },
  sentinel: { tls: false, port: 26379 },
  "redis+cluster": { tls: false, port: 6379 },
  "rediss+cluster": { tls: true, port: 6379 },
};

/**
 * Accepts one server, several sentinels separated by `;`, or nodes of a cluster separated by `,`. Rejects a failover list of two masters: it
 * would spread related data over both. Never throws.
 */
export function parseRedisUrl(value: string): ParsedRedisUrl {
  if (/^\s*[[({"'`]/.test(value)) return { ok: false, problem: "must be a plain URL, without surrounding brackets or quotation marks" };
  const [first = "", ...others] = splitUrls(value);
  const parsed = isCluster(first) ? parseCluster(first) : parseRedisServer(first);
  if (!parsed.ok || !isSentinel(first)) {
    return parsed.ok && others.length > 0 ? { ok: false, problem: SEVERAL } : parsed;
  }
  const servers = [parsed.server];
  for (const other of others) {
    const next = parseRedisServer(other.includes("://") ? other : `sentinel://${other}`);
    if (!next.ok) return next;
    if (other.includes("://") && !isSentinel(other)) return { ok: false, problem: "must not mix sentinel:// with other schemes" };
    servers.push(next.server);
  }
  return { ok: true, server: behindSentinels(servers) };
}

/** Only sentinels may be listed without a scheme. Elsewhere, such a `;` belongs to the password. */
function splitUrls(value: string): string[] {
  return value
    .split(isSentinel(value.trim()) ? ";" : /;(?=\s*[a-z+]+:\/\/)/i)
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

const SEVERAL = "must name one Redis; only sentinel:// URLs may be listed, and the nodes of a cluster are separated by commas in one URL";

const COMMAS =
  "names several hosts: separate sentinels with ; as in sentinel://a:26379;sentinel://b:26379, and start the URL of a cluster with redis+cluster://";

/** All nodes share everything except host and port. */
function parseCluster(url: string): ParsedRedisUrl {
  const [, before = "", hosts = "", after = ""] = /^([^:]*:\/\/(?:[^/?#]*@)?)([^/?#]*)(.*)$/s.exec(url) ?? [];
  const nodes: RedisServer[] = [];
  for (const host of hosts.split(",").map((text) => text.trim())) {
    if (host === "") continue;
    const parsed = parseRedisServer(before + host + after);
    if (!parsed.ok) return parsed;
    if (parsed.server.db !== 0) return { ok: false, problem: "a Redis Cluster has only database 0: leave the path of the URL empty" };
    nodes.push(parsed.server);
  }
  const [first] = nodes;
  if (first === undefined) return { ok: false, problem: "names no node" };
  return { ok: true, server: { ...first, nodes: nodes.map(({ host, port }) => ({ host, port })) } };
}

function isCluster(url: string): boolean {
  return /^rediss?\+cluster:/i.test(url);
}

function isSentinel(url: string): boolean {
  return /^sentinel:/i.test(url);
}

/** User, password, database and TLS belong to the Redis that all the sentinels watch. Any entry may contain them. */
export function behindSentinels(servers: readonly RedisServer[]): RedisServer {
  const all = servers.reduce((known, server) => ({ ...server, ...known, db: known.db === 0 ? server.db : known.db }));
  return { ...all, sentinels: servers.map(({ host, port }) => ({ host, port })) };
}

/** Supported query settings. */
const QUERY = ["db", "virtual_host", ...TLS_QUERY];

/** Warnings about ignored query settings of a URL. None for an invalid URL. */
export function redisUrlWarnings(value: string): string[] {
  const [, query = ""] = /^[^?#]*\?([^#]*)/.exec(value) ?? [];
  if (!parseRedisUrl(value).ok) return [];
  return [...new Set(new URLSearchParams(query.replaceAll(/;.*/g, "")).keys())]
    .filter((name) => !QUERY.includes(name))
    .map((name) => `the query setting ${/^\w{1,40}$/.test(name) ? name : "after the ?"} is unknown and ignored; ${suggestion(name)}`);
}

/** Largest edit distance at which a name counts as a misspelling. */
const MAX_TYPOS = 2;

function suggestion(name: string): string {
  const meant = QUERY.find((known) => known.length > MAX_TYPOS && editDistance(known, name.toLowerCase()) <= MAX_TYPOS);
  return meant === undefined ? `known settings: ${QUERY.join(", ")}` : `did you mean ${meant}?`;
}

/** The same URL without unsupported query settings, such as those only Celery knows. */
export function withoutUnknownSettings(value: string): string {
  return value.replaceAll(/\?([^#;]*)/g, (_query, settings: string) => {
    const known = settings.split("&").filter((setting) => QUERY.includes(setting.split("=")[0] ?? ""));
    return known.length === 0 ? "" : `?${known.join("&")}`;
  });
}

/** Parses a single URL that names one host. Never throws. */
export function parseRedisServer(url: string): ParsedRedisUrl {
  const name = /^([a-z+]+):\/\//i.exec(url)?.[1]?.toLowerCase() ?? "";
  const scheme = Object.hasOwn(SCHEMES, name) ? SCHEMES[name] : undefined;
  if (scheme === undefined) return { ok: false, problem: `must be a URL that starts with ${Object.keys(SCHEMES).join("://, ")}://` };
  const authority = /^[^:]*:\/\/([^/?#]*)/.exec(url)?.[1] ?? "";
  if (/[,\s]/.test(authority.slice(authority.lastIndexOf("@") + 1))) return { ok: false, problem: COMMAS };
  const parsed = parseUrlParts(url);
  if (!parsed.ok) return parsed;
  const { host, port, username, password, query } = parsed.parts;
  const place = name === "redis+socket" ? socketOf(parsed.parts) : databaseOf(parsed.parts);
  if (typeof place === "string") return { ok: false, problem: place };
  const tls = parseTlsSettings(query, scheme.tls);
  if (!tls.ok) return tls;
  const server = {
    host: host ?? "127.0.0.1",
    port: port ?? scheme.port,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls.settings === undefined ? {} : { tls: tls.settings }),
    ...place,
  };
  return { ok: true, server };
}

type Database = Pick<RedisServer, "db" | "socketPath">;

function socketOf({ path, query }: UrlParts): Database | string {
  if (path === undefined) return "redis+socket:// must be followed by the path of a socket";
  const db = toDatabase(databaseIn(query));
  return typeof db === "string" ? db : { db, socketPath: `/${path}` };
}

function databaseOf({ path, query }: UrlParts): Database | string {
  const named = databaseIn(query);
  const db = toDatabase(path ?? named);
  if (typeof db === "string") return db;
  // redis-py would use the second, other clients the first.
  const other = toDatabase(named);
  if (path !== undefined && named !== undefined && other !== db)
    return `names two databases: ${path} in its path and ${named} in a query setting`;
  return { db };
}

function databaseIn(query: UrlParts["query"]): string | undefined {
  return query.get("virtual_host") ?? query.get("db") ?? undefined;
}

function toDatabase(text: string | undefined): number | string {
  const digits = (text ?? "").replace(/^\//, "");
  if (digits === "") return 0;
  return /^\d{1,6}$/.test(digits) ? Number(digits) : "the path of a Redis URL must be the number of a database, such as /0";
}
