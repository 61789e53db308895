/** Figures as Markdown tables. */
import { describeGoal, formatNumber, median, meetsGoal, type Figure, type Section } from "./figure.ts";

export function table({ title, note, figures }: Section): string {
  return `**${title}.** ${note}\n\n${renderTable([["", "unit", "median", "rounds", "goal"], ...figures.map(row)])}`;
}

/** The first row is the header. */
export function renderTable(rows: readonly (readonly string[])[]): string {
  const [header = [], ...others] = rows;
  const widths = header.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0), 3));
  const line = (cells: readonly string[]): string => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  return [line(header), line(widths.map((width) => "-".repeat(width))), ...others.map(line), ""].join("\n");
}

function row(figure: Figure): string[] {
  const { name, unit, rounds, goal } = figure;
  const met = meetsGoal(figure);
  const wanted = goal === undefined ? "" : `${describeGoal(goal)}${met === true ? "" : " **missed**"}`;
  return [name, unit, formatNumber(median(rounds)), rounds.length > 1 ? rounds.map(formatNumber).join(", ") : "", wanted];
}
