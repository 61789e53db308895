/** Settings of the Datadog exporter. `DD_*` are Datadog's own names, which every DogStatsD client supports. */
import { BaseConfig, RedisConfig, duration, flag, integer, list } from "@celery-metrics-exporter/runtime";
import { z } from "zod";
import { agentUrlProblem } from "./agent/agent-address.ts";

/** Limit that lets a line with the longest tags of a task fit a packet. */
const MAX_TAGS_BYTES = 300;

const DAY_SECONDS = 86_400;

export const Config = z.object({
  ...RedisConfig.shape,
  ...BaseConfig.pick({ QUEUE_PREFIX: true, STARTUP_TIMEOUT_SECONDS: true }).shape,
  DD_AGENT_HOST: z.string().min(1).default("127.0.0.1").describe("Host of the Datadog agent that accepts DogStatsD over UDP."),
  DD_DOGSTATSD_PORT: integer(8125, 1, 65_535).describe("UDP port of the agent's DogStatsD server."),
  DD_DOGSTATSD_URL: z
    .string()
    .superRefine((text, context) => {
      const problem = agentUrlProblem(text);
      if (problem !== undefined) context.addIssue(problem);
    })
    .optional()
    .describe(
      "Address at which the agent accepts DogStatsD: `udp://host:port`, or `unix:///path` for a Unix domain socket (needs the package unix-dgram). Takes precedence over host and port.",
    ),
  DATADOG_METRIC_PREFIX: z
    .string()
    .max(50, "must be at most 50 characters")
    .regex(/^([A-Za-z][A-Za-z0-9_.]*)?$/, "must begin with a letter and contain only letters, digits, underscores and dots")
    .default("celery.")
    .describe("Prefix of every metric's name."),
  DATADOG_TAGS: list()
    .refine((tags) => Buffer.byteLength(tags.join()) <= MAX_TAGS_BYTES, `must be at most ${MAX_TAGS_BYTES} bytes`)
    .describe(
      "Tags for every metric, such as `env:prod,service:shop`. `DD_TAGS` and `DD_SERVICE` are not used, because they describe this process.",
    ),
  DATADOG_TIMER_TYPE: z
    .enum(["distribution", "histogram", "timing"])
    .default("distribution")
    .describe("Type of run_time and wait_time. Distributions and histograms are in seconds, timings in milliseconds."),
  DATADOG_TAG_WORKER: flag(false).describe(
    "Tag each metric with the worker's name. Multiplies the number of custom metrics by the number of workers.",
  ),
  DATADOG_TAG_EXCEPTION: flag(false).describe("Tag fail_count with the exception's class."),
  DATADOG_GRACE_MS: duration("wait ms", 2_000, { min: 0 }).describe(
    "How long after a task's end its metrics are sent, so that late events can still arrive.",
  ),
  DATADOG_INCOMPLETE_WAIT_MS: duration("wait ms", 60_000, { min: 0 }).describe(
    "How long a finished task is postponed while its name or its start is missing. After that it is sent without them. If only the end of a terminated run is missing, it is postponed for at most 10 s.",
  ),
  DATADOG_MAX_AGE_SECONDS: duration("age seconds", 0, { min: 0 }).describe(
    "Tasks that ended longer ago than this are not sent, because Datadog would show them at the current time. They are only counted, in `datadog_completions_expired_total`. 0 sends all tasks.",
  ),
  DATADOG_LEASE_MS: duration("wait ms", 30_000, { min: 100 }).describe(
    "How long a job owns the tasks that it has claimed. It renews this lease while it sends them.",
  ),
  DATADOG_GAUGE_INTERVAL_MS: duration("wait ms", 10_000, { min: 100 }).describe(
    "Interval at which one of the processors sends the gauges of workers and queues. An agent keeps only the last value in each 10 s.",
  ),
  DATADOG_WORKER_TIMEOUT_SECONDS: duration("wait seconds", 300, { min: 1 }).describe(
    "How long a worker without a heartbeat counts as online. A worker with a solo pool sends no heartbeat while it runs a task.",
  ),
  DATADOG_WORKER_PURGE_SECONDS: duration("age seconds", 3_600, { min: 1 }).describe(
    "How long a worker without a heartbeat is sent as 0; then its gauges are no longer sent.",
  ),
  DATADOG_OBSERVATION_MAX_AGE_SECONDS: duration("age seconds", 300, { min: 1 }).describe(
    "The age from which an observation of the monitor (queue lengths, consumers) is no longer sent.",
  ),
  DATADOG_TASK_EXPIRY_SECONDS: duration("age seconds", 7 * DAY_SECONDS, { min: 60 }).describe(
    "How long a task is kept in Redis after its last event, or its ETA.",
  ),
  DATADOG_SENT_EXPIRY_SECONDS: duration("age seconds", 3_600, { min: 60 }).describe(
    "How long a task is kept in Redis after it was sent, so that repeated events count only once.",
  ),
  DATADOG_MAX_PACKET_BYTES: integer(0, 0, 65_000).describe("Largest datagram; 0 means 1,432 over UDP and 8,192 over a Unix domain socket."),
  DATADOG_MAX_PACKETS_PER_SECOND: integer(300, 1).describe(
    "Maximum number of datagrams per second over UDP. A busy agent silently loses what its receive buffer cannot hold.",
  ),
});

export type Config = z.output<typeof Config>;
