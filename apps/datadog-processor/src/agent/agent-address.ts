/** The address at which the agent accepts DogStatsD. */
export type AgentAddress =
  | { readonly kind: "udp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

export interface AgentAddressSettings {
  readonly DD_AGENT_HOST: string;
  readonly DD_DOGSTATSD_PORT: number;
  readonly DD_DOGSTATSD_URL?: string | undefined;
}

/** What is wrong with a `DD_DOGSTATSD_URL`; undefined if it is valid. */
export function agentUrlProblem(text: string): string | undefined {
  if (text.startsWith("unix://")) {
    return text.startsWith("unix:///") ? undefined : "a Unix domain socket needs an absolute path, as in unix:///path";
  }
  return text.startsWith("udp://") && URL.canParse(text) && new URL(text).hostname !== ""
    ? undefined
    : "must be udp://host:port or unix:///path";
}

/** The address: `DD_DOGSTATSD_URL`, which must be valid, if it is set, else host and port. */
export function agentAddress(settings: AgentAddressSettings): AgentAddress {
  const { DD_DOGSTATSD_URL: text, DD_AGENT_HOST: host, DD_DOGSTATSD_PORT: port } = settings;
  if (text === undefined) return { kind: "udp", host, port };
  if (text.startsWith("unix://")) return { kind: "unix", path: text.slice("unix://".length) };
  const url = new URL(text);
  return { kind: "udp", host: url.hostname.replace(/^\[|\]$/g, ""), port: url.port === "" ? port : Number(url.port) };
}

/** For logs and messages. */
export function describeAddress(address: AgentAddress): string {
  if (address.kind === "unix") return `unix://${address.path}`;
  return `udp://${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`;
}
