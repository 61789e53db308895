/** The settings of a demo: the user's, and those that a demo needs and the user did not set. */
import type { Environment } from "@celery-metrics-exporter/runtime";
import { isSet, readIfPossible, withAgentSocket, withDashboardPort, withDatabase, withWebPort } from "cli";
import { randomBytes } from "node:crypto";

/** The rows are lost when the process exits. */
export const DEMO_DATABASE_URL = "pglite:memory";

export interface DemoSettings {
  readonly env: Environment;
  /** Describes the place of the rows, for the user. */
  readonly database: string;
  /** Whether the rows outlive the demo. */
  readonly keepsRows: boolean;
  readonly metricPrefix: string;
  /** Prefix of the names of all queues of the demo's Celery tasks. No other application uses it. */
  readonly queuePrefix: string;
}

export interface DemoNeeds {
  /** The port of our sink, if there is no agent. */
  readonly statsdPort: number | undefined;
  readonly withDashboard: boolean;
  readonly withWeb: boolean;
}

/**
 * Settings that a demo fixes, because the user's environment may name what their own exporter works on: its own queues in whichever Redis and
 * RabbitMQ, deleted at the end; events as its own worker sends them; a scrape that it can read; no tasks of other applications on the broker.
 */
function ownSettings(id: string): Record<string, string> {
  return {
    QUEUE_PREFIX: `{cme-demo-${id}}`,
    RABBITMQ_QUEUE: `celery-metrics-exporter-demo-${id}`,
    RABBITMQ_QUEUE_EXPIRES_SECONDS: "60",
    EVENT_EXCHANGE: "celeryev",
    PROMETHEUS_METRIC_PREFIX: "celery_",
    PROMETHEUS_BEARER_TOKEN: "",
    PROMETHEUS_TLS_CERT: "",
    PROMETHEUS_TLS_KEY: "",
    CELERY_GLOBAL_KEYPREFIX: "",
    CELERY_FANOUT_PREFIX: "true",
    CELERY_FANOUT_PATTERNS: "both",
    FILTER_EVENT_TYPES_INCLUDE: "",
    FILTER_EVENT_TYPES_EXCLUDE: "",
    FILTER_TASK_NAMES_INCLUDE: "shop.*",
    FILTER_TASK_NAMES_EXCLUDE: "",
    FILTER_QUEUES_INCLUDE: `${queuePrefix(id)}*`,
    FILTER_QUEUES_EXCLUDE: "",
  };
}

/** The names of the settings that a demo does not accept. */
export const OWN_SETTINGS: ReadonlySet<string> = new Set(Object.keys(ownSettings("")));

function queuePrefix(id: string): string {
  return `demo-${id.slice(0, 4)}.`;
}

/** Besides `ownSettings`: no questions to workers, because the broker may be another application's; quiet logs, rows in memory, and free ports for the dashboard, the web page and Prometheus, unless the user sets them. */
export async function demoEnvironment(given: Environment, { statsdPort, withDashboard, withWeb }: DemoNeeds): Promise<DemoSettings> {
  const id = randomBytes(4).toString("hex");
  const { env, note } = withDatabase(withAgentSocket(given), DEMO_DATABASE_URL);
  const keepsRows = note === undefined && readIfPossible("DATABASE_URL", env) !== DEMO_DATABASE_URL;
  const withPort = withDashboard ? (await withDashboardPort(env)).env : env;
  const settings: Record<string, string | undefined> = { ...(withWeb ? (await withWebPort(withPort)).env : withPort) };
  if (!isSet("PROMETHEUS_PORT", env)) settings["PROMETHEUS_PORT"] = "0";
  if (!isSet("LOG_LEVEL", env)) settings["LOG_LEVEL"] = "warn";
  if (!isSet("MONITOR_INSPECT", env)) settings["MONITOR_INSPECT"] = "false";
  if (statsdPort !== undefined) settings["DD_DOGSTATSD_URL"] = `udp://127.0.0.1:${statsdPort}`;
  Object.assign(settings, ownSettings(id));
  for (const name of OWN_SETTINGS) delete settings[`${name}_FILE`];
  return {
    env: settings,
    metricPrefix: readIfPossible("DATADOG_METRIC_PREFIX", settings) ?? "celery.",
    queuePrefix: queuePrefix(id),
    database: keepsRows ? "your PostgreSQL, which keeps them" : "an embedded PostgreSQL, in memory",
    keepsRows,
  };
}

/** An allow-list, because nobody could list all variables that Celery, the servers and the clients of PostgreSQL and Datadog read. */
const KEPT =
  /^(PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|TMP|TEMP|TZ|LANG|LANGUAGE|LC_\w+|TERM|COLORTERM|NO_COLOR|FORCE_COLOR|CI|NODE_\w+|LD_LIBRARY_PATH|DYLD_\w+|PYTHONHOME|VIRTUAL_ENV)$/;

/** An environment without settings: only what any program needs to run and to write to its terminal. */
export function bareEnvironment(env: Environment): Environment {
  return Object.fromEntries(Object.entries(env).filter(([name]) => KEPT.test(name)));
}
