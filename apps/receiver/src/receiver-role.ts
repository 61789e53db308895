/** The receiver as a role: reads Celery's events from the broker and puts them into the exporter queues. */
import { brokerOf, brokerUrlWarnings, createEventSource, describeSource, type EventSource } from "@celery-metrics-exporter/broker";
import {
  DeadLetters,
  eventTypeWarnings,
  Fanout,
  OtherSources,
  RECEIVER,
  OnlineMark,
  openFilter,
  Leadership,
  ReceiverRegister,
} from "@celery-metrics-exporter/pipeline";
import {
  defineRole,
  redactUrl,
  openRedis,
  warnIfNotDurable,
  type Logger,
  type RedisConnection,
  type Role,
} from "@celery-metrics-exporter/runtime";
import { Config, chosenExporters, sourceOptions } from "./config.ts";
import { Delivery } from "./batches.ts";
import { EventAdvice } from "./event-advice.ts";
import { HotStandby } from "./standby/hot-standby.ts";
import { ReceiverMetrics } from "./receiver-metrics.ts";
import { receiverClock, SenderClocks } from "./clocks.ts";
import { Receiver } from "./receiver.ts";
import { RedisClock, timeOf } from "./redis-clock.ts";
import { redactionOf } from "./redaction/redaction.ts";
import { SharedQueueWatch } from "./standby/shared-queue.ts";

export const receiver: Role<typeof Config> = defineRole({
  name: "receiver",
  healthPort: 9801,
  Config,
  async start(context) {
    const { config, logger, health, metrics, lifecycle } = context;
    const startupTimeoutMs = config.STARTUP_TIMEOUT_SECONDS * 1_000;
    const [broker, options] = [brokerOf(config), sourceOptions(config)];
    const from = describeSource(broker, options);
    logger.info(
      { broker: from, redis: redactUrl(config.REDIS_URL), queuePrefix: config.QUEUE_PREFIX, exporters: config.EXPORTERS },
      "starting with this broker and these exporters",
    );
    const redis = await openRedis(context, { use: "producer", name: "redis" });
    await warnIfNotDurable(redis, logger);
    const clock = new RedisClock(timeOf(redis, `${config.QUEUE_PREFIX}:receiver:clock`), logger);
    await clock.sync();

    for (const warning of brokerUrlWarnings(config.CELERY_BROKER_URL)) logger.warn(`CELERY_BROKER_URL: ${warning}`);
    const source = createEventSource(broker, options, { logger, health, metrics, startupTimeoutMs });
    lifecycle.defer("event source", () => source.stop());
    const queues = { redis, prefix: config.QUEUE_PREFIX, logger, metrics };
    const fanout = new Fanout({
      ...queues,
      exporters: chosenExporters(config),
      // What cannot be redelivered cannot be held back either.
      whenFull: source.redelivers ? config.QUEUE_FULL : "shed",
      highWaterEvents: config.QUEUE_HIGH_WATER_EVENTS,
    });
    lifecycle.defer("exporters' queues", () => fanout.close());
    const deadLetters = new DeadLetters({ ...queues, source: RECEIVER });
    lifecycle.defer("dead-letter queue", () => deadLetters.close());
    await deadLetters.start();
    await fanout.start();

    for (const warning of eventTypeWarnings(config)) logger.warn(warning);
    const filter = openFilter(config, { redis, prefix: config.QUEUE_PREFIX, owner: "receiver" });
    const receiverMetrics = new ReceiverMetrics(metrics, source.broker);
    const delivery = new Delivery({
      broker: source.broker,
      fanout,
      filter,
      deadLetters,
      metrics: receiverMetrics,
      health: health.component("storing"),
      logger,
    });
    const onlineMark = new OnlineMark({ redis, prefix: config.QUEUE_PREFIX });
    const flow = new Receiver({
      source,
      delivery,
      reportListened: (time) => fanout.reportListened(from, time),
      onWorkerOnline: () => onlineMark.leave(),
      isActive: () => standby?.isActive ?? true,
      takes: (event) => fanout.takes(event.type) || filter?.needs(event) === true,
      fullBecause: () => fanout.fullBecause(),
      batch: {
        maxEvents: config.BATCH_MAX_EVENTS,
        maxMessages: source.redelivers ? Math.ceil(config.RABBITMQ_PREFETCH / 2) : Number.POSITIVE_INFINITY,
        maxMs: config.BATCH_MAX_MS,
        maxBytes: source.redelivers ? Math.min(config.BATCH_MAX_BYTES, config.RABBITMQ_PREFETCH_BYTES / 2) : config.BATCH_MAX_BYTES,
      },
      clock,
      redaction: redactionOf(config),
      metrics: receiverMetrics,
      advice: new EventAdvice(logger),
      clocks: new SenderClocks({ now: receiverClock(clock, logger), health: health.component("clock"), logger }),
      health: health.component("taking"),
      logger,
    });
    const { broadcast } = source;
    const standby =
      broadcast &&
      new HotStandby({
        broadcast,
        leadership: new Leadership({ redis, prefix: config.QUEUE_PREFIX, stream: broadcast.stream }),
        metrics,
        health: health.component("receiver"),
        logger,
      });
    lifecycle.defer("receivers' leadership", () => standby?.stop());
    lifecycle.defer("events in progress", async () => {
      standby?.drain();
      await flow.drain();
      logger.info({ eventsTaken: receiverMetrics.eventsTaken }, "drained");
    });
    const sharedQueue = watchSharedQueue(source, { redis, config, logger });
    lifecycle.defer("receivers' register", () => sharedQueue?.stop());
    const others = new OtherSources({ ...queues, source: from });
    lifecycle.defer("other sources", () => others.close());
    await flow.start();
    // A receiver that never connected feeds nothing.
    await others.start();
    sharedQueue?.start();
    await standby?.start();
  },
});

function watchSharedQueue(
  source: EventSource,
  { redis, config, logger }: { readonly redis: RedisConnection; readonly config: Config; readonly logger: Logger },
): SharedQueueWatch | undefined {
  // On Redis, receivers do not take messages from each other.
  if (source.consumers === undefined) return undefined;
  const queue = config.RABBITMQ_QUEUE;
  const register = new ReceiverRegister({ redis, prefix: config.QUEUE_PREFIX, stream: `rabbitmq ${queue}` });
  return new SharedQueueWatch({ consumers: async () => source.consumers?.(), register, queue, logger });
}
