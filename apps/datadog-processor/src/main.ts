/** The process of the Datadog exporter. */
import { runProcessor } from "@celery-metrics-exporter/pipeline";
import { datadog } from "./datadog.ts";

await runProcessor(datadog);
