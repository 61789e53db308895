/** Text in columns. */

export interface ColumnsOptions {
  /** Whether a line goes below the first row. */
  readonly rule?: boolean;
  /** Columns that are set to the right, by their place. */
  readonly right?: ReadonlySet<number>;
}

/** One line a row, each column as wide as its widest cell. The first row is the header. */
export function renderColumns(rows: readonly (readonly string[])[], { rule = false, right = new Set() }: ColumnsOptions = {}): string[] {
  const widths = (rows[0] ?? []).map((_, column) => rows.reduce((widest, row) => Math.max(widest, row[column]?.length ?? 0), 0));
  const toLine = (row: readonly string[]): string =>
    widths
      .map((width, column) => (right.has(column) ? (row[column] ?? "").padStart(width) : (row[column] ?? "").padEnd(width)))
      .join("  ")
      .trimEnd();
  const [header = "", ...lines] = rows.map(toLine);
  return [header, ...(rule ? [toLine(widths.map((width) => "-".repeat(width)))] : []), ...lines];
}

/** The text, no longer than `width`; undefined leaves it whole. */
export function clip(text: string, width: number | undefined): string {
  return width === undefined || text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
}
