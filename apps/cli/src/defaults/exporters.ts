/** Chooses the exporters of the single process if none are set: all, but Datadog's only if there is an agent. */
import { describeConfig, type Environment } from "@celery-metrics-exporter/runtime";
import { datadog, describeAddress, findAgent, type AgentAddress, type OnUnusable } from "datadog-processor";
import { exporters } from "../exporters.ts";
import { isSet, readIfPossible, type Decision } from "./decision.ts";

/** Datadog's own variable for the agent's socket (`DD_DOGSTATSD_URL` takes precedence). */
const SOCKET = "DD_DOGSTATSD_SOCKET";

/** Settings that name an agent. */
export const AGENT_SETTINGS: readonly string[] = ["DD_AGENT_HOST", "DD_DOGSTATSD_URL", "DD_DOGSTATSD_PORT", SOCKET];

/** Settings that show that metrics are wanted. The exporter's other settings, such as `REDIS_URL`, belong to every role. */
const DATADOG_SETTINGS = [
  SOCKET,
  ...describeConfig(datadog.Config)
    .map(({ name }) => name)
    .filter((name) => /^(DD|DATADOG)_/.test(name)),
];

/** Looks for an agent on this machine. */
export type FindAgent = (onUnusable: OnUnusable) => Promise<AgentAddress | undefined>;

/** Whether the user names an agent to send metrics to. */
export function namesAgent(env: Environment): boolean {
  return AGENT_SETTINGS.some((name) => isSet(name, env));
}

/** The environment with the agent's socket as `DD_DOGSTATSD_URL`, if only Datadog's own variable for it is set. */
export function withAgentSocket(env: Environment): Environment {
  const socket = readIfPossible(SOCKET, env);
  return socket === undefined || isSet("DD_DOGSTATSD_URL", env) ? env : { ...env, DD_DOGSTATSD_URL: `unix://${socket}` };
}

/** The environment with every exporter in `EXPORTERS`, if none are set. A receiver alone has fewer by default: it cannot know that their processors run. */
export function withEveryExporter(env: Environment): Environment {
  return isSet("EXPORTERS", env) ? env : { ...env, EXPORTERS: [...exporters.keys()].join(",") };
}

/**
 * The environment with `EXPORTERS`. Datadog is included only if it is configured, or if an agent accepts datagrams at a default address.
 *
 * @param find looks for an agent; tests replace it.
 */
export async function withExporters(
  env: Environment,
  find: FindAgent = (onUnusable) => findAgent(undefined, onUnusable),
): Promise<Decision> {
  if (isSet("EXPORTERS", env) || DATADOG_SETTINGS.some((name) => isSet(name, env))) return { env: withAgentSocket(withEveryExporter(env)) };
  const unusable: string[] = [];
  const agent = await find((address, error) => unusable.push(`${describeAddress(address)}: ${error.message}`));
  if (agent !== undefined) return { env: { ...withEveryExporter(env), DD_DOGSTATSD_URL: describeAddress(agent) } };
  const all = [...exporters.keys()];
  return {
    env: { ...env, EXPORTERS: all.filter((name) => name !== datadog.name).join(",") },
    note: {
      settings: ["EXPORTERS"],
      isInPanel: unusable.length === 0,
      message: `Datadog is off: no agent answers on this machine; to turn it on, set DD_AGENT_HOST=<host> or EXPORTERS=${all.join(",")}`,
      fields: unusable.length === 0 ? {} : { unusable: unusable.join("; ") },
    },
  };
}
