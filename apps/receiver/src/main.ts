/** The receiver as a process. */
import { runRole } from "@celery-metrics-exporter/runtime";
import { receiver } from "./receiver-role.ts";

await runRole(receiver);
