/** Defines the Datadog exporter: its settings and how it is put together. */
import { type ExporterDefinition, KnownQueues, Leader, Leadership, defineExporter } from "@celery-metrics-exporter/pipeline";
import { openRedis } from "@celery-metrics-exporter/runtime";
import { FinishedTasks, type FinishedTasksOptions, Observations, TaskStore, Workers } from "@celery-metrics-exporter/task-store";
import { agentAddress, describeAddress } from "./agent/agent-address.ts";
import { Config } from "./config.ts";
import { ExporterMetrics } from "./exporter-metrics.ts";
import { TaskMetricsMapper } from "./metrics/metrics.ts";
import { StatsdClient } from "./agent/statsd-client.ts";
import { DatadogSink } from "./sink.ts";
import { GaugeMapper, Gauges } from "./watching/gauges.ts";
import { WaitingMessages } from "./watching/waiting-messages.ts";

/** Within the queues' prefix. The keys under the exporter's own name belong to its queue. */
const KEYS = "datadog-metrics";

/** `onStep` is for tests that kill the process between two steps; see `Step`. */
export function defineDatadog({ onStep }: Pick<FinishedTasksOptions, "onStep"> = {}): ExporterDefinition<typeof Config> {
  return defineExporter({
    name: "datadog",
    Config,
    create: async (context) => {
      const { config, logger, health, metrics, schedule } = context;
      const address = agentAddress(config);
      const statsd = new StatsdClient({
        address,
        maxPacketBytes: config.DATADOG_MAX_PACKET_BYTES,
        maxPacketsPerSecond: config.DATADOG_MAX_PACKETS_PER_SECOND,
        metrics,
        health: health.component("datadog agent"),
      });
      logger.info({ agent: describeAddress(address) }, "sending DogStatsD");
      const redis = await openRedis(context, { use: "producer", name: "datadog Store" });
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

      const key = `${config.QUEUE_PREFIX}:${KEYS}`;
      const workers = new Workers({
        redis,
        key: `${key}:workers`,
        listenedKey: `${key}:listened`,
        timeoutSeconds: config.DATADOG_WORKER_TIMEOUT_SECONDS,
        purgeSeconds: config.DATADOG_WORKER_PURGE_SECONDS,
      });
      const observations = new Observations({
        redis,
        key: `${key}:observations`,
        maxAgeSeconds: config.DATADOG_OBSERVATION_MAX_AGE_SECONDS,
      });
      const waiting = new WaitingMessages({ redis, key: `${key}:waiting`, store, expirySeconds: config.DATADOG_TASK_EXPIRY_SECONDS });
      // The monitor looks for the queues to which tasks are sent.
      const knownQueues = new KnownQueues({ redis, prefix: config.QUEUE_PREFIX });
      const leadership = new Leadership({ redis, prefix: config.QUEUE_PREFIX, stream: KEYS, role: KEYS });
      const leader = new Leader({
        leadership,
        role: "datadog-processor",
        health: health.component("datadog gauges"),
        isAble: () => gauges.isAble,
        logger,
      });
      const gauges: Gauges = new Gauges({
        mapper: new GaugeMapper({
          prefix: config.DATADOG_METRIC_PREFIX,
          tags: config.DATADOG_TAGS,
          workerTimeoutSeconds: config.DATADOG_WORKER_TIMEOUT_SECONDS,
        }),
        statsd,
        read: async () => {
          const [known, observed] = await Promise.all([workers.all(), observations.newest()]);
          return { ...observed, ...known, waitingSince: await waiting.oldest(observed) };
        },
        isActive: () => leader.isActive,
        everyMs: config.DATADOG_GAUGE_INTERVAL_MS,
        logger,
      });
      return {
        start: async () => {
          finished.start();
          await leader.start();
          gauges.start();
        },
        export: async (events, _signal, batch) => {
          await workers.merge(events, batch?.receivedAt);
          await knownQueues.notice(events);
          await finished.export(events);
          // After the Store, which is asked about them.
          await waiting.merge(events);
        },
        process: (ids, signal, job) => finished.process(ids, signal, job),
        forget: (ids) => finished.forget(ids),
        observe: async (observed) => {
          await observations.store(observed);
          await workers.listened(observed);
        },
        stop: async () => {
          await gauges.stop();
          await leader.stop();
          await finished.stop();
          await statsd.close();
        },
      };
    },
  });
}

export const datadog = defineDatadog();
