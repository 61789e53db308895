/** The dashboard as a process. */
import { runRole } from "@celery-metrics-exporter/runtime";
import { dashboard } from "./dashboard.ts";

await runRole(dashboard);
