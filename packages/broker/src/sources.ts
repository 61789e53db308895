/** Which source serves which broker: one line each. */
import type { BrokerUrl } from "./broker-url.ts";
import { RabbitmqSource, type RabbitmqOptions } from "./rabbitmq.ts";
import { RedisSource, type RedisOptions } from "./redis.ts";
import type { SourceContext } from "./source-context.ts";
import type { EventSource } from "./source.ts";

/** Settings of every broker; each source takes its own. */
export interface SourceOptions {
  readonly rabbitmq: RabbitmqOptions;
  readonly redis: RedisOptions;
}

/** Builds the source of a broker URL; connects nothing. */
export function createEventSource(url: BrokerUrl, options: SourceOptions, context: SourceContext): EventSource {
  switch (url.broker) {
    case "rabbitmq":
      return new RabbitmqSource(url.servers, options.rabbitmq, context);
    case "redis":
      return new RedisSource(url.servers, options.redis, context);
    default:
      return url satisfies never;
  }
}
