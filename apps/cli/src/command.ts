/** What a command of the command line is. */
import type { Environment } from "@celery-metrics-exporter/runtime";
import type { SettingsGroup } from "./settings.ts";
import type { Terminal } from "./terminal.ts";

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
