/** Reads a broker URL as Celery users write it (kombu/utils/url.py, kombu/connection.py, kombu/transport/redis.py). */
import { parseUrlParts, type UrlParts } from "./url-parts.ts";

/** How to speak TLS: kombu's `ssl_*` query settings. Unlike kombu, who trusts anyone unless told otherwise, we verify by default. */
export interface TlsSettings {
  /** False with `ssl_cert_reqs=CERT_NONE`. */
  readonly verify: boolean;
  /** False with `ssl_check_hostname=false`: the certificate may name another host. */
  readonly checkHostname: boolean;
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
}

interface Server {
  readonly host: string;
  readonly port: number;
  readonly username?: string;
  readonly password?: string;
  /** Present when the connection is encrypted. */
  readonly tls?: TlsSettings;
}

export interface RabbitmqServer extends Server {
  readonly vhost: string;
}

export interface RedisServer extends Server {
  readonly db: number;
  /** A Unix socket, instead of host and port. */
  readonly socketPath?: string;
  /** Who knows the address of the master, instead of host and port. */
  readonly sentinels?: readonly { readonly host: string; readonly port: number }[];
}

/** Where events come from. Servers are tried in turn. */
export type BrokerUrl =
  | { readonly broker: "rabbitmq"; readonly servers: readonly RabbitmqServer[] }
  | { readonly broker: "redis"; readonly servers: readonly RedisServer[] };

/** `problem` is for the user to read, and holds no password. */
export type ParsedBrokerUrl = { readonly ok: true; readonly url: BrokerUrl } | { readonly ok: false; readonly problem: string };

interface Scheme {
  readonly broker: BrokerUrl["broker"];
  readonly tls: boolean;
  readonly port: number;
}

type NamedScheme = Scheme & { readonly name: string };

const SCHEMES: Readonly<Record<string, Scheme>> = {
  amqp: { broker: "rabbitmq", tls: false, port: 5672 },
  amqps: { broker: "rabbitmq", tls: true, port: 5671 },
  pyamqp: { broker: "rabbitmq", tls: false, port: 5672 },
  "py-amqp": { broker: "rabbitmq", tls: false, port: 5672 },
  librabbitmq: { broker: "rabbitmq", tls: false, port: 5672 },
  redis: { broker: "redis", tls: false, port: 6379 },
  rediss: { broker: "redis", tls: true, port: 6379 },
  "redis+socket": { broker: "redis", tls: false, port: 0 },
  sentinel: { broker: "redis", tls: false, port: 26379 },
};

const SUPPORTED = "amqp, amqps, pyamqp, redis, rediss, redis+socket, sentinel";

/** Celery's other transports: their workers send events nowhere (Celery's documentation, "Broker Overview", column Monitoring). */
const WITHOUT_EVENTS =
  /^(sqs|kafka|confluentkafka|zookeeper|zk|mongodb|sqla|sqlalchemy|filesystem|memory|consul|etcd|azure.*|slmq|qpid)(\+|$)/i;

class Problem extends Error {}

/** Never throws. */
export function parseBrokerUrl(value: string): ParsedBrokerUrl {
  try {
    const parts = value
      .split(";")
      .map((part) => part.trim())
      .filter((part) => part !== "");
    const first = parts[0];
    if (first === undefined) throw new Problem("is empty");
    const scheme = schemeOf(first);
    const server = toServer(first, scheme);
    const others = parts.slice(1).map((part) => (part.includes("://") ? toServer(part, scheme) : anotherHost(part, server, scheme)));
    return { ok: true, url: toBrokerUrl(scheme, [server, ...others]) };
  } catch (thrown) {
    if (thrown instanceof Problem) return { ok: false, problem: thrown.message };
    throw thrown;
  }
}

function schemeOf(part: string): NamedScheme {
  const name = /^([a-z][a-z0-9+.-]*):\/\//i.exec(part)?.[1]?.toLowerCase();
  if (name === undefined) throw new Problem(`must be a URL such as amqp://user:password@host/vhost; supported schemes: ${SUPPORTED}`);
  const scheme = SCHEMES[name];
  if (scheme !== undefined) return { ...scheme, name };
  if (WITHOUT_EVENTS.test(name)) {
    throw new Problem(`a broker of scheme ${name} carries no events, so there is nothing to receive from it; supported: ${SUPPORTED}`);
  }
  throw new Problem(`scheme ${name} is not supported; supported: ${SUPPORTED}`);
}

