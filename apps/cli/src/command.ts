/** A command of the command line. */
import { CodedError, type Environment } from "@celery-metrics-exporter/runtime";
import type { SettingsGroup } from "./settings.ts";
import type { Terminal } from "./terminal.ts";

/** The name of the program, as users type it. */
export const PROGRAM = "celery-metrics-exporter";

/** How users call a command, for usage lines. */
export function callOf({ name, called = `${PROGRAM} ${name}` }: Pick<Command, "name" | "called">): string {
  return called;
}

/** An option that is not a setting. */
export interface CommandOption {
  readonly name: string;
  /** Placeholder for the value in the help; absent if the option takes no value. */
  readonly value?: string;
  readonly description: string;
}

/** What a command was called with. */
export interface Invocation {
  /** The argument that is not an option; undefined if there is none. */
  readonly argument?: string;
  /** Options given, by name; `""` for one that takes no value. */
  readonly options: ReadonlyMap<string, string>;
  /** Settings that were given as options, by variable. */
  readonly settings: Environment;
  /** The environment as it was, without the options. */
  readonly environment: Environment;
  /** The environment overridden by `settings`. */
  readonly env: Environment;
  readonly terminal: Terminal;
}

export interface Command {
  readonly name: string;
  /** How users call it, if it is a separate program. */
  readonly called?: string;
  readonly summary: string;
  /** Longer text for the command's own help. */
  readonly description?: string;
  /** Whether its help starts with an example and the most important settings. */
  readonly startsWithExample?: boolean;
  /** The name of its one, optional argument; undefined if it takes none. */
  readonly argument?: string;
  readonly options: readonly CommandOption[];
  /** The settings it reads; each is also an option. */
  readonly settings: readonly SettingsGroup[];
  /** Resolves when the command is done, or when everything it started is running. */
  run(invocation: Invocation): Promise<void>;
}

/** Exit code for a wrong command line (`EX_USAGE` of BSD `sysexits.h`). */
const EXIT_USAGE = 64;

/** Thrown when a command or option is unknown, or an option lacks its value. */
export class UsageError extends CodedError {
  constructor(message: string) {
    super("ERR_USAGE", message, { exitCode: EXIT_USAGE });
  }
}
