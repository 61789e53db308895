export { Config as DashboardConfig } from "./config.ts";
export { dashboard, dashboardRole } from "./dashboard.ts";
