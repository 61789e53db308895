/** Reads this process's own metrics. */
import { METRIC_PREFIX, type Metrics } from "@celery-metrics-exporter/runtime";

interface Value {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number | undefined>>;
  readonly metricName?: string;
}

/** The sum of a metric's values over all labels; undefined if the metric does not exist yet. */
export async function readMetric(metrics: Metrics, name: string, suffix = ""): Promise<number | undefined> {
  const values = await readValues(metrics, name);
  const wanted = values?.filter(({ metricName }) => suffix === "" || metricName === METRIC_PREFIX + name + suffix);
  return wanted?.reduce((sum, { value }) => sum + value, 0);
}

/** A metric's values with their labels; undefined if the metric does not exist yet. */
export async function readValues(metrics: Metrics, name: string): Promise<readonly Value[] | undefined> {
  const metric = metrics.registry.getSingleMetric(METRIC_PREFIX + name);
  if (metric === undefined) return undefined;
  const { values } = (await metric.get()) as { values: Value[] };
  return values;
}
