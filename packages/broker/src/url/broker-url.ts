/** Parses a broker URL as Celery users write it (kombu/utils/url.py, kombu/connection.py, kombu/transport/redis.py). */
import {
  type RedisServer,
  type TlsSettings,
  behindSentinels,
  parseRedisServer,
  parseTlsSettings,
  parseUrlParts,
} from "@celery-metrics-exporter/runtime";
import { LOGIN_METHODS_TEXT, type LoginMethod, parseLoginMethod, settingsWarnings } from "./settings.ts";

export interface RabbitmqServer {
  readonly host: string;
  readonly port: number;
  readonly username?: string;
  readonly password?: string;
  /** Set if the connection is encrypted. */
  readonly tls?: TlsSettings;
  readonly vhost: string;
  /** Default PLAIN. */
  readonly login?: LoginMethod;
}

/** The source of events. Servers are tried in turn. */
export type BrokerUrl =
  | { readonly broker: "rabbitmq"; readonly servers: readonly RabbitmqServer[] }
  | { readonly broker: "redis"; readonly servers: readonly RedisServer[] };

/** `problem` is a message for the user, without a password. */
export type ParsedBrokerUrl = { readonly ok: true; readonly url: BrokerUrl } | { readonly ok: false; readonly problem: string };

interface Scheme {
  readonly name: string;
  readonly broker: BrokerUrl["broker"];
}

const BROKERS: Readonly<Record<string, BrokerUrl["broker"]>> = {
  amqp: "rabbitmq",
  amqps: "rabbitmq",
  pyamqp: "rabbitmq",
  "py-amqp": "rabbitmq",
  librabbitmq: "rabbitmq",
  redis: "redis",
  rediss: "redis",
  "redis+socket": "redis",
  sentinel: "redis",
};

const SUPPORTED = "amqp, amqps, pyamqp, redis, rediss, redis+socket, sentinel";

/** Celery's other transports, which do not carry events (Celery's documentation, "Broker Overview", column Monitoring). */
const WITHOUT_EVENTS =
  /^(sqs|kafka|confluentkafka|zookeeper|zk|mongodb|sqla|sqlalchemy|filesystem|memory|consul|etcd|azure.*|slmq|qpid)(\+|$)/i;

class Problem extends Error {}

/** Advice for a failover list, with examples of the same scheme. */
function separate(part: string): string {
  const isSentinel = /sentinel:\/\//i.test(part);
  const example = isSentinel
    ? "sentinel://host1:26379;sentinel://host2:26379"
    : "amqp://user:password@host1//;amqp://user:password@host2//";
  return `separate several servers with ; such as ${example}`;
}

