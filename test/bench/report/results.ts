/** The latest results of each scenario, for the chart and the test of the documentation. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Machine } from "./machine.ts";
import type { Section } from "./figure.ts";

export const RESULTS_FILE = fileURLToPath(new URL("../../../docs/benchmark/results.json", import.meta.url));

/** By the scenario's name. */
export type Results = Readonly<Record<string, Section & { readonly machine: Machine }>>;

export function readResults(): Results {
  return existsSync(RESULTS_FILE) ? (JSON.parse(readFileSync(RESULTS_FILE, "utf8")) as Results) : {};
}
