/** What the single process chose because a setting was not set, and how to choose otherwise. */
import { ConfigError, readSetting, type Environment } from "@celery-metrics-exporter/runtime";

export { isSet } from "@celery-metrics-exporter/runtime";

export interface Note {
  /** The settings that were not set: names or prefixes of names. */
  readonly settings: readonly string[];
  /** A static log message. */
  readonly message: string;
  readonly fields: Readonly<Record<string, string | number>>;
  /** Whether the addresses that a terminal shows at startup contain the same information. */
  readonly isInPanel?: boolean;
}

/** The environment after the decision. */
export interface Decision {
  readonly env: Environment;
  /** Undefined if the user set it. */
  readonly note?: Note;
}

/** The error's message. If it names a setting that was chosen here, adds that: the user would look for the setting in vain. */
export function explain(message: string, notes: readonly Note[]): string {
  const decided = notes.filter(({ settings }) => settings.some((name) => message.includes(name)));
  return [message, ...decided.map((note) => `${note.message}.`)].join(" ");
}

/** Undefined also if it cannot be read: the roles' settings report that, with every other problem. */
export function readIfPossible(name: string, env: Environment): string | undefined {
  try {
    return readSetting(name, env);
  } catch (thrown) {
    if (thrown instanceof ConfigError) return undefined;
    throw thrown;
  }
}
