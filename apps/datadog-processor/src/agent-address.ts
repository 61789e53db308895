/** Where the agent takes DogStatsD. */
import { ConfigError } from "@celery-metrics-exporter/runtime";

export type AgentAddress =
  | { readonly kind: "udp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

export interface AgentAddressSettings {
  readonly DD_AGENT_HOST: string;
  readonly DD_DOGSTATSD_PORT: number;
  readonly DD_DOGSTATSD_URL?: string | undefined;
}

/** Reads the address: `DD_DOGSTATSD_URL` where it is set, else host and port. @throws {ConfigError} when the URL names no host or path. */
export function agentAddress(settings: AgentAddressSettings): AgentAddress {
  const { DD_DOGSTATSD_URL: text, DD_AGENT_HOST: host, DD_DOGSTATSD_PORT: port } = settings;
  if (text === undefined) return { kind: "udp", host, port };
  if (text.startsWith("unix://")) {
    const path = text.slice("unix://".length);
    if (!path.startsWith("/")) throw new ConfigError(["DD_DOGSTATSD_URL: a Unix domain socket needs an absolute path, as in unix:///path"]);
    return { kind: "unix", path };
  }
  if (!URL.canParse(text) || new URL(text).hostname === "") {
    throw new ConfigError(["DD_DOGSTATSD_URL: must be udp://host:port or unix:///path"]);
  }
  const url = new URL(text);
  return { kind: "udp", host: url.hostname.replace(/^\[|\]$/g, ""), port: url.port === "" ? port : Number(url.port) };
}

/** For logs and messages. */
export function describeAddress(address: AgentAddress): string {
  if (address.kind === "unix") return `unix://${address.path}`;
  return `udp://${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`;
}
