/** Rows of a query, for people and for programs. */
import type { SelectedRows } from "@celery-metrics-exporter/db";
import { clip, renderColumns } from "./columns.ts";

type Row = Readonly<Record<string, unknown>>;

/** No cell is wider on a terminal: tracebacks and arguments can be very long. Nor is a line wider than the terminal. */
const MAX_CELL = 40;
/** People copy ids, so no cell may cut them. A uuid has 36 characters; only other kinds of ids are longer. */
const NEVER_CUT = "task_id";
/** Of averages and the like: PostgreSQL writes sixteen and more. */
const MAX_DECIMALS = 6;
/** Digits of numbers for which so few decimals would be nothing. */
const DIGITS_OF_SMALL = 4;
/** What a double holds exactly. */
const MAX_DIGITS = 15;

/**
 * Columns as wide as what is in them, with a line that counts the rows. Decimal numbers are rounded.
 *
 * @param width of the terminal, where cells are cut; undefined shows them whole.
 */
export function renderTable({ columns, rows }: SelectedRows, width?: number): string {
  const count = `(${rows.length.toLocaleString("en-US")} ${rows.length === 1 ? "row" : "rows"})\n`;
  if (rows.length === 0) return count;
  const cells = rows.map((row) => columns.map(({ name, isDecimal }) => toCell(name, isDecimal, row[name], width)));
  const lines = renderColumns([columns.map(({ name }) => name), ...cells], { rule: true });
  return `${lines.map((line) => clip(line, width)).join("\n")}\n${count}`;
}

/** One object a line. */
export function renderJson(rows: readonly Row[]): string {
  return rows.map((row) => `${JSON.stringify(plainRow(row), plain)}\n`).join("");
}

function toCell(name: string, isDecimal: boolean, value: unknown, width: number | undefined): string {
  const known = plainValue(value);
  const text = known === null || known === undefined ? "" : typeof known === "string" ? known : JSON.stringify(known, plain);
  // Control characters could do anything to a terminal.
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

/** Values that JSON does not know, as PostgreSQL writes them. */
function plainValue(value: unknown): unknown {
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString("hex")}`;
  return plain("", value);
}

/** A replacer for `JSON.stringify`. */
function plain(_name: string, value: unknown): unknown {
  return typeof value === "bigint" || (typeof value === "number" && !Number.isFinite(value)) ? String(value) : value;
}
