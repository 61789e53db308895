/** Reads the dashboard and the monitors for Datadog as far as the tests need them. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { ROOT, readText } from "../invariants/workspace.ts";

const FOLDER = "dashboards/datadog";

/** A part of a query that reads a metric. */
export interface Read {
  readonly aggregation: string;
  readonly metric: string;
  /** By which it selects or groups, template variables too. */
  readonly tags: readonly string[];
  readonly isAsCount: boolean;
}

export function datadogFiles(): string[] {
  return readdirSync(join(ROOT, FOLDER));
}

export function readDatadog<T>(file: string): T {
  return JSON.parse(readText(`${FOLDER}/${file}`)) as T;
}

/** Every string at the key `query`. */
export function queriesIn(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => (key === "query" && typeof inner === "string" ? [inner] : queriesIn(inner)));
}

/** @throws {SyntaxError} if a metric is not read as we write it. */
export function readsOf(query: string): Read[] {
  const reads = [...query.matchAll(/(\w+):(celery\.[\w.]+)\{([^}]*)\}(?: by \{([^}]*)\})?(\.as_count\(\))?/g)].map(
    ([, aggregation = "", metric = "", scope = "", by = "", asCount]) => ({
      aggregation,
      metric,
      tags: [...scope.split(","), ...by.split(",")].map(tagOf).filter((tag) => !["", "*"].includes(tag)),
      isAsCount: asCount !== undefined,
    }),
  );
  if (reads.length === 0 || reads.length !== [...query.matchAll(/celery\./g)].length) throw new SyntaxError(query);
  return reads;
}

/** `$queue` and `state:success` name the tags `queue` and `state`. */
function tagOf(text: string): string {
  return text.trim().replace(/^\$/, "").replace(/:.*$/, "");
}
