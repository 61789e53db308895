/** What the stages of one exporter share. */
import type { DeadLetters } from "./dead-letter.ts";
import type { DeliveryRules } from "./deliver.ts";
import type { Exporter } from "./exporter.ts";
import type { Holding } from "./holding.ts";
import type { HostFilter } from "./host-filter.ts";
import type { HostMetrics } from "./host-metrics.ts";

export interface Host {
  readonly name: string;
  readonly exporter: Exporter;
  readonly filter: HostFilter;
  readonly deadLetters: DeadLetters;
  readonly metrics: HostMetrics;
  readonly rules: DeliveryRules;
  readonly holding: Holding;
}
