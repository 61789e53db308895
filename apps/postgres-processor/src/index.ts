export { postgres } from "./exporter.ts";
