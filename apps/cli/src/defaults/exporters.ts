/** Which exporters the single process runs when none are named: Datadog's only where there is an agent. */
import { describeConfig, type Environment } from "@celery-metrics-exporter/runtime";
import { datadog, describeAddress, findAgent, type AgentAddress, type OnUnusable } from "datadog-processor";
import { chosenExporters } from "../roles.ts";
import { isSet, readIfPossible, type Decision } from "./decision.ts";

/** Datadog's own name for the agent's socket (`DD_DOGSTATSD_URL` wins over it). */
const SOCKET = "DD_DOGSTATSD_SOCKET";

/** Any of these names an agent. */
export const AGENT_SETTINGS: readonly string[] = ["DD_AGENT_HOST", "DD_DOGSTATSD_URL", "DD_DOGSTATSD_PORT", SOCKET];

/** Any of these means that metrics are wanted. The rest of its settings, such as `REDIS_URL`, are of every role. */
const DATADOG_SETTINGS = [
  SOCKET,
  ...describeConfig(datadog.Config)
    .map(({ name }) => name)
    .filter((name) => /^(DD|DATADOG)_/.test(name)),
];

/** Looks for an agent on this machine. */
export type FindAgent = (onUnusable: OnUnusable) => Promise<AgentAddress | undefined>;

/** Whether the user names an agent that metrics should go to. */
export function namesAgent(env: Environment): boolean {
  return AGENT_SETTINGS.some((name) => isSet(name, env));
}

/** The environment with the agent's socket as `DD_DOGSTATSD_URL`, where only Datadog's own name for it is set. */
export function withAgentSocket(env: Environment): Environment {
  const socket = readIfPossible(SOCKET, env);
  return socket === undefined || isSet("DD_DOGSTATSD_URL", env) ? env : { ...env, DD_DOGSTATSD_URL: `unix://${socket}` };
}

/**
 * The environment with `EXPORTERS`. Nothing is sent for Datadog unless it is configured, or an agent takes datagrams at a default address.
 *
 * @param find looks for an agent; tests look elsewhere.
 */
export async function withExporters(
  env: Environment,
  find: FindAgent = (onUnusable) => findAgent(undefined, onUnusable),
): Promise<Decision> {
  if (isSet("EXPORTERS", env) || DATADOG_SETTINGS.some((name) => isSet(name, env))) return { env: withAgentSocket(env) };
  const all = chosenExporters(env);
  const unusable: string[] = [];
  const agent = await find((address, error) => unusable.push(`${describeAddress(address)}: ${error.message}`));
  if (agent !== undefined) return { env: { ...env, EXPORTERS: all.join(","), DD_DOGSTATSD_URL: describeAddress(agent) } };
  return {
    env: { ...env, EXPORTERS: all.filter((name) => name !== datadog.name).join(",") },
    note: {
      settings: ["EXPORTERS"],
      isInPanel: unusable.length === 0,
      message: `Datadog is off: no agent answers on this machine. DD_AGENT_HOST=<host> or EXPORTERS=${all.join(",")} switches it on`,
      fields: unusable.length === 0 ? {} : { unusable: unusable.join("; ") },
    },
  };
}
