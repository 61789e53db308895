import { describe, expect, it } from "vitest";
import { chart } from "../bench/report/chart.ts";
import { BENCHMARK_PAGES, withTables } from "../bench/report/documentation.ts";
import { readResults } from "../bench/report/results.ts";
import { readText } from "./workspace.ts";

describe("the documents about the benchmark", () => {
  const results = readResults();

  it.each(BENCHMARK_PAGES)("show the latest results in the tables of %s", (page) => {
    const document = readText(page);
    expect(withTables(document, results)).toBe(document);
  });

  it("are complete: every scenario has its table, and two have a summary", () => {
    const shown = [...readText("docs/benchmark/results.md").matchAll(/<!-- bench (\w+) -->/g)].map(([, name]) => name);
    expect(shown.toSorted()).toEqual(Object.keys(results).toSorted());
    const summed = [...readText("docs/performance.md").matchAll(/<!-- summary (\w+) -->/g)].map(([, name]) => name);
    expect(summed).toEqual(["cpu", "sustained"]);
  });

  it("show the latest results in the picture of the README", () => {
    expect(readText("docs/benchmark/chart.svg")).toBe(chart(results));
    expect(readText("README.md")).toContain("(docs/benchmark/chart.svg)");
  });
});
