/** Starts the host of a test exporter in this process, like `runRoles`. */
import { createLogger, startRoles, type ConfigSchema, type RunningRoles } from "@celery-metrics-exporter/runtime";
import { z } from "zod";
import { defineExporter, processorRole, type Exporter, type ExporterContext, type ExporterDefinition } from "../../src/index.ts";

export interface RunningHost extends RunningRoles {
  /** The value of one of our metrics, summed over the label sets that match. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
}

/** An exporter without settings. */
export function exporterOf(name: string, create: (context: ExporterContext<Record<string, unknown>>) => Exporter): ExporterDefinition {
  return defineExporter<ConfigSchema>({ name, Config: z.object({}), create });
}

export async function startHost(definition: ExporterDefinition, env: Readonly<Record<string, string>>): Promise<RunningHost> {
  const running = await startRoles([processorRole(definition)], env, createLogger(definition.name, "silent"));
  const metric: RunningHost["metric"] = async (name, labels = {}) => {
    const found = await running.metrics.registry.getSingleMetric(`celery_metrics_exporter_${name}`)?.get();
    const wanted = Object.entries(labels);
    return (found?.values ?? [])
      .filter((value) => wanted.every(([label, text]) => (value.labels as Readonly<Record<string, unknown>>)[label] === text))
      .reduce((sum, { value }) => sum + value, 0);
  };
  return Object.assign(running, { metric });
}
