/** The postgres exporter's processor as a process. */
import { runProcessor } from "@celery-metrics-exporter/pipeline";
import { postgres } from "./exporter.ts";

await runProcessor(postgres);
