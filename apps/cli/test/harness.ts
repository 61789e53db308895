/** Runs the built program as a user would. */
import { SHORT_LIVED, startProgram as start, type RunningProgram } from "@celery-metrics-exporter/testkit";
import { fileURLToPath } from "node:url";

export const BIN = fileURLToPath(new URL("../bin/celery-metrics-exporter.js", import.meta.url));

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly folder?: string;
  /** A program other than the built one. */
  readonly program?: string;
}

/** The program on a machine without a Datadog agent. */
export const WITHOUT_AGENT = fileURLToPath(new URL("fixtures/without-agent.mjs", import.meta.url));

/** Starts the program with only the given environment. */
export function startProgram(args: readonly string[], { program = BIN, ...options }: RunOptions = {}): RunningProgram {
  return start(process.execPath, [...SHORT_LIVED, program, ...args], options);
}

/** Runs the program to its end. */
export async function runProgram(
  args: readonly string[],
  options: RunOptions = {},
): Promise<{ exitCode: number | null; output: string; errors: string }> {
  const program = startProgram(args, options);
  const exitCode = await program.exitCode;
  return { exitCode, output: program.output(), errors: program.errors() };
}
