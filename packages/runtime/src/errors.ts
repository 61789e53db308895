/** Errors with a stable code, and the exit codes a process ends with because of them (BSD `sysexits.h`). */

export const EXIT_FAILURE = 1;
/** A service that is needed cannot be reached (`EX_UNAVAILABLE`). */
export const EXIT_UNAVAILABLE = 69;
/** The configuration is wrong (`EX_CONFIG`). */
export const EXIT_CONFIG = 78;

/** An error a user may have to act on. `code` is stable and listed in `docs/errors.md`. */
export class CodedError extends Error {
  readonly code: string;
  readonly exitCode: number;

  constructor(code: string, message: string, options: { cause?: unknown; exitCode?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.exitCode = options.exitCode ?? EXIT_FAILURE;
  }
}

/** Thrown when the environment does not make a valid configuration; lists every problem at once. */
export class ConfigError extends CodedError {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super("ERR_CONFIG_INVALID", `Invalid configuration [ERR_CONFIG_INVALID]:\n${problems.map((problem) => `  - ${problem}`).join("\n")}`, {
      exitCode: EXIT_CONFIG,
    });
    this.problems = problems;
  }
}

/**
 * Thrown when something we depend on (broker, Redis, database, agent) cannot be reached or does not serve right now.
 * Never the fault of the data: whoever catches it waits and tries again, for ever once the process has started.
 */
export class UnavailableError extends CodedError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("ERR_UNAVAILABLE", message, { ...options, exitCode: EXIT_UNAVAILABLE });
  }
}

/** Thrown when something we depend on gave up what it was asked for after a time limit: it is overloaded, or what it was asked for is slow. */
export class TimedOutError extends UnavailableError {}

/**
 * Thrown by an exporter when the data itself is at fault, so that no retry can help. The host splits the batch until the bad event is alone,
 * and puts that one into the dead-letter queue if there is evidence that the event is at fault: others like it got through since.
 */
export class PermanentError extends CodedError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("ERR_EVENT_REFUSED", message, options);
  }
}

/** What was thrown, as an Error. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