type AnyServer = RabbitmqServer & RedisServer;

function toServer(part: string, first: NamedScheme): AnyServer {
  const scheme = schemeOf(part);
  if (scheme.broker !== first.broker || (scheme.name === "sentinel") !== (first.name === "sentinel"))
    throw new Problem("the entries of a failover list must be of one kind of broker");
  const parsed = parseUrlParts(part);
  if (!parsed.ok) throw new Problem(parsed.problem);
  const { host, port, username, password, query } = parsed.parts;
  const tls = toTls(scheme, query);
  return {
    host: host ?? "127.0.0.1",
    port: port ?? (scheme.broker === "rabbitmq" && tls !== undefined ? 5671 : scheme.port),
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined ? {} : { tls }),
    ...toPlace(scheme, parsed.parts),
  };
}

/** An entry without a scheme: the rest is that of the first entry (kombu, `Connection.switch`). */
function anotherHost(part: string, first: AnyServer, scheme: NamedScheme): AnyServer {
  const { host, port } = toServer(`${scheme.name}://${part}`, scheme);
  return { ...first, host, port };
}

/** What the path says: a virtual host, a database number, or a socket. */
function toPlace(scheme: NamedScheme, { path, query }: UrlParts): { vhost: string; db: number; socketPath?: string } {
  if (scheme.broker === "rabbitmq") return { vhost: path ?? "/", db: 0 };
  if (scheme.name === "redis+socket") {
    if (path === undefined) throw new Problem("redis+socket:// must be followed by the path of a socket");
    return { vhost: "", db: toDatabase(query.get("virtual_host") ?? query.get("db") ?? undefined), socketPath: `/${path}` };
  }
  return { vhost: "", db: toDatabase(path ?? query.get("virtual_host") ?? undefined) };
}

function toDatabase(text: string | undefined): number {
  const digits = (text ?? "").replace(/^\//, "");
  if (digits === "") return 0;
  if (!/^\d{1,6}$/.test(digits)) throw new Problem("the path of a Redis URL must be the number of a database, such as /0");
  return Number(digits);
}

function toTls(scheme: Scheme, query: URLSearchParams): TlsSettings | undefined {
  const asked = [...query.keys()].some((key) => key.startsWith("ssl_")) || isTrue(query.get("ssl"));
  if (!scheme.tls && !asked) return undefined;
  const caFile = query.get("ssl_ca_certs");
  const certFile = query.get("ssl_certfile");
  const keyFile = query.get("ssl_keyfile");
  return {
    verify: toVerify(query.get("ssl_cert_reqs")),
    checkHostname: query.get("ssl_check_hostname") === null || isTrue(query.get("ssl_check_hostname")),
    ...(caFile === null ? {} : { caFile }),
    ...(certFile === null ? {} : { certFile }),
    ...(keyFile === null ? {} : { keyFile }),
  };
}

/** A client has no use for the difference between optional and required (Python's ssl module). */
function toVerify(certReqs: string | null): boolean {
  switch (certReqs?.toLowerCase().replace(/^cert_/, "")) {
    case undefined:
    case "required":
    case "optional":
      return true;
    case "none":
      return false;
    default:
      throw new Problem("ssl_cert_reqs must be CERT_REQUIRED, CERT_OPTIONAL or CERT_NONE");
  }
}

function isTrue(value: string | null): boolean {
  return value !== null && /^(true|1|yes|on)$/i.test(value);
}

function toBrokerUrl({ broker, name }: NamedScheme, servers: readonly AnyServer[]): BrokerUrl {
  if (broker === "rabbitmq") return { broker, servers: servers.map(({ db: _db, socketPath: _path, ...server }) => server) };
  const redis = servers.map(({ vhost: _vhost, ...server }): RedisServer => server);
  const [first] = redis;
  if (name !== "sentinel" || first === undefined) return { broker, servers: redis };
  // kombu takes user, password and database of the first entry for the Redis that all of them watch.
  return { broker, servers: [{ ...first, sentinels: redis.map(({ host, port }) => ({ host, port })) }] };
}
