export { Config as DashboardConfig } from "./config.ts";
export { dashboard } from "./dashboard.ts";
