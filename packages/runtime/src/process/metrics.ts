/** Our own metrics, in Prometheus form. */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";

export const METRIC_PREFIX = "celery_metrics_exporter_";

/**
 * The metrics of this process. Pass names without the prefix, ending in the unit or `total`. A second call with the same name returns the same
 * metric: roles that share a process share it.
 */
export class Metrics {
  readonly registry = new Registry();

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }

  counter<L extends string = never>(name: string, help: string, labelNames: readonly L[] = []): Counter<L> {
    return this.#existing<Counter<L>>(name) ?? new Counter({ name: METRIC_PREFIX + name, help, labelNames, registers: [this.registry] });
  }

  gauge<L extends string = never>(name: string, help: string, labelNames: readonly L[] = []): Gauge<L> {
    return this.#existing<Gauge<L>>(name) ?? new Gauge({ name: METRIC_PREFIX + name, help, labelNames, registers: [this.registry] });
  }

  histogram<L extends string = never>(name: string, help: string, buckets: number[], labelNames: readonly L[] = []): Histogram<L> {
    return (
      this.#existing<Histogram<L>>(name) ??
      new Histogram({ name: METRIC_PREFIX + name, help, labelNames, buckets, registers: [this.registry] })
    );
  }

  #existing<M>(name: string): M | undefined {
    return this.registry.getSingleMetric(METRIC_PREFIX + name) as M | undefined;
  }
}
