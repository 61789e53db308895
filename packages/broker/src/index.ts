export { brokerUrlWarnings, parseBrokerUrl, type BrokerUrl, type ParsedBrokerUrl, type RabbitmqServer } from "./broker-url.ts";
export type { RabbitmqOptions } from "./rabbitmq.ts";
export { connectRabbitmq } from "./rabbitmq-connection.ts";
export type { RabbitmqTopology } from "./rabbitmq-topology.ts";
export type { RedisOptions } from "./redis.ts";
export type { RedisSubscription } from "./redis-session.ts";
export type { SourceContext } from "./source-context.ts";
export type { Broadcast, Broker, EventSource, OnMessage, RawMessage } from "./source.ts";
export { createEventSource, type SourceOptions } from "./sources.ts";
