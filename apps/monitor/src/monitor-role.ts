/** The monitor as a role: looks at Celery's queues and workers, so that exporters can show gauges of them. */
import { BrokerLink, brokerOf, brokerUrlWarnings, queueLengths, sentinelOptionsOf } from "@celery-metrics-exporter/broker";
import type { Observation } from "@celery-metrics-exporter/celery";
import { Control } from "@celery-metrics-exporter/control";
import { EXPORTERS, KnownQueues, Leader, Leadership, ObservationOutlet, OnlineMark } from "@celery-metrics-exporter/pipeline";
import { defineRole, openRedis, redactUrl, type Role, type RoleContext, type RedisConnection } from "@celery-metrics-exporter/runtime";
import { Config, controlOptions, redisQueueOptions, watched } from "./config.ts";
import { Monitor } from "./monitor.ts";
import { Polling } from "./polling.ts";

/** Passes observations to the exporters. */
export type Publish = (observations: readonly Observation[]) => Promise<void>;

/** Opens what publishes. The role's lifecycle closes it. */
export type OpenPublish = (redis: RedisConnection, context: RoleContext<Config>) => Publish;

/** @param openPublish tests replace it. */
export function monitorRole(openPublish: OpenPublish = toExporters): Role<typeof Config> {
  return defineRole({
    name: "monitor",
    healthPort: 9806,
    Config,
    async start(context) {
      const { config, logger, health, metrics, lifecycle } = context;
      const startupTimeoutMs = config.STARTUP_TIMEOUT_SECONDS * 1_000;
      const [url, watches] = [brokerOf(config), watched(config)];
      logger.info({ broker: watches, redis: redactUrl(config.REDIS_URL), queuePrefix: config.QUEUE_PREFIX }, "starting with this broker");
      for (const warning of brokerUrlWarnings(config.CELERY_BROKER_URL)) logger.warn(`CELERY_BROKER_URL: ${warning}`);
      const redis = await openRedis(context, { use: "producer", name: "monitor-redis" });
      const openLink = async (use: string): Promise<BrokerLink> => {
        const link = new BrokerLink(url, {
          use,
          sentinelOptions: sentinelOptionsOf(config),
          logger,
          health,
          component: `${use}-broker`,
          startupTimeoutMs,
        });
        lifecycle.defer(`${use} connection to the broker`, () => link.stop());
        await link.start();
        return link;
      };
      const link = await openLink("monitor");
      // On a connection of its own: RabbitMQ blocks those that publish while it is short of memory, which is when the lengths matter.
      const control = config.MONITOR_INSPECT ? new Control(await openLink("monitor-control"), controlOptions(config)) : undefined;
      if (config.CELERY_ENABLE_EVENTS && control === undefined)
        logger.warn("CELERY_ENABLE_EVENTS has no effect with MONITOR_INSPECT=false");
      const monitor = new Monitor({
        broker: url.broker,
        queues: config.MONITOR_QUEUES,
        known: new KnownQueues({ redis, prefix: config.QUEUE_PREFIX }),
        count: (names) => queueLengths(link.connection, names, { redis: redisQueueOptions(config) }),
        ask: async (method, signal) => {
          if (control === undefined) throw new Error("MONITOR_INSPECT is false");
          return control.ask(method, {}, { timeoutMs: config.MONITOR_INSPECT_TIMEOUT_MS, signal });
        },
        enableEvents: config.CELERY_ENABLE_EVENTS,
        publish: openPublish(redis, context),
        metrics,
        logger,
      });

      const leadership = new Leadership({ redis, prefix: config.QUEUE_PREFIX, stream: watches, role: "monitor" });
      const leader = new Leader({ leadership, role: "monitor", health: health.component("monitor"), logger });
      const active = metrics.gauge("monitor_active", "1 while this monitor looks, 0 while it is on standby.");
      Object.assign(active, { collect: () => active.set(leader.isActive ? 1 : 0) });
      lifecycle.defer("monitors' leadership", () => leader.stop());
      await leader.start();

      const start = (
        options: Pick<ConstructorParameters<typeof Polling>[0], "kind" | "what" | "everyMs" | "poll" | "isWantedSoon">,
      ): void => {
        const component = health.component(`monitor-${options.kind}`);
        const polling = new Polling({ ...options, isActive: () => leader.isActive, metrics, health: component, logger });
        lifecycle.defer(`monitor of ${options.kind}`, () => polling.stop());
        polling.start();
      };
      start({
        kind: "queues",
        what: "count the queues",
        everyMs: config.MONITOR_INTERVAL_SECONDS * 1_000,
        poll: () => monitor.countQueues(),
      });
      if (control === undefined) return;
      const everyMs = config.MONITOR_INSPECT_INTERVAL_SECONDS * 1_000;
      const online = new OnlineMark({ redis, prefix: config.QUEUE_PREFIX });
      start({
        kind: "workers",
        what: "ask the workers",
        everyMs,
        poll: (signal) => monitor.askWorkers(signal),
        isWantedSoon: () => online.take(),
      });
    },
  });
}

/** Publishes to the queues of the exporters that observe. */
function toExporters(redis: RedisConnection, { config, logger, metrics, lifecycle }: RoleContext<Config>): Publish {
  const outlet = new ObservationOutlet({ redis, prefix: config.QUEUE_PREFIX, exporters: EXPORTERS, logger, metrics });
  lifecycle.defer("exporters' queues", () => outlet.close());
  return (observations) => outlet.publish(observations);
}

export const monitor = monitorRole();
