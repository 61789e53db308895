export { describeAddress, type AgentAddress } from "./agent-address.ts";
export { Config } from "./config.ts";
export { datadogAgent } from "./configured-agent.ts";
export { datadog, defineDatadog } from "./datadog.ts";
export type { Step } from "./exporter.ts";
export { findAgent, type OnUnusable } from "./find-agent.ts";
