export { acceptsDemoArguments } from "./commands/demo.ts";
export { configurationDocument } from "./configuration-document.ts";
export { exporters } from "./exporters.ts";
export { ALL_ROLES } from "./roles.ts";
