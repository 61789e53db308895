/** The exporters that this program can run: one line each. */
import type { ExporterDefinition } from "@celery-metrics-exporter/pipeline";
import { datadog } from "datadog-processor";
import { postgres } from "postgres-processor";

export const exporters: ReadonlyMap<string, ExporterDefinition> = new Map(
  [datadog, postgres].map((definition) => [definition.name, definition as ExporterDefinition]),
);
