/** Runs the built program as a user would. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export const BIN = fileURLToPath(new URL("../bin/celery-metrics-exporter.js", import.meta.url));

export interface RunningProgram {
  readonly pid: number;
  /** Standard output so far. */
  output(): string;
  errors(): string;
  signal(name: NodeJS.Signals): void;
  readonly exitCode: Promise<number | null>;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly folder?: string;
  /** Another program than the built one. */
  readonly program?: string;
}

/** The program on a machine without a Datadog agent. */
export const WITHOUT_AGENT = fileURLToPath(new URL("fixtures/without-agent.mjs", import.meta.url));

/** Starts the program with nothing in its environment but what is given. */
export function startProgram(args: readonly string[], { env = {}, folder, program = BIN }: RunOptions = {}): RunningProgram {
  const child = spawn(process.execPath, [program, ...args], {
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", "pipe"],
    ...(folder !== undefined && { cwd: folder }),
  });
  let output = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
  return {
    pid: child.pid ?? 0,
    output: () => output,
    errors: () => errors,
    signal: (name) => void child.kill(name),
    exitCode: once(child, "close").then(([code]) => code as number | null),
  };
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
