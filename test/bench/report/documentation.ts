/** Updates the tables of docs/performance.md and docs/benchmark/results.md with the latest results. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Machine } from "./machine.ts";
import type { Results } from "./results.ts";
import { summaryOf } from "./summary.ts";
import { table } from "./table.ts";

/** Relative to the repository root. */
export const BENCHMARK_PAGES = ["docs/performance.md", "docs/benchmark/results.md"] as const;

/**
 * `<!-- bench cpu -->` to `<!-- /bench -->` contains the table of the scenario of that name; `<!-- summary cpu -->` to `<!-- /summary -->`
 * contains its most important figures.
 */
const BLOCK = /(<!-- (bench|summary) (\w+) -->\n).*?(<!-- \/\2 -->)/gs;

/** The document with the tables of these results; blocks of scenarios that were not run are unchanged. */
export function withTables(document: string, results: Results): string {
  return document.replace(BLOCK, (block: string, ...groups: string[]) => {
    const [opening = "", kind = "", name = "", closing = ""] = groups;
    const section = results[name];
    if (section === undefined) return block;
    const shown = kind === "bench" ? table(section) : summaryOf(name, results);
    return shown === undefined ? block : `${opening}\n${describeMachine(section.machine)}\n\n${shown}\n${closing}`;
  });
}

export function updateDocuments(results: Results): void {
  for (const page of BENCHMARK_PAGES) {
    const file = fileURLToPath(new URL(`../../../${page}`, import.meta.url));
    writeFileSync(file, withTables(readFileSync(file, "utf8"), results));
  }
}

function describeMachine({ date, processor, cores, memoryGiB, node }: Machine): string {
  return `Measured on ${date}: ${processor}, ${cores} cores, ${memoryGiB} GiB, Node.js ${node.replace("v", "")}.`;
}
