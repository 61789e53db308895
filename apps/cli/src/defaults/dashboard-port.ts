/** Chooses the dashboard's port in the single process if none is set. */
import { describeConfig, type Environment } from "@celery-metrics-exporter/runtime";
import { dashboard } from "dashboard";
import { createServer } from "node:net";
import { isSet, readIfPossible, type Decision } from "./decision.ts";

const DEFAULT_PORT = Number(describeConfig(dashboard.Config).find(({ name }) => name === "DASHBOARD_PORT")?.defaultValue);

/** The environment with a `DASHBOARD_PORT`: the default port, or a free one if another program uses it. */
export async function withDashboardPort(env: Environment): Promise<Decision> {
  if (isSet("DASHBOARD_PORT", env)) return { env };
  const port = await freePort(DEFAULT_PORT, readIfPossible("DASHBOARD_HOST", env));
  const chosen = { ...env, DASHBOARD_PORT: String(port) };
  if (port === DEFAULT_PORT) return { env: chosen };
  return {
    env: chosen,
    note: {
      settings: ["DASHBOARD_PORT"],
      message: "the dashboard's default port is taken: using a free one",
      fields: { taken: DEFAULT_PORT, port },
    },
  };
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
