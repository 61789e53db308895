/** What a source is given by the process. */
import type { Health, Logger, Metrics } from "@celery-metrics-exporter/runtime";

export interface SourceContext {
  readonly logger: Logger;
  /** Gets a component named `broker`. */
  readonly health: Health;
  readonly metrics: Metrics;
  /** How long `start` tries. */
  readonly startupTimeoutMs: number;
}
