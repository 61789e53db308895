/** Why sentinels cannot be asked: ioredis says "Connection is closed." of one that is down and of one that speaks TLS alike. */
import type { Redis } from "ioredis";

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
