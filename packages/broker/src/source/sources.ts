/** Maps each broker to its source. */
import type { BrokerUrl } from "../url/broker-url.ts";
import { type RabbitmqOptions, RabbitmqSource } from "../rabbitmq/source.ts";
import { type RedisOptions, RedisSource } from "../redis/source.ts";
import type { EventSource, SourceContext } from "./source.ts";

/** Settings of every broker; each source takes its own. */
export interface SourceOptions {
  readonly rabbitmq: RabbitmqOptions;
  readonly redis: RedisOptions;
}

/** Creates the source for a broker URL. Does not connect. */
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
