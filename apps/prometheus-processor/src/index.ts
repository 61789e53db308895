export { Config } from "./config.ts";
export { definePrometheus, prometheus } from "./prometheus.ts";
