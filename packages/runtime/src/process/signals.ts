/** Process exit. The only place that calls `process.exit`. */
import { EXIT_FAILURE, toError } from "../errors.ts";
import type { Logger } from "../log/logger.ts";

/** Window in which further signals count as the first: Ctrl-C through `npx pnpm` delivers SIGINT twice, milliseconds apart. */
const SAME_SIGNAL_MS = 1_000;

/** Time limit for flushing the last log lines. */
const LAST_LINES_MS = 500;

export interface Shutdown {
  /** Stops accepting work and finishes the work in progress. */
  readonly drain: () => Promise<void>;
  readonly timeoutMs: number;
  readonly logger: Logger;
}

/**
 * Exits on SIGTERM, SIGINT, SIGHUP (terminal closed) or an uncaught error. The first of these drains and exits with 0, or with 1 if the drain
 * exceeds the deadline or an uncaught error occurred, also during the drain. A second signal exits with 1 at once.
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

/** Exits once the last log lines are written: a slow pipe may still hold them back. */
function exitAfterLogs(exitCode: number): void {
  setTimeout(() => process.exit(exitCode), LAST_LINES_MS);
  process.stdout.write("", () => process.exit(exitCode));
}

/** Exits immediately, with only this message on standard error. */
export function exitWith(exitCode: number, message?: string): never {
  if (message !== undefined) process.stderr.write(`${message}\n`);
  process.exit(exitCode);
}

/** Makes the process exit with a failure once it has nothing left to do. */
export function failAtEnd(): void {
  process.exitCode = EXIT_FAILURE;
}
