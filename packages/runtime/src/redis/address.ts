/** The address of a Redis as ioredis options. All our connections share it. */
import type { RedisOptions } from "ioredis";
import { ConfigError } from "../errors.ts";
import { type RedisServer, parseRedisUrl } from "./redis-url.ts";
import { KOMBU_TLS_NAMES, toTlsOptions } from "../tls/tls.ts";

/** Settings that a `sentinel://` URL does not contain. */
export interface SentinelOptions {
  /** Sentinel's name of the master. Default `mymaster`. */
  readonly masterName?: string;
  /** Password of the sentinels themselves. The password in the URL is for Redis. */
  readonly password?: string;
  /** Whether the sentinels use TLS too. Default false: kombu and most deployments encrypt only the connection to Redis. */
  readonly tls?: boolean;
}

/** A URL and the settings that belong to it. */
export interface RedisTarget {
  readonly url: string;
  readonly sentinel?: SentinelOptions;
  /** Reachable addresses of cluster nodes: `announced=reachable`, each `host:port`. */
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
 * @param variable the variable that contains the URL, for messages.
 * @throws {ConfigError} if a certificate file cannot be read.
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
    throw new ConfigError([`${variable}: sentinels with TLS require TLS settings in the URL, such as ${KOMBU_TLS_NAMES.ca}`]);
  }
  return {
    sentinels: [...sentinels],
    name: sentinel.masterName ?? "mymaster",
    ...credentials,
    ...(sentinel.password === undefined ? {} : { sentinelPassword: sentinel.password }),
    // Without `enableTLSForSentinelMode`, ioredis sends the password to the master in clear text.
    ...(tls === undefined ? {} : { tls: toTlsOptions(tls, context), enableTLSForSentinelMode: true }),
    ...(sentinel.tls === true && tls !== undefined ? { sentinelTLS: toTlsOptions(tls, context) } : {}),
  };
}

/** @throws {ConfigError} if the URL is invalid. */
export function redisServerOf({ url }: RedisTarget, variable = "REDIS_URL"): RedisServer {
  const parsed = parseRedisUrl(url);
  if (!parsed.ok) throw new ConfigError([`${variable}: ${parsed.problem}`]);
  return parsed.server;
}
