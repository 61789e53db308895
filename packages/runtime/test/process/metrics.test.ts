import perf_hooks from "node:perf_hooks";
import { describe, expect, it, vi } from "vitest";
import { Metrics } from "../../src/index.ts";

describe("a counter with labels", () => {
  it("starts at 0 for each combination of their values, and keeps its counts when another role adds values", async () => {
    const metrics = new Metrics();
    const ofRole = (exporter: string) =>
      metrics.counter("retries_total", "Retries.", { exporter: [exporter], reason: ["unavailable", "error"] });
    ofRole("datadog").inc({ exporter: "datadog", reason: "error" }, 2);
    ofRole("postgres");
    ofRole("datadog");
    expect((await ofRole("datadog").get()).values.map(({ labels, value }) => [labels.exporter, labels.reason, value])).toEqual([
      ["datadog", "unavailable", 0],
      ["datadog", "error", 2],
      ["postgres", "unavailable", 0],
      ["postgres", "error", 0],
    ]);
  });
});

it("the default metrics wake an idle process up at most once in a while", async () => {
  const watch = vi.spyOn(perf_hooks, "monitorEventLoopDelay");
  const text = await new Metrics().registry.metrics();
  // 10 ms if prom-client chooses.
  for (const [options] of watch.mock.calls) expect(options?.resolution).toBeGreaterThan(60_000);
  expect(watch).toHaveBeenCalled();
  expect(text).toContain("nodejs_eventloop_lag_seconds ");
  expect(text).not.toContain("nodejs_eventloop_lag_p99_seconds");
});
