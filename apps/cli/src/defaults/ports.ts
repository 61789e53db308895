/** Chooses the ports of the single process that are not set: the default port, or a free one if another program uses it. */
import { describeConfig, type ConfigSchema, type Environment } from "@celery-metrics-exporter/runtime";
import { dashboard } from "dashboard";
import { createServer } from "node:net";
import { prometheus } from "prometheus-processor";
import { web } from "web";
import { isSet, readIfPossible, type Decision } from "./decision.ts";

/** The environment with a `DASHBOARD_PORT`. */
export function withDashboardPort(env: Environment): Promise<Decision> {
  const message = "the dashboard's default port is taken: using a free one";
  return withPort(env, { Config: dashboard.Config, port: "DASHBOARD_PORT", host: "DASHBOARD_HOST", message });
}

/** The environment with a `WEB_PORT`. */
export function withWebPort(env: Environment): Promise<Decision> {
  const message = "the default port of the HTTP API is taken: using a free one";
  return withPort(env, { Config: web.Config, port: "WEB_PORT", host: "WEB_HOST", message });
}

/** The environment with a `PROMETHEUS_PORT`. */
export function withPrometheusPort(env: Environment): Promise<Decision> {
  const message = "the default port for Prometheus is taken: using a free one";
  return withPort(env, { Config: prometheus.Config, port: "PROMETHEUS_PORT", host: "PROMETHEUS_HOST", message });
}

interface Port {
  readonly Config: ConfigSchema;
  /** The names of the two settings. */
  readonly port: string;
  readonly host: string;
  /** Says that the default port is taken. */
  readonly message: string;
}

async function withPort(env: Environment, { Config, port: setting, host, message }: Port): Promise<Decision> {
  if (isSet(setting, env)) return { env };
  const preferred = Number(describeConfig(Config).find(({ name }) => name === setting)?.defaultValue);
  const port = await freePort(preferred, readIfPossible(host, env));
  const chosen = { ...env, [setting]: String(port) };
  if (port === preferred) return { env: chosen };
  return { env: chosen, note: { settings: [setting], message, fields: { taken: preferred, port } } };
}

/** `preferred` if it is free, else any free port. */
async function freePort(preferred: number, host = "127.0.0.1"): Promise<number> {
  return (await isFree(preferred, host)) ?? (await isFree(0, host)) ?? preferred;
}

function isFree(port: number, host: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen({ port, host, exclusive: true }, () => {
      const address = server.address();
      server.close(() => resolve(address !== null && typeof address === "object" ? address.port : undefined));
    });
  });
}
