export { Config as ReceiverConfig } from "./config.ts";
export { receiver } from "./receiver-role.ts";
export { RedactionConfig, redactionOf, withRedactionChecked } from "./redaction/redaction.ts";
