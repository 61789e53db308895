/** Our own metrics, in Prometheus form. */
import { MAX_TIMER_MS } from "../config/config.ts";
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";

export const METRIC_PREFIX = "celery_metrics_exporter_";

type LabelValues<L extends string> = Readonly<Record<L, readonly string[]>>;

const NO_LABELS = {};

/** Left out of prom-client's metrics: they need a timer every 10 ms, which costs an idle process more than all its other work. */
const EVENT_LOOP_DELAYS = ["min", "max", "mean", "stddev", "p50", "p90", "p99"];

/**
 * The metrics of this process. Pass names without the prefix, ending in the unit or `total`. A second call with the same name returns the same
 * metric: roles that share a process share it.
 */
export class Metrics {
  readonly registry = new Registry();

  constructor() {
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: MAX_TIMER_MS });
    for (const name of EVENT_LOOP_DELAYS) this.registry.removeSingleMetric(`nodejs_eventloop_lag_${name}_seconds`);
  }

  /**
   * @param labels the values of each label that can occur here. All combinations are there from the start, at 0: `increase()` does not see
   * a series' first value.
   */
  counter<L extends string = never>(name: string, help: string, labels: LabelValues<L> = NO_LABELS as LabelValues<L>): Counter<L> {
    const labelNames = Object.keys(labels) as L[];
    const counter =
      this.#existing<Counter<L>>(name) ?? new Counter({ name: METRIC_PREFIX + name, help, labelNames, registers: [this.registry] });
    if (labelNames.length > 0) for (const combination of combinationsOf(labels)) counter.inc(combination, 0);
    return counter;
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

function combinationsOf<L extends string>(labels: LabelValues<L>): Partial<Record<L, string>>[] {
  let combinations: Partial<Record<L, string>>[] = [{}];
  for (const [label, values] of Object.entries(labels) as [L, readonly string[]][]) {
    combinations = combinations.flatMap((combination) => values.map((value) => ({ ...combination, [label]: value })));
  }
  return combinations;
}
