export { Config } from "./config.ts";
export { datadog, defineDatadog } from "./datadog.ts";
export type { Step } from "./exporter.ts";
