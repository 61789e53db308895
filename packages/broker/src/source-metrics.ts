/** Metrics that every source keeps. */
import type { Metrics } from "@celery-metrics-exporter/runtime";
import type { Broker } from "./source.ts";

export interface SourceState {
  /** Bytes received and not handed over yet. */
  readonly bufferBytes: () => number;
  /** Messages the broker waits to hear of. */
  readonly unacked: () => number;
}

export interface SourceMetrics {
  reconnected(): void;
  /** Events may have been missed, and nobody can know how many. */
  gap(): void;
  dropped(): void;
}

export function sourceMetrics(metrics: Metrics, broker: Broker, state: SourceState): SourceMetrics {
  const labels = { broker };
  const reconnects = metrics.counter("broker_reconnects_total", "Connections to the broker that were lost.", ["broker"]);
  const gaps = metrics.counter("broker_gaps_total", "Interruptions in which events may have been missed.", ["broker"]);
  const dropped = metrics.counter("messages_dropped_total", "Messages dropped because the buffer was full.", ["broker"]);
  for (const counter of [reconnects, gaps, dropped]) counter.inc(labels, 0);
  onScrape(metrics, "broker_buffer_bytes", "Bytes received and not worked on yet.", () => state.bufferBytes());
  onScrape(metrics, "broker_unacked_messages", "Messages received and not acknowledged yet.", () => state.unacked());
  return {
    reconnected: () => reconnects.inc(labels),
    gap: () => gaps.inc(labels),
    dropped: () => dropped.inc(labels),
  };

  function onScrape(registry: Metrics, name: string, help: string, read: () => number): void {
    const gauge = registry.gauge(name, help, ["broker"]);
    Object.assign(gauge, { collect: () => gauge.set(labels, read()) });
  }
}
