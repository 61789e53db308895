import { customEvent, liveHeapBytes, taskStarted } from "@celery-metrics-exporter/celery/testing";
import { Metrics } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { ReceiverMetrics } from "../src/receiver-metrics.ts";

describe("ReceiverMetrics", () => {
  it("counts the events of invented types under one label, and stores no types", async () => {
    const metrics = new Metrics();
    const receiverMetrics = new ReceiverMetrics(metrics, "rabbitmq");
    const before = liveHeapBytes();
    for (let index = 0; index < 50_000; index++) {
      receiverMetrics.received({
        inTime: [customEvent({ type: String(index).padStart(128, "t") }), taskStarted({})],
        future: [],
        rejected: [],
      });
    }
    expect(liveHeapBytes() - before).toBeLessThan(5 * 2 ** 20);
    receiverMetrics.flush();
    receiverMetrics.flush();
    const counter = await metrics.registry.getSingleMetric("celery_metrics_exporter_events_received_total")?.get();
    expect(counter?.values.filter(({ value }) => value > 0).map(({ labels, value }) => [labels["type"], value])).toEqual([
      ["task-started", 50_000],
      ["other", 50_000],
    ]);
  });

  it("takes the lag from the newest event that is not from the future", async () => {
    const metrics = new Metrics();
    const receiverMetrics = new ReceiverMetrics(metrics, "rabbitmq", () => 1_000);
    receiverMetrics.received({ inTime: [taskStarted({ timestamp: 990 })], future: [taskStarted({ timestamp: 90_000 })], rejected: [] });
    receiverMetrics.flush();
    const lag = await metrics.registry.getSingleMetric("celery_metrics_exporter_receiver_lag_seconds")?.get();
    expect(lag?.values.map(({ value }) => value)).toEqual([10]);
    expect(receiverMetrics.eventsTaken).toBe(2);
  });
});
