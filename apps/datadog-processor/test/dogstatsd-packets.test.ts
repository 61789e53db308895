import * as fc from "fast-check";
import { parseDatagram } from "@celery-metrics-exporter/testkit";
import { describe, expect, it, vi } from "vitest";
import { DogstatsdPackets } from "../src/agent/dogstatsd-packets.ts";
import type { Series } from "../src/metrics/metrics.ts";

function encodePackets(series: readonly Series[], maxPacketBytes: number): Buffer[] {
  return new DogstatsdPackets(maxPacketBytes).encode(series);
}

describe("DogStatsD packets", () => {
  it.each<[string, Series[], string[]]>([
    ["a count", [{ name: "a.b", type: "c", tags: "queue:q", values: [3] }], ["a.b:3|c|#queue:q"]],
    ["a metric without tags", [{ name: "a", type: "d", tags: "", values: [0.5] }], ["a:0.5|d"]],
    ["several values of a series in one line", [{ name: "a", type: "d", tags: "x:y", values: [1, 2.25, 0] }], ["a:1:2.25:0|d|#x:y"]],
    [
      "several series in one packet",
      [
        { name: "a", type: "c", tags: "x:y", values: [1] },
        { name: "b", type: "ms", tags: "x:y", values: [2] },
      ],
      ["a:1|c|#x:y\nb:2|ms|#x:y"],
    ],
    [
      "values without exponents or rounding noise",
      [{ name: "a", type: "h", tags: "", values: [1e-7, 0.1 + 0.2, 123_456_789.25] }],
      ["a:0.0000001:0.3:123456789.25|h"],
    ],
    ["nothing for nothing", [], []],
  ])("write %s", (_, series, packets) => {
    expect(encodePackets(series, 1_432).map(String)).toEqual(packets);
  });

  it("contain nothing of the environment that DD_* describes", () => {
    for (const name of ["DD_ENV", "DD_SERVICE", "DD_VERSION", "DD_TAGS", "DD_ENTITY_ID", "DD_EXTERNAL_ENV", "DD_CARDINALITY"]) {
      vi.stubEnv(name, "exporter:own");
    }
    const packets = encodePackets([{ name: "a", type: "d", tags: "service:shop", values: [1] }], 1_432);
    vi.unstubAllEnvs();
    expect(packets.map(String)).toEqual(["a:1|d|#service:shop"]);
  });

  it("start a new line or a new packet at the limit, and not before", () => {
    const series: Series[] = [{ name: "a", type: "d", tags: "t:é", values: [1, 2, 3, 4] }];
    const [whole] = encodePackets(series, 1_432);
    const size = whole?.length ?? 0;
    expect(encodePackets(series, size)).toHaveLength(1);
    expect(encodePackets(series, size - 1).map(String)).toEqual(["a:1:2:3|d|#t:é", "a:4|d|#t:é"]);
  });

  it("contain every value once, and are valid and within the limit, whatever the series", () => {
    const tags = fc
      .array(fc.constantFrom("queue:q", "task_name:été.✓", "state:success"), { maxLength: 3 })
      .map((some) => [...new Set(some)].join());
    const series = fc.record({
      name: fc.constantFrom("celery.task.run_time", "celery.task.wait_time", "x"),
      type: fc.constantFrom("d" as const, "h" as const, "ms" as const),
      tags,
      values: fc.array(
        fc.integer({ min: 0, max: 1e9 }).map((thousandths) => thousandths / 1_000),
        { minLength: 1, maxLength: 60 },
      ),
    });
    fc.assert(
      fc.property(fc.array(series, { maxLength: 12 }), fc.integer({ min: 100, max: 400 }), (all, limit) => {
        const packets = encodePackets(all, limit);
        for (const packet of packets) expect(packet.length).toBeLessThanOrEqual(limit);
        const read = packets.flatMap((packet) => parseDatagram(packet)).flatMap((line) => (line.kind === "metric" ? line.values : []));
        expect(read).toEqual(all.flatMap(({ values }) => values));
      }),
    );
  });

  it("contain only one line if that exceeds the limit", () => {
    const long: Series = { name: "a", type: "c", tags: `task_name:${"x".repeat(300)}`, values: [1] };
    const packets = encodePackets([long, { name: "b", type: "c", tags: "", values: [1] }], 200);
    expect(packets.map((packet) => packet.length > 200)).toEqual([true, false]);
  });
});
