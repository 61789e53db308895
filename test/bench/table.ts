/** Figures as Markdown tables. */
import { describeGoal, formatNumber, median, meetsGoal, type Figure, type Section } from "./figure.ts";

export function table({ title, note, figures }: Section): string {
  const rows = figures.map(row);
  const header = ["", "unit", "median", "rounds", "goal"];
  const widths = header.map((cell, column) => Math.max(cell.length, ...rows.map((cells) => cells[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  return [`**${title}.** ${note}`, "", line(header), line(widths.map((width) => "-".repeat(width))), ...rows.map(line), ""].join("\n");
}

function row(figure: Figure): string[] {
  const { name, unit, rounds, goal } = figure;
  const met = meetsGoal(figure);
  const wanted = goal === undefined ? "" : `${describeGoal(goal)}${met === true ? "" : " **missed**"}`;
  return [name, unit, formatNumber(median(rounds)), rounds.length > 1 ? rounds.map(formatNumber).join(", ") : "", wanted];
}
