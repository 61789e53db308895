/** Formats text in columns. */

export interface ColumnsOptions {
  /** Whether to draw a line below the first row. */
  readonly rule?: boolean;
  /** Indexes of right-aligned columns. */
  readonly right?: ReadonlySet<number>;
}

/** One line per row; each column is as wide as its widest cell. The first row is the header. */
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

/** The text, cut to `width`; undefined leaves it whole. */
export function clip(text: string, width: number | undefined): string {
  return width === undefined || text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
}
