export { Config as ReceiverConfig } from "./config.ts";
export { receiver } from "./receiver-role.ts";
export { RedactionConfig, redactionOf } from "./redaction-config.ts";
