/** A connection to a Redis Cluster, and the state of its nodes. */
import { Cluster, type ClusterOptions, type Redis } from "ioredis";
import type { ConnectionOptions } from "./policy.ts";
import type { RedisServer } from "./redis-url.ts";
import { toTlsOptions, type TlsContext, type TlsOptions } from "../tls/tls.ts";

/** Receives state changes of a connection. */
export interface ConnectionListener {
  /** The connection is complete. May be called repeatedly. */
  up(): void;
  /** The connection, or a part of it, is lost. */
  down(what: string): void;
  /** An error occurred. It may be over by the time of the call. */
  failed(error: Error): void;
}

export interface CreateClusterOptions {
  readonly cluster: ClusterOptions;
  /** Options of each connection to a node. */
  readonly connection: ConnectionOptions;
  /** `announced=reachable`, each `host:port`. */
  readonly natMap?: readonly string[] | undefined;
  /** For messages about TLS. */
  readonly context: Omit<TlsContext, "host">;
}

interface Node {
  readonly host: string;
  readonly port: number;
  readonly tls?: TlsOptions;
}

/**
 * Does not connect yet.
 *
 * @throws {ConfigError} if a certificate file cannot be read.
 */
export function createCluster(
  { nodes = [], tls, username, password }: RedisServer,
  { cluster, connection, natMap = [], context }: CreateClusterOptions,
): Cluster {
  const reachable = new Map(natMap.map((entry) => entry.split("=", 2) as [string, string]));
  const options = new Map<string, TlsOptions>();
  const nodeAt = (host: string, port: number): Node => {
    if (tls === undefined) return { host, port };
    const known = options.get(host) ?? toTlsOptions(tls, { ...context, host });
    options.set(host, known);
    return { host, port, tls: known };
  };
  return new Cluster(
    nodes.map(({ host, port }) => nodeAt(host, port)),
    {
      ...cluster,
      // Keeps the host name, which the certificate must match. By default, ioredis keeps only the address.
      dnsLookup: (host, done) => done(null, host),
      natMap: (announced) => {
        const address = reachable.get(announced) ?? announced;
        const colon = address.lastIndexOf(":");
        return nodeAt(address.slice(0, colon), Number(address.slice(colon + 1)));
      },
      redisOptions: {
        ...connection,
        ...(username === undefined ? {} : { username }),
        ...(password === undefined ? {} : { password }),
      },
    },
  );
}

/** Connects to every master as soon as it is known, not only for its first command, and reports whether all are connected. */
export function watchCluster(cluster: Cluster, listener: ConnectionListener): void {
  const look = (): void => {
    if (cluster.status !== "ready") return;
    const missing = missingMasters(cluster);
    if (missing.length === 0) listener.up();
    else listener.down(`no connection to ${missing.join(", ")}`);
  };
  const connect = (node: Redis): void => {
    const isNew = cluster.status === "ready" && node.status === "wait" && node.options.readOnly !== true;
    if (isNew) node.connect().catch(() => {});
  };
  cluster.on("+node", (node: Redis) => {
    node.on("ready", look);
    node.on("close", look);
    // Lets a redirected command go first: it would fail on a connection that is still being opened.
    setImmediate(connect, node);
  });
  cluster.on("refresh", () => {
    for (const node of cluster.nodes("master")) setImmediate(connect, node);
    setImmediate(look);
  });
  cluster.on("close", () => listener.down("disconnected"));
  cluster.on("node error", (error: Error) => listener.failed(error));
  cluster.on("error", (error: Error & { readonly lastNodeError?: Error }) => {
    listener.failed(error.lastNodeError ?? error);
    const [node] = cluster.nodes();
    if (node !== undefined) tellWhy(node, listener);
  });
}

/** ioredis queries the slots on internal connections and hides their errors. One more connection reveals the reason. */
function tellWhy(node: Redis, listener: ConnectionListener): void {
  const probe = node.duplicate();
  probe.on("error", (error: Error) => listener.failed(error));
  probe
    .connect()
    .catch(() => {})
    .finally(() => probe.disconnect());
}

/** The addresses of masters with slots but without a connection. */
function missingMasters(cluster: Cluster): string[] {
  const ready = cluster.nodes("master").filter(({ status }) => status === "ready");
  const there = new Set(ready.map(({ options: { host, port } }) => `${host}:${port}`));
  return [...new Set(cluster.slots.flatMap((nodes) => nodes.slice(0, 1)))].filter((master) => !there.has(master));
}
