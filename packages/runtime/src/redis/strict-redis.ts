/** An ioredis connection that becomes ready only in the right database, on a server that accepts writes. */
import { Redis } from "ioredis";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { isSelectError } from "./failure.ts";
import type { ConnectionOptions } from "./policy.ts";

/** The part of ioredis that opens sockets. */
interface Connector {
  connect(emit: unknown): Promise<Socket>;
  /** Whether to use the server with this `INFO`. Fields are missing if we lack the permission. */
  check(info: { readonly role?: string }): boolean;
}

/**
 * If Redis refuses SELECT, ioredis only emits an error, becomes ready and stays in database 0. This connection closes and retries instead. It
 * does the same if the server is a replica. Until the server is right, commands fail or wait as if Redis were unavailable, and `error` events
 * give the reason. Copies made with `duplicate()` behave the same: BullMQ blocks on one.
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
    // Some replicas accept writes, and lose them at the next synchronization with the master.
    if (isReplica) redis.silentEmit("error", new Error("READONLY it is a replica, which does not accept writes"));
    return check(info) && !isReplica;
  };
  return redis;
}

/** Redis may reject a client with one line and close at once (`-DENIED …`, `-ERR max number of clients reached`). ioredis loses that line. */
function hearRejection(socket: Socket, report: (error: Error) => void): void {
  // With TLS, Redis closes without sending a line.
  if (socket instanceof TLSSocket) return;
  socket.once("data", (first: Buffer) => {
    if (first.toString("latin1", 0, 1) !== "-") return;
    socket.once("end", () => report(new Error(first.toString("utf8", 1).split("\r\n", 1)[0])));
  });
  // Sends ioredis' handshake in one piece: a second write would fail and end the connection before the line is read.
  socket.cork();
  socket.once("connect", () => setImmediate(() => socket.uncork()));
}

// Sentinel errors: ioredis reports "Connection is closed." both for a sentinel that is down and for one that requires TLS.

/** The part of ioredis that finds the master through sentinels. */
interface SentinelConnector {
  connectToSentinel?: (endpoint: unknown, options?: object) => Redis;
  resolve: (endpoint: unknown) => Promise<unknown>;
}

/** Makes the connection's errors about sentinels contain the error of the sentinel's own connection. Does nothing without sentinels. */
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
    // ioredis tries the sentinels one after the other.
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
