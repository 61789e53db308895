/** Which agent the settings name. */
import { loadConfig, type Environment } from "@celery-metrics-exporter/runtime";
import { agentAddress, describeAddress, type AgentAddress } from "./agent-address.ts";
import { Config } from "./config.ts";

const Settings = Config.pick({ DD_AGENT_HOST: true, DD_DOGSTATSD_PORT: true, DD_DOGSTATSD_URL: true });

/**
 * Where the exporter sends to, also as a URL for messages.
 *
 * @throws {ConfigError} when the settings are wrong.
 */
export function datadogAgent(env: Environment): { readonly address: AgentAddress; readonly description: string } {
  const address = agentAddress(loadConfig(Settings, env));
  return { address, description: describeAddress(address) };
}
