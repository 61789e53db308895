/** The program `celery-metrics-exporter`. */
import { processEnvironment } from "@celery-metrics-exporter/runtime";
import { runProgram } from "./program.ts";

await runProgram(process.argv.slice(2), processEnvironment());
