/** Errors with a stable code, and the exit codes they cause (BSD `sysexits.h`). */

export const EXIT_FAILURE = 1;
/** A required service is unavailable (`EX_UNAVAILABLE`). */
export const EXIT_UNAVAILABLE = 69;
/** The configuration is invalid (`EX_CONFIG`). */
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

/** Thrown when the configuration is invalid. Lists every problem. */
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
 * Thrown when a dependency (broker, Redis, database, agent) is unreachable or temporarily unavailable. The data is never the cause: the
 * caller waits and retries, without limit once the process has started.
 */
export class UnavailableError extends CodedError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("ERR_UNAVAILABLE", message, { ...options, exitCode: EXIT_UNAVAILABLE });
  }
}

/** Thrown when a dependency aborts a request after a time limit: it is overloaded, or the request is slow. */
export class TimedOutError extends UnavailableError {}

/**
 * Thrown by an exporter when the data is at fault, so retries cannot help. The host splits the batch until the bad event is alone. It moves
 * that event to the dead-letter queue once similar events have got through, which is the evidence that the event is at fault.
 */
export class PermanentError extends CodedError {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("ERR_EVENT_REFUSED", message, options);
  }
}

/** Converts a thrown value to an `Error`. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
