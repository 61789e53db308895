/** Defines the Prometheus exporter: its settings and how it is put together. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { type ExporterDefinition, KnownQueues, Leader, Leadership, defineExporter } from "@celery-metrics-exporter/pipeline";
import { ConfigError, type RedisConnection, listen, openRedis, toError } from "@celery-metrics-exporter/runtime";
import { Observations, TaskCounts, Workers } from "@celery-metrics-exporter/task-store";
import { Config } from "./config.ts";
import { Counting, GENERIC_HOSTNAME, OTHER } from "./counting/counting.ts";
import { Expiry } from "./counting/expiry.ts";
import { HistogramFields } from "./counting/fields.ts";
import { LabelRegistry, type LabelRegistryOptions } from "./counting/label-registry.ts";
import { Exposition } from "./exposition/exposition.ts";
import { expositionServer } from "./exposition/server.ts";

const OWNER = "prometheus";
/** Within the queues' prefix. The keys under the exporter's own name belong to its queue. */
const KEYS = "prometheus-metrics";

const NOT_SHOWN: ReadonlyMap<string, number> = new Map();

/**
 * @param onOpen receives the address of `/metrics`, once it answers.
 * @param staleMs how long the last values are shown when Redis cannot be read. Default: a minute.
 */
export function definePrometheus(onOpen: (url: string) => void = () => {}, staleMs?: number): ExporterDefinition<typeof Config> {
  return defineExporter({
    name: "prometheus",
    Config,
    create: async (context) => {
      const { config, logger, lifecycle, health, schedule } = context;
      const tls = readTls(config);
      const redis = await openRedis(context, { use: "producer", name: "prometheus counts" });
      const registry = (name: string, max: number, other: readonly string[], onUsed?: LabelRegistryOptions["onUsed"]): LabelRegistry => {
        const key = `${config.QUEUE_PREFIX}:${KEYS}:${name}`;
        return new LabelRegistry({
          redis,
          keys: { values: key, used: `${key}-used`, created: `${key}-created` },
          max,
          other,
          ...(onUsed !== undefined && { onUsed }),
        });
      };
      const otherHostname = config.PROMETHEUS_HOSTNAME_LABEL === "generic" ? GENERIC_HOSTNAME : OTHER;
      // The monitor looks for the queues to which tasks are sent.
      const knownQueues = new KnownQueues({ redis, prefix: config.QUEUE_PREFIX });
      const remember: LabelRegistryOptions["onUsed"] = (sets) => knownQueues.remember(sets.flatMap(([, queue]) => queue ?? []));
      const labels = registry("labels", config.PROMETHEUS_MAX_LABEL_SETS, [OTHER, OTHER, otherHostname], remember);
      const exceptions = registry("exceptions", config.PROMETHEUS_MAX_EXCEPTIONS, [OTHER]);
      const histograms = {
        runtime: new HistogramFields("t", config.PROMETHEUS_BUCKETS),
        failedRuntime: new HistogramFields("u", config.PROMETHEUS_BUCKETS),
        wait: new HistogramFields("w", config.PROMETHEUS_QUEUE_WAIT_BUCKETS),
      };
      const hostnames = registry("hostnames", config.PROMETHEUS_MAX_HOSTNAMES, [OTHER]);
      const counting = new Counting({
        labels,
        exceptions,
        hostnames,
        hostnameLabel: config.PROMETHEUS_HOSTNAME_LABEL,
        defaultQueue: config.PROMETHEUS_DEFAULT_QUEUE,
        countsPrefetched: config.PROMETHEUS_FLOWER_METRICS,
        ...histograms,
      });
      const counts = new TaskCounts({
        redis,
        queuePrefix: config.QUEUE_PREFIX,
        owner: OWNER,
        taskExpirySeconds: config.PROMETHEUS_TASK_EXPIRY_SECONDS,
        endedExpirySeconds: config.PROMETHEUS_ENDED_EXPIRY_SECONDS,
        keepWorker: config.PROMETHEUS_HOSTNAME_LABEL !== "generic",
        keepException: config.PROMETHEUS_EXCEPTION_LABEL,
        everyEvent: true,
        lookAt: counting.lookAt,
        onLoss: () => {
          for (const each of [labels, exceptions, hostnames]) each.forget();
        },
      });

      const workers = new Workers({
        redis,
        key: `${config.QUEUE_PREFIX}:${KEYS}:workers`,
        listenedKey: `${config.QUEUE_PREFIX}:${KEYS}:listened`,
        timeoutSeconds: config.PROMETHEUS_WORKER_TIMEOUT_SECONDS,
        purgeSeconds: config.PROMETHEUS_WORKER_PURGE_SECONDS,
      });
      const observations = new Observations({
        redis,
        key: `${config.QUEUE_PREFIX}:${KEYS}:observations`,
        maxAgeSeconds: config.PROMETHEUS_OBSERVATION_MAX_AGE_SECONDS,
      });
      const leadership = new Leadership({ redis, prefix: config.QUEUE_PREFIX, stream: KEYS, role: KEYS });
      const leader = new Leader({ leadership, role: "prometheus-processor", health: health.component("prometheus exposition"), logger });
      lifecycle.defer("prometheus leadership", () => leader.stop());
      const { families, flowerFamilies } = new Exposition({
        prefix: config.PROMETHEUS_METRIC_PREFIX,
        exceptionLabel: config.PROMETHEUS_EXCEPTION_LABEL,
        hostnameLabel: config.PROMETHEUS_HOSTNAME_LABEL,
        workerTimeoutSeconds: config.PROMETHEUS_WORKER_TIMEOUT_SECONDS,
        queuePriorities: config.PROMETHEUS_QUEUE_PRIORITIES,
        ...histograms,
        isActive: () => leader.isActive,
        activeSince: () => leader.activeSince,
        isUncertain: () => leader.isUncertain,
        read: async () => {
          const [epoch, shards, labelSets, created, classes, known, observed] = await Promise.all([
            epochOf(redis, `${config.QUEUE_PREFIX}:${KEYS}:epoch`),
            counts.read(),
            labels.all(),
            config.PROMETHEUS_CREATED ? labels.created() : NOT_SHOWN,
            exceptions.all(),
            workers.all(),
            observations.newest(),
          ]);
          return { epoch, shards, labels: labelSets, created, exceptions: classes, ...known, ...observed };
        },
        logger,
        ...(staleMs !== undefined && { staleMs }),
      });
      const expiry = new Expiry({
        counts,
        labels,
        unusedSeconds: config.PROMETHEUS_UNUSED_EXPIRY_SECONDS,
        taskExpirySeconds: config.PROMETHEUS_TASK_EXPIRY_SECONDS,
        isActive: () => leader.isActive,
        logger,
      });
      lifecycle.defer("expiry of unused labels", () => expiry.stop());
      const server = expositionServer({
        families,
        flowerFamilies: config.PROMETHEUS_FLOWER_METRICS ? flowerFamilies : undefined,
        bearerToken: config.PROMETHEUS_BEARER_TOKEN,
        tls,
        staticLabels: config.PROMETHEUS_STATIC_LABELS,
        logger,
      });
      lifecycle.defer("prometheus port", () => server.close());
      return {
        start: async () => {
          const address = { host: config.PROMETHEUS_HOST, port: config.PROMETHEUS_PORT, settings: "PROMETHEUS_PORT or PROMETHEUS_HOST" };
          const url = await listen(server, address);
          const metricsUrl = `${tls === undefined ? url : url.replace("http:", "https:")}/metrics`;
          logger.info({ metricsUrl }, "listening for Prometheus");
          onOpen(metricsUrl);
          await leader.start();
          expiry.start();
        },
        export: async (events, _signal, batch) => {
          counting.notice(events);
          await workers.merge(events, batch?.receivedAt);
          await schedule(await counts.add(events), { delayMs: config.PROMETHEUS_INCOMPLETE_WAIT_MS });
        },
        process: (ids) => counts.giveUpWaiting(ids),
        forget: (ids) => counts.forget(ids),
        observe: async (observed) => {
          await observations.store(observed);
          await workers.listened(observed);
        },
      };
    },
  });
}

