/** Where a Redis is, as ioredis wants it: the part of its options that every connection of ours shares. */
import type { RedisOptions } from "ioredis";
import { ConfigError } from "../errors.ts";
import { type RedisServer, parseRedisUrl } from "./redis-url.ts";
import { KOMBU_TLS_NAMES, toTlsOptions } from "../tls/tls.ts";

/** What a `sentinel://` URL leaves open. */
export interface SentinelOptions {
  /** Sentinel's name of the master. Default `mymaster`. */
  readonly masterName?: string;
  /** Password of the sentinels themselves; that of the URL is for Redis. */
  readonly password?: string;
  /** Whether the sentinels speak TLS as Redis does. Default false: kombu and most deployments encrypt the data only. */
  readonly tls?: boolean;
}

/** A URL and what goes with it, from the settings. */
export interface RedisTarget {
  readonly url: string;
  readonly sentinel?: SentinelOptions;
  /** Where the nodes of a cluster are reached: `announced=reachable`, each `host:port`. */
  readonly clusterNatMap?: readonly string[];
}

type Address = Pick<
  RedisOptions,
  | "host"
  | "port"
  | "path"
  | "username"
  | "password"
  | "db"
  | "tls"
  | "sentinels"
  | "name"
  | "sentinelPassword"
  | "sentinelTLS"
  | "enableTLSForSentinelMode"
  | "updateSentinels"
>;

/**
 * @param variable the one that holds the URL, for messages.
 * @throws {ConfigError} when a certificate file cannot be read.
 */
export function redisAddress(server: RedisServer, variable: string, sentinel: SentinelOptions = {}): Address {
  const { host, port, socketPath, sentinels, username, password, db, tls } = server;
  const credentials = { ...(username === undefined ? {} : { username }), ...(password === undefined ? {} : { password }), db };
  const context = { variable, names: KOMBU_TLS_NAMES };
  if (sentinels === undefined) {
    const place = socketPath === undefined ? { host, port } : { path: socketPath };
    return { ...place, ...credentials, ...(tls === undefined ? {} : { tls: toTlsOptions(tls, { ...context, host }) }) };
  }
  if (sentinel.tls === true && tls === undefined) {
    throw new ConfigError([`${variable}: sentinels that speak TLS need its settings in the URL, such as ${KOMBU_TLS_NAMES.ca}`]);
  }
  return {
    sentinels: [...sentinels],
    name: sentinel.masterName ?? "mymaster",
    ...credentials,
    ...(sentinel.password === undefined ? {} : { sentinelPassword: sentinel.password }),
    // Without the switch ioredis would send the password to the master in clear text.
    ...(tls === undefined ? {} : { tls: toTlsOptions(tls, context), enableTLSForSentinelMode: true }),
    ...(sentinel.tls === true && tls !== undefined ? { sentinelTLS: toTlsOptions(tls, context) } : {}),
  };
}

/** @throws {ConfigError} when the URL cannot be read. */
export function redisServerOf({ url }: RedisTarget, variable = "REDIS_URL"): RedisServer {
  const parsed = parseRedisUrl(url);
  if (!parsed.ok) throw new ConfigError([`${variable}: ${parsed.problem}`]);
  return parsed.server;
}
