/** A connection to the broker that carries no events: to count queues, and for remote control. */
import { type Health, type Logger, type RedisServer, type SentinelOptions, UnavailableError } from "@celery-metrics-exporter/runtime";
import type { ChannelModel } from "amqplib";
import type { Redis } from "ioredis";
import { openRabbitmqLink } from "../rabbitmq/link.ts";
import { openRedisLink } from "../redis/link.ts";
import { type Session, SessionKeeper } from "../source/session-keeper.ts";
import { type BrokerUrl, type RabbitmqServer, rabbitmqLabel, redisLabel } from "../url/broker-url.ts";

/** An open connection. A lost one is replaced by another object. */
export type BrokerConnection =
  | { readonly broker: "rabbitmq"; readonly model: ChannelModel }
  | { readonly broker: "redis"; readonly redis: Redis; readonly server: RedisServer };

export interface LinkSession extends Session {
  readonly connection: BrokerConnection;
}

export interface BrokerLinkOptions {
  /** Part of the connection's name on the broker. */
  readonly use: string;
  /** kombu's transport options `master_name` and `sentinel_kwargs`. */
  readonly sentinelOptions?: SentinelOptions | undefined;
  readonly logger: Logger;
  readonly health: Health;
  /** Name of the component in `/readyz`. */
  readonly component: string;
  readonly startupTimeoutMs: number;
}

/** Keeps one connection open, over the servers of a broker URL. */
export class BrokerLink {
  readonly #keeper: Pick<SessionKeeper<never, LinkSession>, "session" | "start" | "stop">;

  /** Does not connect. */
  constructor(url: BrokerUrl, { use, sentinelOptions, component, health, ...others }: BrokerLinkOptions) {
    const keeper = { ...others, health: health.component(component) };
    this.#keeper =
      url.broker === "rabbitmq"
        ? new SessionKeeper<RabbitmqServer, LinkSession>({
            ...keeper,
            name: "RabbitMQ",
            servers: url.servers,
            open: (server, signal) => openRabbitmqLink(server, use, signal),
            describe: rabbitmqLabel,
          })
        : new SessionKeeper<RedisServer, LinkSession>({
            ...keeper,
            name: "Redis",
            servers: url.servers,
            open: (server, signal) => openRedisLink(server, { use, sentinelOptions, signal }),
            describe: redisLabel,
          });
  }

  /**
   * Connects. From then on reconnects until `stop`.
   *
   * @throws {UnavailableError} if no server accepts us within the startup timeout; at once if all of them refuse access.
   * @throws {ConfigError} if a certificate file of the URL cannot be read.
   */
  async start(): Promise<void> {
    await this.#keeper.start();
  }

  /** @throws {UnavailableError} while the broker is away. */
  get connection(): BrokerConnection {
    const { session } = this.#keeper;
    if (session === undefined) throw new UnavailableError("the broker is unavailable");
    return session.connection;
  }

  /** Disconnects. Safe without `start`. */
  async stop(): Promise<void> {
    await this.#keeper.stop();
  }
}
