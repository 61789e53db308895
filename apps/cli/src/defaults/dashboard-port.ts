/** Which port the dashboard of the single process takes when none is named. */
import { describeConfig, type Environment } from "@celery-metrics-exporter/runtime";
import { dashboard } from "dashboard";
import { freePort } from "./free-port.ts";
import { isSet, readIfPossible, type Decision } from "./decision.ts";

const DEFAULT_PORT = Number(describeConfig(dashboard.Config).find(({ name }) => name === "DASHBOARD_PORT")?.defaultValue);

/** The environment with a `DASHBOARD_PORT`: the default one, or a free one where another program has it. */
export async function withDashboardPort(env: Environment): Promise<Decision> {
  if (isSet("DASHBOARD_PORT", env)) return { env };
  const port = await freePort(DEFAULT_PORT, readIfPossible("DASHBOARD_HOST", env));
  const chosen = { ...env, DASHBOARD_PORT: String(port) };
  if (port === DEFAULT_PORT) return { env: chosen };
  return {
    env: chosen,
    note: {
      settings: ["DASHBOARD_PORT"],
      message: "The dashboard's default port is taken: using a free one",
      fields: { taken: DEFAULT_PORT, port },
    },
  };
}
