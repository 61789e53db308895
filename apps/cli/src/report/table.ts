/** Rows of a query, for people and for programs. */

export type Row = Readonly<Record<string, unknown>>;

/** No cell is wider on a terminal: tracebacks and arguments can be very long. Nor is a line wider than the terminal. */
const MAX_CELL = 40;

/**
 * Columns as wide as what is in them, with a line that counts the rows.
 *
 * @param width of the terminal, where cells are cut; undefined shows them whole.
 */
export function renderTable(rows: readonly Row[], width?: number): string {
  const columns = Object.keys(rows[0] ?? {});
  const cells = rows.map((row) => columns.map((column) => toCell(row[column], width)));
  const widths = columns.map((column, index) => Math.max(column.length, ...cells.map((line) => line[index]?.length ?? 0)));
  const toLine = (line: readonly string[]): string => {
    const whole = line.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join("  ");
    return clip(whole.trimEnd(), width);
  };
  const count = `(${rows.length} ${rows.length === 1 ? "row" : "rows"})`;
  if (rows.length === 0) return `${count}\n`;
  return `${[toLine(columns), toLine(widths.map((each) => "-".repeat(each))), ...cells.map(toLine), count].join("\n")}\n`;
}

/** One object a line. */
export function renderJson(rows: readonly Row[]): string {
  return rows.map((row) => `${JSON.stringify(row)}\n`).join("");
}

function toCell(value: unknown, width: number | undefined): string {
  const text = value === null ? "" : typeof value === "string" ? value : JSON.stringify(value);
  // Control characters could do anything to a terminal.
  const line = text.replace(/\p{Cc}+/gu, " ");
  return clip(line, width === undefined ? undefined : MAX_CELL);
}

function clip(text: string, width: number | undefined): string {
  return width === undefined || text.length <= width ? text : `${text.slice(0, width - 1)}…`;
}
