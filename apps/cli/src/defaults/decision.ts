/** What the single process decided because a setting was not set, and how to decide otherwise. */
import { ConfigError, readSetting, type Environment } from "@celery-metrics-exporter/runtime";

export interface Note {
  /** What was not set: names, or how they begin. */
  readonly settings: readonly string[];
  /** Static, as every log message. */
  readonly message: string;
  readonly fields: Readonly<Record<string, string | number>>;
  /** Whether the addresses at the end of a start on a terminal say the same. */
  readonly isInPanel?: boolean;
}

/** An environment in which that setting is set. */
export interface Decision {
  readonly env: Environment;
  /** Undefined when the user decided. */
  readonly note?: Note;
}

/** The message of an error, and where it names a setting that was decided, that it was: the user would look for it in vain. */
export function explain(message: string, notes: readonly Note[]): string {
  const decided = notes.filter(({ settings }) => settings.some((name) => message.includes(name)));
  return [message, ...decided.map((note) => `${note.message}.`)].join(" ");
}

/** Whether a setting is set, be it by a file. An empty variable counts as not set. */
export function isSet(name: string, env: Environment): boolean {
  return (env[name] ?? "") !== "" || (env[`${name}_FILE`] ?? "") !== "";
}

/** Undefined also where it cannot be read: the roles' settings say so, with every other problem. */
export function readIfPossible(name: string, env: Environment): string | undefined {
  try {
    return readSetting(name, env);
  } catch (thrown) {
    if (thrown instanceof ConfigError) return undefined;
    throw thrown;
  }
}
