/** The comparison as a table for the terminal. */
import type { Terminal } from "../terminal.ts";
import type { Comparison, ComparisonRow } from "./comparison.ts";

const HEADER = ["task", "state", "Celery ran", "Datadog got", "Postgres has", ""] as const;
const NOT_ASKED = "-";

export function renderComparison({ rows, agrees }: Comparison, { bold, green, red }: Pick<Terminal, "bold" | "green" | "red">): string {
  const cells = rows.map((row) => [
    row.name,
    row.state,
    ...[row.celery, row.datadog, row.postgres].map(toCell),
    row.agrees ? "" : "differs",
  ]);
  const totals = [
    "all",
    "",
    ...(["celery", "datadog", "postgres"] as const).map((side) => toCell(total(rows, side))),
    agrees ? "" : "differs",
  ];
  const table = [[...HEADER], ...cells, totals];
  const widths = HEADER.map((_, column) => Math.max(...table.map((line) => line[column]?.length ?? 0)));
  const render = (line: readonly string[]): string =>
    line
      .map((cell, column) => (column >= 2 && column <= 4 ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join("  ")
      .trimEnd();
  return table
    .map((line, index) => {
      if (index === 0) return bold(render(line));
      if (index === table.length - 1) return `${"-".repeat(render(line).length)}\n${agrees ? green(render(line)) : red(render(line))}`;
      return rows[index - 1]?.agrees === true ? render(line) : red(render(line));
    })
    .join("\n");
}

function total(rows: readonly ComparisonRow[], side: "celery" | "datadog" | "postgres"): number | undefined {
  return rows.reduce<number | undefined>((sum, row) => (row[side] === undefined ? sum : (sum ?? 0) + row[side]), undefined);
}

function toCell(count: number | undefined): string {
  return count === undefined ? NOT_ASKED : String(count);
}
