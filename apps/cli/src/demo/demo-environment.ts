/** The settings a demo runs with: the user's, and what a demo needs that they did not set. */
import type { Environment } from "@celery-metrics-exporter/runtime";
import { randomBytes } from "node:crypto";
import { createServer } from "node:net";
import { DEMO_DATABASE_URL, withDatabase } from "../database.ts";

/** Where metrics go is set by any of these (apps/datadog-processor). */
const AGENT_SETTINGS = ["DD_AGENT_HOST", "DD_DOGSTATSD_URL", "DD_DOGSTATSD_PORT"] as const;
const DASHBOARD_PORT = 3000;

/** Whether the user has an agent that metrics should go to. */
export function hasAgent(env: Environment): boolean {
  return AGENT_SETTINGS.some((name) => (env[name] ?? "") !== "");
}

export interface DemoSettings {
  readonly env: Environment;
  /** Where the rows are, for the user. */
  readonly database: string;
  readonly metricPrefix: string;
  /** Unset without the dashboard. */
  readonly dashboardUrl: string | undefined;
}

export interface DemoNeeds {
  /** The port of our sink, when there is no agent. */
  readonly statsdPort: number | undefined;
  readonly withDashboard: boolean;
}

/** Quiet logs; queues of its own, in whichever Redis and RabbitMQ, which go away after it. */
function demoDefaults(id: string): Record<string, string> {
  return {
    LOG_LEVEL: "warn",
    QUEUE_PREFIX: `{cme-demo-${id}}`,
    RABBITMQ_QUEUE: `celery-metrics-exporter-demo-${id}`,
    RABBITMQ_QUEUE_EXPIRES_SECONDS: "60",
  };
}

/** Besides `demoDefaults`: rows in memory, and a free port for the dashboard. */
export async function demoEnvironment(given: Environment, { statsdPort, withDashboard }: DemoNeeds): Promise<DemoSettings> {
  const { env, isEmbedded } = withDatabase(given, DEMO_DATABASE_URL);
  const settings: Record<string, string | undefined> = demoDefaults(randomBytes(4).toString("hex"));
  if (statsdPort !== undefined) settings["DD_DOGSTATSD_URL"] = `udp://127.0.0.1:${statsdPort}`;
  if (withDashboard) settings["DASHBOARD_PORT"] = String(await freePort(DASHBOARD_PORT));
  for (const [name, value] of Object.entries(env)) if (value !== undefined && value !== "") settings[name] = value;
  return {
    env: settings,
    metricPrefix: settings["DATADOG_METRIC_PREFIX"] ?? "celery.",
    database: isEmbedded ? "an embedded PostgreSQL, in memory" : "your PostgreSQL",
    dashboardUrl: withDashboard ? `http://${settings["DASHBOARD_HOST"] ?? "127.0.0.1"}:${settings["DASHBOARD_PORT"]}/` : undefined,
  };
}

/** `preferred` if nobody listens there, else any. */
async function freePort(preferred: number): Promise<number> {
  return (await isFree(preferred)) ?? (await isFree(0)) ?? preferred;
}

function isFree(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => {
      const address = server.address();
      server.close(() => resolve(address !== null && typeof address === "object" ? address.port : undefined));
    });
  });
}
