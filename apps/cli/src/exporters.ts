/** The exporters that this program can run: one line each. */
import type { ExporterDefinition } from "@celery-metrics-exporter/pipeline";
import { datadog } from "datadog-processor";
import { postgres } from "postgres-processor";
import { prometheus } from "prometheus-processor";

export const exporters: ReadonlyMap<string, ExporterDefinition> = new Map(
  [datadog, postgres, prometheus].map((definition) => [definition.name, definition as ExporterDefinition]),
);
