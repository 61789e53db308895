/** What the terminal can show, and writing to it. */
import type { Environment } from "@celery-metrics-exporter/runtime";

type Style = (text: string) => string;

export interface Terminal {
  /** Whether lines can be drawn over. */
  readonly isInteractive: boolean;
  readonly columns: number;
  readonly bold: Style;
  readonly dim: Style;
  readonly green: Style;
  readonly red: Style;
  readonly yellow: Style;
  write(text: string): void;
}

/** Standard output. Colours only on a terminal that knows them, and never with `NO_COLOR` (no-color.org). */
export function openTerminal(env: Environment): Terminal {
  const isInteractive = process.stdout.isTTY && env["TERM"] !== "dumb";
  const hasColours = isInteractive && (env["NO_COLOR"] ?? "") === "";
  const style = (on: number, off: number): Style => (hasColours ? (text) => `\u001b[${on}m${text}\u001b[${off}m` : (text) => text);
  return {
    isInteractive,
    get columns() {
      return Math.max(40, process.stdout.columns ?? 100);
    },
    bold: style(1, 22),
    dim: style(2, 22),
    green: style(32, 39),
    red: style(31, 39),
    yellow: style(33, 39),
    write: (text) => void process.stdout.write(text),
  };
}
