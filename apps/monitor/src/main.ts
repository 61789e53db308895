/** The monitor as a process. */
import { runRole } from "@celery-metrics-exporter/runtime";
import { monitor } from "./monitor-role.ts";

await runRole(monitor);
