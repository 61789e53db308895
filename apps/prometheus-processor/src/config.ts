/** Settings of the Prometheus exporter. */
import {
  type Alias,
  BaseConfig,
  MAX_AGE_SECONDS,
  MAX_WAIT_SECONDS,
  RedisConfig,
  aliased,
  duration,
  flag,
  integer,
  list,
  secret,
} from "@celery-metrics-exporter/runtime";
import { z } from "zod";

/** The Python client's default, as celery-exporter uses it. */
const RUNTIME_BUCKETS = "0.005,0.01,0.025,0.05,0.075,0.1,0.25,0.5,0.75,1,2.5,5,7.5,10";
/** As in celery-exporter. */
const WAIT_BUCKETS = "0.05,0.1,0.25,0.5,1,2.5,5,10,30,60,120,300,600,1800";
const MOST_BUCKETS = 40;
const DAY_SECONDS = 86_400;

/** Label names that the metrics use themselves. */
const OWN_LABELS: ReadonlySet<string> = new Set(["name", "queue_name", "hostname", "exception", "worker", "priority", "le"]);

// celery-exporter's variables, where they are not written like ours.

/** In seconds; 0 means never. */
function orNever(variable: string, longestSeconds: number): Alias {
  return { variable, read: (value) => (/^\s*0+\s*$/.test(value) ? String(longestSeconds) : value) };
}

/** May end with infinity, which every histogram has. */
function bucketsAlias(variable: string): Alias {
  return { variable, read: (value) => value.replace(/,\s*\+?inf(inity)?\s*$/i, "") };
}

/** Separated by blanks, as its library for command lines has it. */
const STATIC_LABEL: Alias = {
  variable: "CE_STATIC_LABEL",
  read: (value) =>
    value.includes(",")
      ? { problem: "must not contain a comma, because commas separate labels here" }
      : value.trim().split(/\s+/).join(","),
};

const GENERIC_HOSTNAME: Alias = {
  variable: "CE_GENERIC_HOSTNAME_WORKER_TASK_METRIC",
  read: (value) => {
    const isGeneric = z
      .stringbool({ truthy: ["1", "true", "t", "yes", "y", "on"], falsy: ["0", "false", "f", "no", "n", "off"] })
      .safeParse(value.trim());
    if (!isGeneric.success) return { problem: "must be true or false" };
    return isGeneric.data ? "generic" : "host";
  },
};

function buckets(defaults: string): z.ZodType<readonly number[], unknown> {
  return z
    .string()
    .default(defaults)
    .transform((text, context): readonly number[] => {
      const limits = text.split(",").map((part) => (part.trim() === "" ? Number.NaN : Number(part)));
      const isRising = limits.every((limit, index) => limit > 0 && limit < 1e12 && limit > (limits[index - 1] ?? 0));
      if (isRising && limits.length <= MOST_BUCKETS) return limits;
      context.addIssue(`must be up to ${MOST_BUCKETS} rising numbers of seconds, such as 0.1,1,10`);
      return z.NEVER;
    });
}

