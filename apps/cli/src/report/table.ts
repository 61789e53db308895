/** Formats the rows of a query, for people and for programs. */
import type { SelectedRows } from "@celery-metrics-exporter/db";
import { clip, renderColumns } from "./columns.ts";

type Row = Readonly<Record<string, unknown>>;

/** The widest cell on a terminal: tracebacks and arguments can be very long. Lines are never wider than the terminal. */
const MAX_CELL = 40;
/** A column that is never cut, because people copy ids. A uuid has 36 characters; only other kinds of ids are longer. */
const NEVER_CUT = "task_id";
/** Decimals of averages and similar values, for which PostgreSQL writes sixteen or more. */
const MAX_DECIMALS = 6;
/** Digits of numbers that are too small for that many decimals. */
const DIGITS_OF_SMALL = 4;
/** The decimal digits that a double holds exactly. */
const MAX_DIGITS = 15;

/**
 * Columns as wide as their content, and a line with the number of rows. Decimal numbers are rounded.
 *
 * @param width of the terminal, at which cells are cut; undefined shows them whole.
 */
export function renderTable({ columns, rows }: SelectedRows, width?: number): string {
  const count = `(${rows.length.toLocaleString("en-US")} ${rows.length === 1 ? "row" : "rows"})\n`;
  if (rows.length === 0) return count;
  const cells = rows.map((row) => columns.map(({ name, isDecimal }) => toCell(name, isDecimal, row[name], width)));
  const lines = renderColumns([columns.map(({ name }) => name), ...cells], { rule: true });
  return `${lines.map((line) => clip(line, width)).join("\n")}\n${count}`;
}

/** One JSON object per line. */
export function renderJson(rows: readonly Row[]): string {
  return rows.map((row) => `${JSON.stringify(plainRow(row), plain)}\n`).join("");
}

function toCell(name: string, isDecimal: boolean, value: unknown, width: number | undefined): string {
  const known = plainValue(value);
  const text = known === null || known === undefined ? "" : typeof known === "string" ? known : JSON.stringify(known, plain);
  // Control characters could change the state of the terminal.
  const line = (isDecimal ? rounded(text) : text).replace(/\p{Cc}+/gu, " ");
  return clip(line, width === undefined || name === NEVER_CUT ? undefined : MAX_CELL);
}

function rounded(text: string): string {
  const [, whole = "", decimals = ""] = /^-?(\d+)\.(\d+)$/.exec(text) ?? [];
  if (decimals.length <= MAX_DECIMALS || whole.length + MAX_DECIMALS > MAX_DIGITS) return text;
  const value = Number(text);
  if (value !== 0 && Math.abs(value) < 10 ** (DIGITS_OF_SMALL - MAX_DECIMALS - 1))
    return String(Number(value.toPrecision(DIGITS_OF_SMALL)));
  return value.toFixed(MAX_DECIMALS);
}

function plainRow(row: Row): Row {
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, plainValue(value)]));
}

/** Values that JSON cannot represent, written as PostgreSQL writes them. */
function plainValue(value: unknown): unknown {
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString("hex")}`;
  return plain("", value);
}

/** A replacer for `JSON.stringify`. */
function plain(_name: string, value: unknown): unknown {
  return typeof value === "bigint" || (typeof value === "number" && !Number.isFinite(value)) ? String(value) : value;
}
