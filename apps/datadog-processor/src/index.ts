export { describeAddress, type AgentAddress } from "./agent/agent-address.ts";
export { Config } from "./config.ts";
export { datadogAgent } from "./agent/find-agent.ts";
export { datadog, defineDatadog } from "./datadog.ts";
export { findAgent, type OnUnusable } from "./agent/find-agent.ts";
