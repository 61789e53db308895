/** Reads our own metrics back. */
import { METRIC_PREFIX, type Metrics } from "@celery-metrics-exporter/runtime";

/** The sum of a metric's values over all labels; undefined while there is none. */
export async function readMetric(metrics: Metrics, name: string, suffix = ""): Promise<number | undefined> {
  const metric = metrics.registry.getSingleMetric(METRIC_PREFIX + name);
  if (metric === undefined) return undefined;
  const { values } = (await metric.get()) as { values: { value: number; metricName?: string }[] };
  const wanted = values.filter(({ metricName }) => suffix === "" || metricName === METRIC_PREFIX + name + suffix);
  return wanted.reduce((sum, { value }) => sum + value, 0);
}