/** Never throws. */
export function parseBrokerUrl(value: string): ParsedBrokerUrl {
  try {
    const parts = split(value);
    const first = parts[0];
    if (first === undefined) throw new Problem("is empty");
    if (/^["'`]/.test(first)) throw new Problem("starts with a quotation mark: remove it");
    if (/^[[({]/.test(first)) throw new Problem(`is a list: ${separate(first)}`);
    const scheme = schemeOf(first);
    if (parts.some((part) => ANOTHER_URL.test(part))) throw new Problem(`contains several URLs in one entry: ${separate(first)}`);
    return { ok: true, url: scheme.broker === "rabbitmq" ? rabbitmqUrl(parts) : redisUrl(parts, scheme) };
  } catch (thrown) {
    if (thrown instanceof Problem) return { ok: false, problem: thrown.message };
    throw thrown;
  }
}

/** Warnings about ignored query settings of a URL. None for an invalid URL. Never quotes a value. */
export function brokerUrlWarnings(value: string): string[] {
  if (!parseBrokerUrl(value).ok) return [];
  const warnings = split(value).flatMap((part) => {
    const parsed = parseUrlParts(part.includes("://") ? part : `amqp://${part}`);
    return parsed.ok ? settingsWarnings(parsed.parts.query) : [];
  });
  return [...new Set(warnings)];
}

/** A second URL in the same entry, after a comma or a blank. */
const ANOTHER_URL = /[,\s]\s*[a-z][a-z0-9+.-]*:\/\//i;

function split(value: string): string[] {
  return value
    .split(";")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

/** @throws {Problem} if it names several hosts, which kombu would treat as one name. */
function expectOneHost(part: string): void {
  const authority = /^[^:]*:\/\/([^/?#]*)/.exec(part)?.[1] ?? "";
  if (/[,\s]/.test(authority.slice(authority.lastIndexOf("@") + 1))) throw new Problem(`names several hosts in one URL: ${separate(part)}`);
}

function schemeOf(part: string): Scheme {
  const name = /^([a-z][a-z0-9+.-]*):\/\//i.exec(part)?.[1]?.toLowerCase();
  if (name === undefined) throw new Problem(`must be a URL such as amqp://user:password@host/vhost; supported schemes: ${SUPPORTED}`);
  const broker = Object.hasOwn(BROKERS, name) ? BROKERS[name] : undefined;
  if (broker !== undefined) return { name, broker };
  if (WITHOUT_EVENTS.test(name)) {
    throw new Problem(`brokers with the scheme ${name} do not carry events, so there is nothing to receive; supported: ${SUPPORTED}`);
  }
  if (name.includes("cluster")) throw new Problem(`events from a Redis Cluster are not supported; supported: ${SUPPORTED}`);
  throw new Problem(`scheme ${name} is not supported; supported: ${SUPPORTED}`);
}

function rabbitmqUrl(parts: readonly string[]): BrokerUrl {
  return { broker: "rabbitmq", servers: failoverList(parts, toRabbitmq) };
}

/** In kombu, the first entry contains the user, password and database of the Redis that all sentinels watch. */
function redisUrl(parts: readonly string[], { name }: Scheme): BrokerUrl {
  const servers = failoverList(parts, toRedis);
  return { broker: "redis", servers: name === "sentinel" ? [behindSentinels(servers)] : servers };
}

/** An entry without a scheme only changes the host. It shares the rest with the first entry (kombu, `Connection.switch`). */
function failoverList<S extends { readonly host: string; readonly port: number }>(
  parts: readonly string[],
  toServer: (part: string) => S,
): readonly S[] {
  const [first = "", ...others] = parts;
  const scheme = schemeOf(first);
  const server = toServer(first);
  const list = others.map((part) => {
    if (!part.includes("://")) {
      const { host, port } = toServer(`${scheme.name}://${part}`);
      return { ...server, host, port };
    }
    const { broker, name } = schemeOf(part);
    if (broker !== scheme.broker || (name === "sentinel") !== (scheme.name === "sentinel")) {
      throw new Problem("all entries of a failover list must name the same kind of broker");
    }
    return toServer(part);
  });
  return [server, ...list];
}

function toRedis(part: string): RedisServer {
  expectOneHost(part);
  const parsed = parseRedisServer(part);
  if (!parsed.ok) throw new Problem(parsed.problem);
  return parsed.server;
}

function toRabbitmq(part: string): RabbitmqServer {
  expectOneHost(part);
  const parsed = parseUrlParts(part);
  if (!parsed.ok) throw new Problem(parsed.problem);
  const { host, port, username, password, path, query } = parsed.parts;
  const tls = parseTlsSettings(query, schemeOf(part).name === "amqps");
  if (!tls.ok) throw new Problem(tls.problem);
  const login = parseLoginMethod(query.get("login_method"));
  if (login === undefined) throw new Problem(LOGIN_METHODS_TEXT);
  if (login === "EXTERNAL" && tls.settings?.certFile === undefined) {
    throw new Problem("login_method=EXTERNAL logs in with a client certificate: use amqps:// and set ssl_certfile and ssl_keyfile");
  }
  return {
    host: host ?? "127.0.0.1",
    port: port ?? (tls.settings === undefined ? 5672 : 5671),
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls.settings === undefined ? {} : { tls: tls.settings }),
    vhost: path ?? "/",
    ...(login === "PLAIN" ? {} : { login }),
  };
}

// Labels of servers for logs, without credentials.

export function rabbitmqLabel({ host, port, vhost, tls }: RabbitmqServer): string {
  return `${tls === undefined ? "amqp" : "amqps"}://${bracketed(host)}:${port}/${vhost === "/" ? "/" : encodeURIComponent(vhost)}`;
}

export function redisLabel({ host, port, db, socketPath, sentinels, tls }: RedisServer): string {
  if (sentinels !== undefined)
    return sentinels.map((sentinel) => `sentinel://${bracketed(sentinel.host)}:${sentinel.port}/${db}`).join(";");
  if (socketPath !== undefined) return `redis+socket://${socketPath}`;
  return `${tls === undefined ? "redis" : "rediss"}://${bracketed(host)}:${port}/${db}`;
}

function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

/** Celery's default `event_exchange`. */
export const DEFAULT_EXCHANGE = "celeryev";
