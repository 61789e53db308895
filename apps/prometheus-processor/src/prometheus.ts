/** Defines the Prometheus exporter: its settings and how it is put together. */
import { readFileSync } from "node:fs";
import { type ExporterDefinition, defineExporter } from "@celery-metrics-exporter/pipeline";
import { ConfigError, connectRedis, listen, redisTarget, toError } from "@celery-metrics-exporter/runtime";
import { TaskCounts } from "@celery-metrics-exporter/task-store";
import { Config } from "./config.ts";
import { Counting, GENERIC_HOSTNAME, OTHER } from "./counting/counting.ts";
import { HistogramFields } from "./counting/fields.ts";
import { LabelRegistry } from "./counting/label-registry.ts";
import { expositionServer } from "./exposition/server.ts";
import { Snapshots } from "./exposition/snapshots.ts";
import { type CountsSnapshot, taskFamilies } from "./exposition/task-families.ts";

const OWNER = "prometheus";

/** @param onOpen receives the address of `/metrics`, once it answers. */
export function definePrometheus(onOpen: (url: string) => void = () => {}): ExporterDefinition<typeof Config> {
  return defineExporter({
    name: "prometheus",
    Config,
    create: async ({ config, logger, lifecycle, health, schedule }) => {
      const tls = readTls(config);
      const redis = await connectRedis({
        ...redisTarget(config),
        use: "producer",
        name: "prometheus counts",
        startupTimeoutMs: config.STARTUP_TIMEOUT_SECONDS * 1_000,
        logger,
        lifecycle,
        health,
      });
      const registry = (name: string, max: number, ...other: string[]): LabelRegistry => {
        const key = `${config.QUEUE_PREFIX}:${OWNER}:${name}`;
        return new LabelRegistry({ redis, keys: { values: key, used: `${key}-used` }, max, other });
      };
      const otherHostname = config.PROMETHEUS_HOSTNAME_LABEL === "generic" ? GENERIC_HOSTNAME : OTHER;
      const labels = registry("labels", config.PROMETHEUS_MAX_LABEL_SETS, OTHER, OTHER, otherHostname);
      const exceptions = registry("exceptions", config.PROMETHEUS_MAX_EXCEPTIONS, OTHER);
      const histograms = {
        runtime: new HistogramFields("t", config.PROMETHEUS_BUCKETS),
        failedRuntime: new HistogramFields("u", config.PROMETHEUS_BUCKETS),
        wait: new HistogramFields("w", config.PROMETHEUS_QUEUE_WAIT_BUCKETS),
      };
      const hostnames = registry("hostnames", config.PROMETHEUS_MAX_HOSTNAMES, OTHER);
      const counting = new Counting({
        labels,
        exceptions,
        hostnames,
        hostnameLabel: config.PROMETHEUS_HOSTNAME_LABEL,
        defaultQueue: config.PROMETHEUS_DEFAULT_QUEUE,
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

      const snapshots = new Snapshots<CountsSnapshot>({
        read: async () => ({ totals: await counts.totals(), labels: await labels.all(), exceptions: await exceptions.all() }),
      });
      const families = async () => {
        const { content } = await snapshots.get();
        return taskFamilies(content, {
          prefix: config.PROMETHEUS_METRIC_PREFIX,
          exceptionLabel: config.PROMETHEUS_EXCEPTION_LABEL,
          ...histograms,
        });
      };
      const server = expositionServer({
        families,
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
        },
        export: async (events) => {
          counting.notice(events);
          await schedule(await counts.add(events), { delayMs: config.PROMETHEUS_INCOMPLETE_WAIT_MS });
        },
        process: (ids) => counts.giveUpWaiting(ids),
        forget: (ids) => counts.forget(ids),
      };
    },
  });
}

export const prometheus = definePrometheus();

/** @throws {ConfigError} if a file cannot be read. */
function readTls({ PROMETHEUS_TLS_CERT: cert, PROMETHEUS_TLS_KEY: key }: Config): { cert: Buffer; key: Buffer } | undefined {
  if (cert === undefined || key === undefined) return undefined;
  return { cert: readPem("PROMETHEUS_TLS_CERT", cert), key: readPem("PROMETHEUS_TLS_KEY", key) };
}

function readPem(setting: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (thrown) {
    const { code = "error" } = toError(thrown) as NodeJS.ErrnoException;
    throw new ConfigError([`${setting} names a file that cannot be read (${code}): ${path}`]);
  }
}
