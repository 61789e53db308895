/** The definition of the Datadog exporter: its settings, and how it is put together. */
import { defineExporter, type ExporterDefinition } from "@celery-metrics-exporter/pipeline";
import { connectRedis, redisTarget } from "@celery-metrics-exporter/runtime";
import { TaskStore } from "@celery-metrics-exporter/task-store";
import { agentAddress, describeAddress } from "./agent/agent-address.ts";
import { Config } from "./config.ts";
import { ExporterMetrics } from "./exporter-metrics.ts";
import { DatadogExporter, type DatadogExporterOptions } from "./exporter.ts";
import { TaskMetricsMapper } from "./metrics/metrics.ts";
import { StatsdClient } from "./agent/statsd-client.ts";
import { UnfinishedTasks } from "./unfinished-tasks.ts";

/** `onStep` is for tests that kill the process between two steps; see `Step`. */
export function defineDatadog({ onStep }: Pick<DatadogExporterOptions, "onStep"> = {}): ExporterDefinition<typeof Config> {
  return defineExporter({
    name: "datadog",
    Config,
    create: async ({ config, logger, lifecycle, health, metrics, schedule }) => {
      const address = agentAddress(config);
      const statsd = new StatsdClient({
        address,
        maxPacketBytes: config.DATADOG_MAX_PACKET_BYTES,
        maxPacketsPerSecond: config.DATADOG_MAX_PACKETS_PER_SECOND,
        metrics,
        health: health.component("datadog agent"),
      });
      logger.info({ agent: describeAddress(address) }, "sending DogStatsD");
      const redis = await connectRedis({
        ...redisTarget(config),
        use: "producer",
        name: "datadog Store",
        startupTimeoutMs: config.STARTUP_TIMEOUT_SECONDS * 1_000,
        logger,
        lifecycle,
        health,
      });
      const exporterMetrics = new ExporterMetrics(metrics);
      const store = new TaskStore({
        redis,
        queuePrefix: config.QUEUE_PREFIX,
        taskExpirySeconds: config.DATADOG_TASK_EXPIRY_SECONDS,
        sentExpirySeconds: config.DATADOG_SENT_EXPIRY_SECONDS,
        leaseMs: config.DATADOG_LEASE_MS,
        keepWorker: config.DATADOG_TAG_WORKER,
        keepException: config.DATADOG_TAG_EXCEPTION,
        onDropped: (reason, events) => exporterMetrics.dropped(reason, events),
      });
      return new DatadogExporter({
        store,
        statsd,
        mapper: new TaskMetricsMapper({
          prefix: config.DATADOG_METRIC_PREFIX,
          tags: config.DATADOG_TAGS,
          timerType: config.DATADOG_TIMER_TYPE,
          tagWorker: config.DATADOG_TAG_WORKER,
          tagException: config.DATADOG_TAG_EXCEPTION,
        }),
        schedule,
        metrics: exporterMetrics,
        countUnfinished: () => new UnfinishedTasks({ store, metrics, logger }),
        graceMs: config.DATADOG_GRACE_MS,
        incompleteWaitMs: config.DATADOG_INCOMPLETE_WAIT_MS,
        leaseMs: config.DATADOG_LEASE_MS,
        maxAgeSeconds: config.DATADOG_MAX_AGE_SECONDS,
        ...(onStep === undefined ? {} : { onStep }),
      });
    },
  });
}

export const datadog = defineDatadog();
