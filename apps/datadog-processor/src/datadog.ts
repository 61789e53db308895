/** Defines the Datadog exporter: its settings and how it is put together. */
import { defineExporter, type ExporterDefinition } from "@celery-metrics-exporter/pipeline";
import { connectRedis, redisTarget } from "@celery-metrics-exporter/runtime";
import { FinishedTasks, type FinishedTasksOptions, TaskStore } from "@celery-metrics-exporter/task-store";
import { agentAddress, describeAddress } from "./agent/agent-address.ts";
import { Config } from "./config.ts";
import { ExporterMetrics } from "./exporter-metrics.ts";
import { TaskMetricsMapper } from "./metrics/metrics.ts";
import { StatsdClient } from "./agent/statsd-client.ts";
import { DatadogSink } from "./sink.ts";

/** `onStep` is for tests that kill the process between two steps; see `Step`. */
export function defineDatadog({ onStep }: Pick<FinishedTasksOptions, "onStep"> = {}): ExporterDefinition<typeof Config> {
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
        owner: "datadog",
        taskExpirySeconds: config.DATADOG_TASK_EXPIRY_SECONDS,
        sentExpirySeconds: config.DATADOG_SENT_EXPIRY_SECONDS,
        leaseMs: config.DATADOG_LEASE_MS,
        keepWorker: config.DATADOG_TAG_WORKER,
        keepException: config.DATADOG_TAG_EXCEPTION,
        onDropped: (reason, events) => exporterMetrics.dropped(reason, events),
      });
      const mapper = new TaskMetricsMapper({
        prefix: config.DATADOG_METRIC_PREFIX,
        tags: config.DATADOG_TAGS,
        timerType: config.DATADOG_TIMER_TYPE,
        tagWorker: config.DATADOG_TAG_WORKER,
        tagException: config.DATADOG_TAG_EXCEPTION,
      });
      const finished = new FinishedTasks({
        store,
        sink: new DatadogSink({ statsd, mapper, metrics: exporterMetrics, maxAgeSeconds: config.DATADOG_MAX_AGE_SECONDS }),
        schedule,
        graceMs: config.DATADOG_GRACE_MS,
        incompleteWaitMs: config.DATADOG_INCOMPLETE_WAIT_MS,
        logger,
        onSwept: (tasks) => exporterMetrics.swept(tasks),
        onPutOff: (reasons) => exporterMetrics.putOff(reasons),
        onIncomplete: (reasons) => exporterMetrics.incomplete(reasons),
        ...(onStep === undefined ? {} : { onStep }),
      });
      return {
        start: async () => finished.start(),
        export: (events) => finished.export(events),
        process: (ids, signal, job) => finished.process(ids, signal, job),
        forget: (ids) => finished.forget(ids),
        stop: async () => {
          await finished.stop();
          await statsd.close();
        },
      };
    },
  });
}

export const datadog = defineDatadog();
