/** Runs the command that the command line names. */
import { CodedError, ConfigError, EXIT_FAILURE, exitWith, toError, withAliases, type Environment } from "@celery-metrics-exporter/runtime";
import { readFileSync } from "node:fs";
import { readArguments, unknown } from "./arguments.ts";
import { PROGRAM, UsageError, callOf, type Command } from "./command.ts";
import { migrate } from "./commands/migrate.ts";
import { query } from "./commands/query.ts";
import { replay } from "./commands/replay.ts";
import { start } from "./commands/start.ts";
import { task, tasks } from "./commands/tasks.ts";
import { user } from "./commands/user.ts";
import { commandHelp, programHelp } from "./help.ts";
import { openTerminal, type Terminal } from "./terminal.ts";

const COMMANDS: readonly Command[] = [start, tasks, task, query, migrate, replay, user];

/** Runs the command that `args` name; if it fails, exits with its exit code. @param commands others for tests. */
export async function runProgram(args: readonly string[], env: Environment, commands = COMMANDS): Promise<void> {
  await exitOnFailure(helpFor(args), () => runCommand(args, env, openTerminal(env), commands));
}

/** Runs a command that is a separate program, in the same way as `runProgram`. */
export async function runAlone(command: Command, args: readonly string[], env: Environment): Promise<void> {
  await exitOnFailure(`${callOf(command)} --help`, () => runWith(command, args, env, openTerminal(env)));
}

/** @param help how to get help on the problem. */
async function exitOnFailure(help: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (thrown) {
    const error = toError(thrown);
    if (error instanceof UsageError) exitWith(error.exitCode, `${PROGRAM}: ${error.message} See ${help}. [${error.code}]`);
    if (error instanceof ConfigError) exitWith(error.exitCode, error.message);
    if (error instanceof CodedError) exitWith(error.exitCode, `${PROGRAM}: ${error.message} [${error.code}]`);
    exitWith(EXIT_FAILURE, `${PROGRAM}: ${error.stack ?? error.message}`);
  }
}

/**
 * Runs the command that the first of `args` names, or shows help.
 *
 * @throws {CodedError} with the exit code for the process.
 */
export async function runCommand(
  [name, ...args]: readonly string[],
  env: Environment,
  terminal: Terminal,
  commands = COMMANDS,
): Promise<void> {
  if (name === "--help" || name === "help") return terminal.write(`${programHelp(commands, widthOf(terminal))}\n`);
  if (name === "--version") return terminal.write(`${version()}\n`);
  if (name === undefined) throw new UsageError("A command is required.");
  const command = commands.find((known) => known.name === name);
  if (command === undefined) throw new UsageError(unknown(name.startsWith("-") ? "option" : "command", name, allWords()));
  await runWith(command, args, env, terminal);
}

async function runWith(command: Command, args: readonly string[], environment: Environment, terminal: Terminal): Promise<void> {
  const invocation = readArguments(command, args, environment);
  if (invocation.options.has("help")) return terminal.write(`${commandHelp(command, widthOf(terminal))}\n`);
  // What commands decide depends on which settings are set.
  const env = withAliases(
    command.settings.flatMap(({ settings }) => settings),
    invocation.env,
  );
  await command.run({ ...invocation, env, terminal });
}

function widthOf({ columns }: Terminal): number {
  return Math.min(columns, 110);
}

/** How to get help on what is wrong with `args`. */
function helpFor([name]: readonly string[]): string {
  const command = COMMANDS.find((known) => known.name === name);
  return `${command === undefined ? PROGRAM : callOf(command)} --help`;
}

function allWords(): string[] {
  return [...COMMANDS.map((command) => command.name), "--help", "--version"];
}

function version(): string {
  const manifest = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string };
  return manifest.version;
}
