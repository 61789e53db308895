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
  redelivered(): void;
}

export function sourceMetrics(metrics: Metrics, broker: Broker, state: SourceState): SourceMetrics {
  const labels = { broker };
  const reconnects = metrics.counter("broker_reconnects_total", "Connections to the broker that were lost.", ["broker"]);
  const gaps = metrics.counter("broker_gaps_total", "Interruptions in which events may have been missed.", ["broker"]);
  const dropped = metrics.counter("messages_dropped_total", "Messages dropped because the buffer was full.", ["broker"]);
  const again = metrics.counter("messages_redelivered_total", "Messages that RabbitMQ had sent to somebody before.", ["broker"]);
  for (const counter of [reconnects, gaps, dropped, again]) counter.inc(labels, 0);
  const buffered = metrics.gauge("broker_buffer_bytes", "Bytes received and not worked on yet.", ["broker"]);
  const unacked = metrics.gauge("broker_unacked_messages", "Messages received and not acknowledged yet.", ["broker"]);
  Object.assign(buffered, { collect: () => buffered.set(labels, state.bufferBytes()) });
  Object.assign(unacked, { collect: () => unacked.set(labels, state.unacked()) });
  return {
    reconnected: () => reconnects.inc(labels),
    gap: () => gaps.inc(labels),
    dropped: () => dropped.inc(labels),
    redelivered: () => again.inc(labels),
  };
}
