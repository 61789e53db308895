/** Keeps the tables in docs/performance.md what the benchmark measured last. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Machine } from "./machine.ts";
import type { Results } from "./results.ts";
import { table } from "./table.ts";

const PERFORMANCE_DOCUMENT = fileURLToPath(new URL("../../docs/performance.md", import.meta.url));

/** `<!-- bench cpu -->` to `<!-- /bench -->` holds the table of the scenario of that name. */
const BLOCK = /(<!-- bench (\w+) -->\n).*?(<!-- \/bench -->)/gs;

/** The document with the tables of these results; blocks of scenarios that were not run stay as they are. */
export function withTables(document: string, results: Results): string {
  return document.replace(BLOCK, (block, opening: string, name: string, closing: string) => {
    const section = results[name];
    return section === undefined ? block : `${opening}\n${describeMachine(section.machine)}\n\n${table(section)}\n${closing}`;
  });
}

export function updateDocument(results: Results): void {
  writeFileSync(PERFORMANCE_DOCUMENT, withTables(readFileSync(PERFORMANCE_DOCUMENT, "utf8"), results));
}

function describeMachine({ date, processor, cores, memoryGiB, node }: Machine): string {
  return `Measured on ${date}: ${processor}, ${cores} cores, ${memoryGiB} GiB, Node.js ${node.replace("v", "")}.`;
}
