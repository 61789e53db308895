/** A connection to Redis in the database of Celery's queues. */
import type { RedisServer, SentinelOptions } from "@celery-metrics-exporter/runtime";
import { Redis } from "ioredis";
import type { LinkSession } from "../link/broker-link.ts";
import { DeniedError } from "../source/source.ts";
import { checkServer, connectionOptions, openOn } from "./session.ts";

export interface RedisLinkOptions {
  readonly use: string;
  readonly sentinelOptions: SentinelOptions | undefined;
  readonly signal: AbortSignal;
}

/** A Redis that does not answer for this long counts as gone: it need not close a connection. */
const ANSWER_TIMEOUT_MS = 5_000;

/**
 * @throws {DeniedError} if Redis refuses the password or the database, or is a Sentinel, or if its certificate is not trusted.
 * @throws {ConfigError} if a certificate file cannot be read.
 */
export async function openRedisLink(server: RedisServer, { use, sentinelOptions, signal }: RedisLinkOptions): Promise<LinkSession> {
  const redis = new Redis({
    ...connectionOptions(server, sentinelOptions === undefined ? {} : { sentinelOptions }, use),
    commandTimeout: ANSWER_TIMEOUT_MS,
    socketTimeout: ANSWER_TIMEOUT_MS,
  });
  return openOn(redis, { sentinelOptions, signal }, async () => {
    await checkServer(redis, server);
    // `checkServer` overlooks a missing permission, but here the database matters.
    if (server.db !== 0) await redis.select(server.db).catch(refused(server.db));
    const ended = new Promise<Error>((resolve) => {
      let reason = new Error("connection closed");
      redis.on("error", (error: Error) => (reason = error));
      redis.once("end", () => resolve(reason));
    });
    const close = (): Promise<void> => {
      redis.disconnect();
      return Promise.resolve();
    };
    return { connection: { broker: "redis", redis, server }, ended, close };
  });
}

function refused(db: number): (error: Error) => never {
  return (error) => {
    throw new DeniedError(`cannot use database ${db} (${error.message})`, { cause: error });
  };
}
