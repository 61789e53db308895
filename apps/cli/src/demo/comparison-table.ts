/** The comparison as a table for the terminal. */
import type { Terminal } from "../terminal.ts";
import type { Comparison, ComparisonRow } from "./comparison.ts";
import type { DrainResult } from "./drain.ts";

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

/** The table, and in words what it comes to. */
export function renderResult({ comparison, withoutEnd }: DrainResult, terminal: Terminal): string {
  const { rows, agrees } = comparison;
  const lines = [renderComparison(comparison, terminal), ""];
  for (const [status, tasks] of withoutEnd)
    lines.push(terminal.dim(`${tasks} more came to no end that an event tells of: Celery has them as ${status}.`));
  const compared = sidesOf(rows);
  if (!agrees) lines.push(terminal.red(`${compared} do not agree. The log may say more.`));
  else lines.push(terminal.green(`${compared} agree on ${total(rows, "celery") ?? 0} tasks.`));
  return lines.join("\n");
}

function sidesOf(rows: readonly ComparisonRow[]): string {
  const sides = ["What Celery ran"];
  if (rows.some(({ datadog }) => datadog !== undefined)) sides.push("what Datadog got");
  if (rows.some(({ postgres }) => postgres !== undefined)) sides.push("what Postgres has");
  const last = sides.pop() ?? "";
  return sides.length === 0 ? last : `${sides.join(", ")} and ${last}`;
}

function total(rows: readonly ComparisonRow[], side: "celery" | "datadog" | "postgres"): number | undefined {
  return rows.reduce<number | undefined>((sum, row) => (row[side] === undefined ? sum : (sum ?? 0) + row[side]), undefined);
}

function toCell(count: number | undefined): string {
  return count === undefined ? NOT_ASKED : String(count);
}
