/** What a command of the command line is. */
import { CodedError, type Environment } from "@celery-metrics-exporter/runtime";
import type { SettingsGroup } from "./settings.ts";
import type { Terminal } from "./terminal.ts";

/** The name of the program, as users type it. */
export const PROGRAM = "celery-metrics-exporter";

/** How users call a command. */
export function callOf({ name, called = `${PROGRAM} ${name}` }: Pick<Command, "name" | "called">): string {
  return called;
}

/** An option that is not a setting. */
export interface CommandOption {
  readonly name: string;
  /** Shown for its value; an option without takes none. */
  readonly value?: string;
  readonly description: string;
}

/** What a command was called with. */
export interface Invocation {
  /** What comes besides options; undefined where nothing does. */
  readonly argument?: string;
  /** Options given, by name; `""` for one that takes no value. */
  readonly options: ReadonlyMap<string, string>;
  /** Settings given as options, by variable. */
  readonly settings: Environment;
  /** What the environment says. */
  readonly environment: Environment;
  /** The environment with `settings` put over it. */
  readonly env: Environment;
  readonly terminal: Terminal;
}

export interface Command {
  readonly name: string;
  /** How users call it, if it is a program of its own. */
  readonly called?: string;
  readonly summary: string;
  /** More than the summary, for the command's own help. */
  readonly description?: string;
  /** Whether its help begins with an example and the settings to know first. */
  readonly startsWithExample?: boolean;
  /** The name of the one argument it takes, if it does; it may be left out. */
  readonly argument?: string;
  readonly options: readonly CommandOption[];
  /** The settings it reads: each is an option too. */
  readonly settings: readonly SettingsGroup[];
  /** Resolves when the command is done, or when what it started runs. */
  run(invocation: Invocation): Promise<void>;
}

/** The command line is wrong (`EX_USAGE` of BSD `sysexits.h`). */
const EXIT_USAGE = 64;

/** Thrown when a command or option is unknown, or an option lacks its value. */
export class UsageError extends CodedError {
  constructor(message: string) {
    super("ERR_USAGE", message, { exitCode: EXIT_USAGE });
  }
}
