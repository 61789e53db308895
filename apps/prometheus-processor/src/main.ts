/** The process of the Prometheus exporter. */
import { runProcessor } from "@celery-metrics-exporter/pipeline";
import { prometheus } from "./prometheus.ts";

await runProcessor(prometheus);
