/** The role `web` as a process. */
import { runRole } from "@celery-metrics-exporter/runtime";
import { web } from "./web.ts";

await runRole(web);
