/** Finds the agent to send to. */
import { ConfigError, type Environment, loadConfig, toError } from "@celery-metrics-exporter/runtime";
import { type AgentAddress, agentAddress, describeAddress } from "./agent-address.ts";
import { Config } from "../config.ts";
import { existsSync } from "node:fs";
import { type DatagramTransport, UdpTransport, UnixTransport, loadUnixDatagrams } from "./transports.ts";

const Settings = Config.pick({ DD_AGENT_HOST: true, DD_DOGSTATSD_PORT: true, DD_DOGSTATSD_URL: true });

/**
 * The address that the settings name, also as a URL for messages.
 *
 * @throws {ConfigError} if the settings are wrong.
 */
export function datadogAgent(env: Environment): { readonly address: AgentAddress; readonly description: string } {
  const address = agentAddress(loadConfig(Settings, env));
  return { address, description: describeAddress(address) };
}

// Probes the default addresses for an agent if none is configured.

/** UDP first, because a socket needs an optional package. */
const DEFAULT_ADDRESSES: readonly AgentAddress[] = [
  { kind: "udp", host: "127.0.0.1", port: 8125 },
  { kind: "unix", path: "/var/run/datadog/dsd.socket" },
];

/** An empty line: DogStatsD servers skip it. */
const PROBE = Buffer.from("\n");

/** Error codes of an address at which nothing listens. */
const ABSENT: readonly unknown[] = ["ECONNREFUSED", "ENOENT"];

/** Called with an address at which there may be an agent that this process cannot use, such as a socket without permission. */
export type OnUnusable = (address: AgentAddress, error: Error) => void;

/** The first of `addresses` that accepts a datagram; undefined if none does. */
export async function findAgent(
  addresses: readonly AgentAddress[] = DEFAULT_ADDRESSES,
  onUnusable: OnUnusable = () => {},
): Promise<AgentAddress | undefined> {
  for (const address of addresses) if (await answers(address, onUnusable)) return address;
  return undefined;
}

async function answers(address: AgentAddress, onUnusable: OnUnusable): Promise<boolean> {
  let transport: DatagramTransport | undefined;
  try {
    transport =
      address.kind === "udp" ? new UdpTransport(address) : new UnixTransport({ path: address.path, createSocket: loadUnixDatagrams() });
    await transport.send(PROBE);
    await transport.confirm();
    return true;
  } catch (thrown) {
    const error: Error & { readonly code?: unknown } = toError(thrown);
    // Without the package for sockets, the check above did not look whether the socket exists.
    const isAbsent = error instanceof ConfigError ? address.kind === "unix" && !existsSync(address.path) : ABSENT.includes(error.code);
    if (!isAbsent) onUnusable(address, error);
    return false;
  } finally {
    transport?.close();
  }
}
