import { describe, expect, it } from "vitest";
import { chart } from "../bench/chart.ts";
import { withTables } from "../bench/documentation.ts";
import { readResults } from "../bench/results.ts";
import { readText } from "./workspace.ts";

describe("what the documents say of the benchmark", () => {
  const results = readResults();

  it("is what it measured last: the tables of docs/performance.md", () => {
    const document = readText("docs/performance.md");
    expect(withTables(document, results)).toBe(document);
    const shown = [...document.matchAll(/<!-- bench (\w+) -->/g)].map(([, name]) => name);
    expect(shown.toSorted()).toEqual(Object.keys(results).toSorted());
  });

  it("is what it measured last: the picture in the README", () => {
    expect(readText("docs/benchmark.svg")).toBe(chart(results));
    expect(readText("README.md")).toContain("(docs/benchmark.svg)");
  });
});
