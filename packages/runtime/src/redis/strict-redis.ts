/** An ioredis connection that is ready only where it may be used: in the database asked for, on a server that takes writes. */
import { Redis } from "ioredis";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { isSelectError } from "./failure.ts";
import type { ConnectionOptions } from "./policy.ts";

/** What ioredis opens its sockets with. */
interface Connector {
  connect(emit: unknown): Promise<Socket>;
  /** Whether to use the server whose `INFO` this is. The fields are missing where Redis does not let us ask. */
  check(info: { readonly role?: string }): boolean;
}

/**
 * When Redis refuses SELECT, ioredis only emits an error, becomes ready and stays in database 0. This connection closes instead and tries
 * again, also when the server is a replica. Until the server is right, commands fail or wait as if Redis were away. The reason is emitted as
 * `error`. Copies made by `duplicate()` behave the same: BullMQ blocks on one.
 */
export function createStrictRedis(options: ConnectionOptions): Redis {
  const redis = new Redis(options);
  tellSentinelErrors(redis);
  redis.duplicate = (override?: ConnectionOptions) => createStrictRedis({ ...redis.options, ...override });
  redis.on("error", (error: Error) => {
    if (isSelectError(error) && redis.status === "connect") redis.disconnect(true);
  });
  const connector = Reflect.get(redis, "connector") as Connector;
  const [open, check] = [connector.connect.bind(connector), connector.check.bind(connector)];
  connector.connect = async (emit) => {
    const socket = await open(emit);
    hearRejection(socket, (error) => redis.status === "connect" && redis.silentEmit("error", error));
    return socket;
  };
  connector.check = (info) => {
    const isReplica = info.role === "slave";
    // Some replicas accept writes, and lose them when they next synchronize with their master.
    if (isReplica) redis.silentEmit("error", new Error("READONLY it is a replica, which takes no writes"));
    return check(info) && !isReplica;
  };
  return redis;
}

/** Redis may turn a client away with one line and close at once (`-DENIED …`, `-ERR max number of clients reached`). ioredis loses that line. */
function hearRejection(socket: Socket, report: (error: Error) => void): void {
  // There it closes without a word.
  if (socket instanceof TLSSocket) return;
  socket.once("data", (first: Buffer) => {
    if (first.toString("latin1", 0, 1) !== "-") return;
    socket.once("end", () => report(new Error(first.toString("utf8", 1).split("\r\n", 1)[0])));
  });
  // ioredis' greeting goes out in one piece: a second write would fail, and end the connection before the line is read.
  socket.cork();
  socket.once("connect", () => setImmediate(() => socket.uncork()));
}

// Why sentinels cannot be asked: ioredis says "Connection is closed." of one that is down and of one that speaks TLS alike.

/** What ioredis finds the master with, where there are sentinels. */
interface SentinelConnector {
  connectToSentinel?: (endpoint: unknown, options?: object) => Redis;
  resolve: (endpoint: unknown) => Promise<unknown>;
}

/** From now on the connection's errors about sentinels tell what the sentinel's own connection ended with. Changes nothing without sentinels. */
export function tellSentinelErrors(redis: Redis): void {
  const connector = Reflect.get(redis, "connector") as SentinelConnector;
  if (connector.connectToSentinel === undefined) return;
  const [open, resolve] = [connector.connectToSentinel.bind(connector), connector.resolve.bind(connector)];
  let heard: Error | undefined;
  connector.connectToSentinel = (endpoint, options) => {
    const client = open(endpoint, options);
    client.on("error", (error: Error) => (heard ??= error));
    return client;
  };
  connector.resolve = async (endpoint) => {
    // They are asked one after the other.
    heard = undefined;
    try {
      return await resolve(endpoint);
    } catch (thrown) {
      throw isClosed(thrown) && heard !== undefined ? heard : thrown;
    }
  };
}

function isClosed(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.message === "Connection is closed.";
}