export const prometheus = definePrometheus();

/** Redis' own mark of these counts. It is created when it is missing: at first, and after Redis has lost everything. */
async function epochOf(redis: RedisConnection, key: string): Promise<string> {
  const epoch = await redis.get(key);
  if (epoch !== null) return epoch;
  await redis.setnx(key, randomUUID());
  return (await redis.get(key)) ?? "";
}

/** @throws {ConfigError} if a file cannot be read or used. */
function readTls({ PROMETHEUS_TLS_CERT: cert, PROMETHEUS_TLS_KEY: key }: Config): { cert: Buffer; key: Buffer } | undefined {
  if (cert === undefined || key === undefined) return undefined;
  const pem = { cert: readPem("PROMETHEUS_TLS_CERT", cert), key: readPem("PROMETHEUS_TLS_KEY", key) };
  try {
    createSecureContext(pem);
  } catch (thrown) {
    throw new ConfigError([`PROMETHEUS_TLS_CERT and PROMETHEUS_TLS_KEY are not a certificate and its key: ${toError(thrown).message}`]);
  }
  return pem;
}

function readPem(setting: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (thrown) {
    const { code = "error" } = toError(thrown) as NodeJS.ErrnoException;
    throw new ConfigError([`${setting} names a file that cannot be read (${code}): ${path}`]);
  }
}
