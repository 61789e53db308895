/** The comparison as a table for the terminal. */
import { renderColumns } from "../report/columns.ts";
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
  const table = renderColumns([[...HEADER], ...cells, totals], { right: new Set([2, 3, 4]) });
  return table
    .map((line, index) => {
      if (index === 0) return bold(line);
      if (index === table.length - 1) return `${"-".repeat(line.length)}\n${agrees ? green(line) : red(line)}`;
      return rows[index - 1]?.agrees === true ? line : red(line);
    })
    .join("\n");
}

/** The table, and in words what it comes to. */
export function renderResult({ comparison, withoutEnd }: DrainResult, terminal: Terminal): string {
  const { rows, agrees } = comparison;
  const lines = [renderComparison(comparison, terminal), ""];
  for (const [status, tasks] of withoutEnd) lines.push(terminal.dim(`${tasks} more ${withoutEvent(status)}: they are not compared.`));
  const compared = sidesOf(rows);
  if (!agrees) lines.push(terminal.red(`${compared} do not agree. The log may say more.`));
  else lines.push(terminal.green(`${compared} agree on ${total(rows, "celery") ?? 0} tasks.`));
  return lines.join("\n");
}

function withoutEvent(status: string): string {
  return status === "IGNORED" ? "were ignored (celery.exceptions.Ignore), for which Celery sends no event" : `had not ended (${status})`;
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
