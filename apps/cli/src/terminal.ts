/** Writes to the terminal, and reports what it can show. */
import { failAtEnd, type Environment } from "@celery-metrics-exporter/runtime";
import { PROGRAM } from "./command.ts";

type Style = (text: string) => string;

export interface Terminal {
  /** Whether lines can be redrawn in place. */
  readonly isInteractive: boolean;
  readonly columns: number;
  readonly bold: Style;
  readonly dim: Style;
  readonly green: Style;
  readonly red: Style;
  readonly yellow: Style;
  /** Never throws. Writes nothing more once the output is closed or full: the command continues. */
  write(text: string): void;
}

/** Standard output. Uses colors only on a terminal that supports them, and never with `NO_COLOR` (no-color.org). */
export function openTerminal(env: Environment): Terminal {
  reportLostOutput();
  const isInteractive = process.stdout.isTTY && env["TERM"] !== "dumb";
  const hasColours = isInteractive && (env["NO_COLOR"] ?? "") === "";
  const style = (on: number, off: number): Style => (hasColours ? (text) => `\u001b[${on}m${text}\u001b[${off}m` : (text) => text);
  return {
    isInteractive,
    get columns() {
      // The width is 0 if the terminal does not know its size, as in some containers.
      return Math.max(40, process.stdout.columns || 100);
    },
    bold: style(1, 22),
    dim: style(2, 22),
    green: style(32, 39),
    red: style(31, 39),
    yellow: style(33, 39),
    write: (text) => {
      if (process.stdout.errored === null) process.stdout.write(text);
    },
  };
}

/**
 * Without a listener, an error would end the process with a stack trace. If the reader has closed the pipe, as `head` does, it has what it
 * needs. Any other lost output is a failure, reported after the command has done its work.
 */
function reportLostOutput(): void {
  process.stdout.once("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") return;
    failAtEnd();
    process.stderr.write(`${PROGRAM}: Cannot write to standard output (${error.message}).\n`);
  });
  process.stdout.on("error", () => {});
  process.stderr.on("error", () => {});
}