export const Config = z
  .object({
    ...RedisConfig.shape,
    ...BaseConfig.pick({ QUEUE_PREFIX: true, STARTUP_TIMEOUT_SECONDS: true }).shape,
    PROMETHEUS_HOST: aliased(
      z
        .string()
        .min(1)
        .default("127.0.0.1")
        .describe("Address on which Prometheus can scrape. Anyone who can reach it can read task names; see PROMETHEUS_BEARER_TOKEN."),
      { variable: "CE_HOST" },
    ),
    PROMETHEUS_PORT: aliased(integer(9808, 0, 65_535).describe("Port for Prometheus; 0 uses a free port and logs it."), {
      variable: "CE_PORT",
    }),
    PROMETHEUS_BEARER_TOKEN: secret(z.string().min(8, "must be at least 8 characters"))
      .optional()
      .describe("Token that Prometheus has to send (`authorization: credentials` in its scrape settings)."),
    PROMETHEUS_TLS_CERT: z.string().min(1).optional().describe("File with the certificate for HTTPS, in PEM. Requires PROMETHEUS_TLS_KEY."),
    PROMETHEUS_TLS_KEY: z.string().min(1).optional().describe("File with the certificate's key, in PEM."),
    PROMETHEUS_METRIC_PREFIX: aliased(
      z
        .string()
        .max(50, "must be at most 50 characters")
        .regex(/^([A-Za-z_:][A-Za-z0-9_:]*)?$/, "must begin with a letter and contain only letters, digits, underscores and colons")
        .default("celery_")
        .describe("Prefix of every metric's name, in place of `celery_`."),
      { variable: "CE_METRIC_PREFIX" },
    ),
    PROMETHEUS_STATIC_LABELS: aliased(
      list()
        .transform((pairs, context): Readonly<Record<string, string>> => {
          const labels: Record<string, string> = {};
          for (const pair of pairs) {
            const [, name, value] = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(pair) ?? [];
            if (name === undefined || value === undefined || name.startsWith("__") || OWN_LABELS.has(name)) {
              context.addIssue(
                `must be pairs such as env=prod; ${JSON.stringify(pair)} is not one, or its name is used by the metrics themselves`,
              );
              return z.NEVER;
            }
            labels[name] = value;
          }
          return labels;
        })
        .describe("Labels for every metric, such as `env=prod,region=eu`."),
      STATIC_LABEL,
    ),
    PROMETHEUS_BUCKETS: aliased(
      buckets(RUNTIME_BUCKETS).describe(
        "Upper limits of the run time buckets in seconds. With other limits, the histogram starts again at 0.",
      ),
      bucketsAlias("CE_BUCKETS"),
    ),
    PROMETHEUS_QUEUE_WAIT_BUCKETS: aliased(
      buckets(WAIT_BUCKETS).describe("Upper limits of the queue wait time buckets in seconds."),
      bucketsAlias("CE_QUEUE_WAIT_BUCKETS"),
    ),
    PROMETHEUS_DEFAULT_QUEUE: aliased(
      z.string().min(1).default("celery").describe("Queue name for tasks whose queue no event contains (`task_send_sent_event` is off)."),
      { variable: "CE_DEFAULT_QUEUE_NAME" },
    ),
    PROMETHEUS_HOSTNAME_LABEL: aliased(
      z
        .enum(["generic", "host", "worker"])
        .default("generic")
        .describe(
          "Value of the label `hostname` of task metrics: always `generic`, the worker's host, or its full name. `host` and `worker` multiply the number of series by the number of hosts or workers.",
        ),
      GENERIC_HOSTNAME,
      { variable: "CE_GENERIC_HOSTNAME_TASK_SENT_METRIC", advice: "the label hostname of celery_task_sent_total is always generic" },
    ),
    PROMETHEUS_EXCEPTION_LABEL: flag(true).describe("Whether the label `exception` of failures contains the exception's class."),
    PROMETHEUS_CREATED: flag(false).describe(
      "Show when each counter and histogram began, as series whose names end in `_created`, like Prometheus' Python client. Doubles the number of series of counters.",
    ),
    PROMETHEUS_FLOWER_METRICS: flag(false).describe(
      "Show Flower's metrics at `/flower/metrics`. Set `PROMETHEUS_HOSTNAME_LABEL=worker` too, so that their label `worker` contains the worker.",
    ),
    PROMETHEUS_QUEUE_PRIORITIES: flag(false).describe(
      "With a Redis broker, show how many messages of each priority wait in each queue, as `celery_queue_length_by_priority`.",
    ),
    PROMETHEUS_MAX_LABEL_SETS: integer(5_000, 1, 100_000).describe(
      "Largest number of combinations of task name, queue and hostname. Further ones count as `other`.",
    ),
    PROMETHEUS_MAX_EXCEPTIONS: integer(200, 1, 10_000).describe("Largest number of exception classes. Further ones count as `other`."),
    PROMETHEUS_MAX_HOSTNAMES: integer(200, 1, 10_000).describe(
      "Largest number of values of the label `hostname`. Further ones count as `other`.",
    ),
    PROMETHEUS_UNUSED_EXPIRY_SECONDS: duration("age seconds", 30 * DAY_SECONDS, { min: 600 }).describe(
      "How long a combination of name, queue and hostname is shown after its last event. Then its series disappear.",
    ),
    PROMETHEUS_INCOMPLETE_WAIT_MS: duration("wait ms", 10_000, { min: 0 }).describe(
      "How long an event waits for its task's name or queue; then it counts under `unknown`, or the default queue.",
    ),
    PROMETHEUS_WORKER_TIMEOUT_SECONDS: aliased(
      duration("wait seconds", 300, { min: 1 }).describe(
        "How long a worker without a heartbeat counts as up. A worker with a solo pool sends no heartbeat while it runs a task.",
      ),
      orNever("CE_WORKER_TIMEOUT", MAX_WAIT_SECONDS),
    ),
    PROMETHEUS_WORKER_PURGE_SECONDS: aliased(
      duration("age seconds", 3_600, { min: 1 }).describe(
        "How long a worker without a heartbeat is shown as down; then its series disappear.",
      ),
      orNever("CE_PURGE_OFFLINE_WORKER_METRICS", MAX_AGE_SECONDS),
    ),
    PROMETHEUS_OBSERVATION_MAX_AGE_SECONDS: duration("age seconds", 300, { min: 1 }).describe(
      "The age from which an observation of the monitor (queue lengths, workers) is no longer shown.",
    ),
    PROMETHEUS_TASK_EXPIRY_SECONDS: duration("age seconds", 7 * DAY_SECONDS, { min: 60 }).describe(
      "How long a task is kept in Redis after its last event.",
    ),
    PROMETHEUS_ENDED_EXPIRY_SECONDS: duration("age seconds", 3_600, { min: 60 }).describe(
      "How long a task is kept in Redis after it has ended, so that repeated events count only once.",
    ),
  })
  .refine(({ PROMETHEUS_TLS_CERT: cert, PROMETHEUS_TLS_KEY: key }) => (cert === undefined) === (key === undefined), {
    error: "PROMETHEUS_TLS_CERT: PROMETHEUS_TLS_CERT and PROMETHEUS_TLS_KEY are required together.",
  });

export type Config = z.output<typeof Config>;
