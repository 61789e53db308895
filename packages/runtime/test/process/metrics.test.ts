import { describe, expect, it } from "vitest";
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
