/** From the command line to the command it names. */
import { CodedError, ConfigError, EXIT_FAILURE, exitWith, toError, type Environment } from "@celery-metrics-exporter/runtime";
import { readFileSync } from "node:fs";
import { readArguments, unknown } from "./arguments.ts";
import type { Command } from "./command.ts";
import { demo } from "./commands/demo.ts";
import { migrate } from "./commands/migrate.ts";
import { query } from "./commands/query.ts";
import { replay } from "./commands/replay.ts";
import { start } from "./commands/start.ts";
import { commandHelp, programHelp } from "./help.ts";
import { PROGRAM } from "./program-name.ts";
import { openTerminal, type Terminal } from "./terminal.ts";
import { UsageError } from "./usage-error.ts";

const COMMANDS: readonly Command[] = [start, query, migrate, replay, demo];

/** Runs the command that `args` name, and ends the process with its exit code when it fails. @param commands others for tests. */
export async function runProgram(args: readonly string[], env: Environment, commands = COMMANDS): Promise<void> {
  try {
    await runCommand(args, env, openTerminal(env), commands);
  } catch (thrown) {
    const error = toError(thrown);
    if (error instanceof UsageError) exitWith(error.exitCode, `${PROGRAM}: ${error.message} See ${helpFor(args)}. [${error.code}]`);
    if (error instanceof ConfigError) exitWith(error.exitCode, error.message);
    if (error instanceof CodedError) exitWith(error.exitCode, `${PROGRAM}: ${error.message} [${error.code}]`);
    exitWith(EXIT_FAILURE, `${PROGRAM}: ${error.stack ?? error.message}`);
  }
}

/**
 * Runs the command that the first of `args` names, or shows help.
 *
 * @throws {CodedError} with the exit code the process should end with.
 */
export async function runCommand(
  [name, ...args]: readonly string[],
  env: Environment,
  terminal: Terminal,
  commands = COMMANDS,
): Promise<void> {
  const width = Math.min(terminal.columns, 110);
  if (name === "--help" || name === "help") return terminal.write(`${programHelp(commands, width)}\n`);
  if (name === "--version") return terminal.write(`${version()}\n`);
  if (name === undefined) throw new UsageError("A command is needed.");
  const command = commands.find((known) => known.name === name);
  if (command === undefined) throw new UsageError(unknown(name.startsWith("-") ? "option" : "command", name, allWords()));
  const invocation = readArguments(command, args, env);
  if (invocation.options.has("help")) return terminal.write(`${commandHelp(command, width)}\n`);
  await command.run({ ...invocation, terminal });
}

/** How to get the help that says more about what is wrong with `args`. */
function helpFor([name]: readonly string[]): string {
  const command = COMMANDS.find((known) => known.name === name);
  return [PROGRAM, ...(command === undefined ? [] : [command.name]), "--help"].join(" ");
}

function allWords(): string[] {
  return [...COMMANDS.map((command) => command.name), "--help", "--version"];
}

function version(): string {
  const manifest = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string };
  return manifest.version;
}
