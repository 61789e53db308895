/** How a process ends: the only place that calls `process.exit`. */
import { EXIT_FAILURE, toError } from "../errors.ts";
import type { Logger } from "../log/logger.ts";

/** Signals this soon after the first are the same one: Ctrl-C through `npx pnpm` delivers SIGINT twice, milliseconds apart. */
const SAME_SIGNAL_MS = 1_000;

/** How long a reader of our logs may take for the last lines. */
const LAST_LINES_MS = 500;

export interface Shutdown {
  /** Stops taking work and finishes what was begun. */
  readonly drain: () => Promise<void>;
  readonly timeoutMs: number;
  readonly logger: Logger;
}

/**
 * Ends the process on SIGTERM, SIGINT, SIGHUP (its terminal was closed) or an error nobody caught: the first of them drains and exits 0 (1 past the deadline, and after an
 * error, be it during the drain), a second signal exits 1 at once.
 */
export function exitOnSignals({ drain, timeoutMs, logger }: Shutdown): void {
  let draining = false;
  let exitCode = 0;
  let firstSignalAt: number | undefined;

  const end = (reason: string): void => {
    if (draining) return;
    draining = true;
    logger.info({ reason, timeoutMs }, "draining");
    const deadline = setTimeout(() => {
      logger.error({ timeoutMs }, "drain did not finish in time, exiting");
      exitAfterLogs(EXIT_FAILURE);
    }, timeoutMs);
    drain().then(
      () => {
        clearTimeout(deadline);
        logger.info("stopped");
        return exitAfterLogs(exitCode);
      },
      (thrown: unknown) => {
        logger.error({ err: toError(thrown) }, "drain failed");
        exitAfterLogs(EXIT_FAILURE);
      },
    );
  };

  const signalled = (reason: string): void => {
    firstSignalAt ??= Date.now();
    if (Date.now() - firstSignalAt >= SAME_SIGNAL_MS) {
      logger.warn({ reason }, "second signal, exiting without draining");
      process.exit(EXIT_FAILURE);
    }
    end(reason);
  };
  const failed = (reason: string): void => {
    exitCode = EXIT_FAILURE;
    end(reason);
  };

  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => signalled(signal));
  process.on("uncaughtException", (err) => {
    logger.fatal({ err }, "uncaught exception");
    failed("uncaughtException");
  });
  process.on("unhandledRejection", (reason) => {
    logger.fatal({ err: toError(reason) }, "unhandled rejection");
    failed("unhandledRejection");
  });
}

/** A pipe that is read slowly may still hold the last lines. */
function exitAfterLogs(exitCode: number): void {
  setTimeout(() => process.exit(exitCode), LAST_LINES_MS);
  process.stdout.write("", () => process.exit(exitCode));
}

/** Ends the process now, with what it could not do on standard error and nothing else. */
export function exitWith(exitCode: number, message?: string): never {
  if (message !== undefined) process.stderr.write(`${message}\n`);
  process.exit(exitCode);
}

/** Has the process exit with a failure once it has nothing left to do. */
export function failAtEnd(): void {
  process.exitCode = EXIT_FAILURE;
}
