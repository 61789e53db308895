/** The receiver's settings. */
import { BrokerConfig, fanoutPrefixOf, sentinelOptionsOf, type SourceOptions } from "@celery-metrics-exporter/broker";
import { EXPORTERS, FilterConfig, type ExporterRegistration } from "@celery-metrics-exporter/pipeline";
import { BaseConfig, deploymentId, duration, integer, list } from "@celery-metrics-exporter/runtime";
import { hostname } from "node:os";
import { z } from "zod";
import { RedactionConfig, withRedactionChecked } from "./redaction/redaction.ts";

const MEBIBYTE = 2 ** 20;
const knownExporters = EXPORTERS.map(({ name }) => name);

const exporters = list("datadog,postgres").superRefine((names, context) => {
  const unknown = names.filter((name) => !knownExporters.includes(name));
  const known = `known exporters, separated by commas: ${knownExporters.join(", ")}`;
  if (unknown.length > 0) context.addIssue({ code: "custom", message: `unknown exporter ${unknown.join(", ")}; ${known}` });
  else if (names.length === 0) context.addIssue({ code: "custom", message: `must name an exporter; ${known}` });
});

const Settings = BaseConfig.extend({
  ...BrokerConfig.shape,
  EXPORTERS: exporters.describe(
    "Comma-separated names of the exporters to feed. Each of them needs a running processor, or its exporter queue grows.",
  ),
  EVENT_EXCHANGE: z
    .string()
    .min(1)
    .default("celeryev")
    .describe(
      "Celery's `event_exchange`. On RabbitMQ the receiver creates `celeryev` if it is missing, and waits for an exchange of any other name.",
    ),
  RABBITMQ_QUEUE: z
    .string()
    .min(1)
    .default("celery-metrics-exporter")
    .describe(
      "Name of the receiver's RabbitMQ queue. Receivers that use the same name share the queue, so give each deployment its own name.",
    ),
  RABBITMQ_QUEUE_TYPE: z
    .enum(["quorum", "classic"])
    .default("quorum")
    .describe(
      "With `quorum`, waiting events survive a restart of the broker. With `classic` they are lost, because Celery publishes events as transient messages.",
    ),
  RABBITMQ_QUEUE_MAX_BYTES: integer(1024 * MEBIBYTE, MEBIBYTE).describe(
    "Maximum size of the receiver's RabbitMQ queue. Beyond it, RabbitMQ drops the oldest events.",
  ),
  RABBITMQ_QUEUE_EXPIRES_SECONDS: duration("age seconds", 7 * 86_400, { min: 60, max: 4_294_967 }).describe(
    "RabbitMQ deletes the receiver's RabbitMQ queue if no receiver has been connected for this long.",
  ),
  RABBITMQ_PREFETCH: integer(8_000, 1, 65_535).describe(
    "Maximum number of messages that RabbitMQ sends ahead of their acknowledgement. A batch closes at half this number. A larger prefetch needs more memory.",
  ),
  RABBITMQ_PREFETCH_BYTES: integer(4 * MEBIBYTE, MEBIBYTE).describe(
    "Maximum number of bytes that RabbitMQ sends ahead of their acknowledgement. It limits the receiver's memory while nothing can be stored. A batch closes at half this size.",
  ),
  CELERY_FANOUT_PATTERNS: z
    .enum(["both", "true", "false"])
    .default("both")
    .describe("Redis: the workers' transport option `fanout_patterns`; `both` works with either."),
  REDIS_BUFFER_MAX_BYTES: integer(128 * MEBIBYTE, MEBIBYTE).describe(
    "Redis pub/sub: size of the buffer while the receiver is behind or on standby. The default is enough for about 250,000 events. What does not fit is dropped and counted.",
  ),
  BATCH_MAX_EVENTS: integer(4_000, 1, 10_000).describe("A batch closes at this many events."),
  BATCH_MAX_MS: duration("wait ms", 500, { min: 1, max: 60_000 }).describe("A batch closes at this age, in milliseconds."),
  BATCH_MAX_BYTES: integer(4 * MEBIBYTE, 1024).describe("A batch closes at this size, counting its messages as received from the broker."),
  QUEUE_FULL: z
    .enum(["hold", "shed"])
    .default("hold")
    .describe(
      "What to do when an exporter queue is full. `hold`: stop reading, so that RabbitMQ keeps the backlog of all exporters. `shed`: drop and count that exporter's batches. Redis pub/sub always sheds.",
    ),
  QUEUE_HIGH_WATER_EVENTS: integer(2_000_000, 1_000).describe(
    "Number of events at which an exporter queue counts as full; see `QUEUE_FULL`. It counts as full until it is down to nine tenths of this. Finished tasks that wait for an absent Datadog agent count too, each as four events.",
  ),
})
  .extend(FilterConfig.shape)
  .extend(RedactionConfig.shape);

export const Config = withRedactionChecked(Settings);
export type Config = z.output<typeof Config>;

/** The exporters to feed, in registration order. */
export function chosenExporters({ EXPORTERS: names }: Config): readonly ExporterRegistration[] {
  return EXPORTERS.filter(({ name }) => names.includes(name));
}

export function sourceOptions(config: Config): SourceOptions {
  return {
    rabbitmq: {
      exchange: config.EVENT_EXCHANGE,
      queue: config.RABBITMQ_QUEUE,
      queueType: config.RABBITMQ_QUEUE_TYPE,
      queueMaxBytes: config.RABBITMQ_QUEUE_MAX_BYTES,
      queueExpiresMs: config.RABBITMQ_QUEUE_EXPIRES_SECONDS * 1_000,
      prefetch: config.RABBITMQ_PREFETCH,
      prefetchBytes: config.RABBITMQ_PREFETCH_BYTES,
      consumerTag: consumerTag(config),
    },
    redis: {
      exchange: config.EVENT_EXCHANGE,
      globalKeyprefix: config.CELERY_GLOBAL_KEYPREFIX,
      fanoutPrefix: fanoutPrefixOf(config),
      ...(config.CELERY_FANOUT_PATTERNS === "both" ? {} : { fanoutPatterns: config.CELERY_FANOUT_PATTERNS === "true" }),
      sentinelOptions: sentinelOptionsOf(config),
      bufferMaxBytes: config.REDIS_BUFFER_MAX_BYTES,
    },
  };
}

/** Shows the deployment in the list of the queue's consumers: consumers that feed the same exporter queues have the same eight digits. */
export function consumerTag(config: Config): string {
  return `celery-metrics-exporter ${deploymentId(config)} ${hostname()} ${process.pid}`;
}
