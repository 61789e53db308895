/** Looks for an agent where one listens unless it was configured otherwise. */
import type { AgentAddress } from "./agent-address.ts";
import type { DatagramTransport } from "./datagram-transport.ts";
import { UdpTransport } from "./udp-transport.ts";
import { loadUnixDatagrams } from "./unix-dgram.ts";
import { UnixTransport } from "./unix-transport.ts";

/** UDP first: a socket needs an optional package. */
const DEFAULT_ADDRESSES: readonly AgentAddress[] = [
  { kind: "udp", host: "127.0.0.1", port: 8125 },
  { kind: "unix", path: "/var/run/datadog/dsd.socket" },
];

/** An empty line: DogStatsD servers skip it. */
const PROBE = Buffer.from("\n");

/** The first of `addresses` where something takes a datagram; undefined if nothing does. */
export async function findAgent(addresses: readonly AgentAddress[] = DEFAULT_ADDRESSES): Promise<AgentAddress | undefined> {
  for (const address of addresses) if (await answers(address)) return address;
  return undefined;
}

async function answers(address: AgentAddress): Promise<boolean> {
  let transport: DatagramTransport | undefined;
  try {
    transport =
      address.kind === "udp" ? new UdpTransport(address) : new UnixTransport({ path: address.path, createSocket: loadUnixDatagrams() });
    await transport.send(PROBE);
    await transport.confirm();
    return true;
  } catch {
    return false;
  } finally {
    transport?.close();
  }
}
