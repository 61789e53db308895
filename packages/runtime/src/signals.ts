/** How a process ends: the only place that calls `process.exit`. */
import { EXIT_FAILURE, toError } from "./errors.ts";
import type { Logger } from "./logger.ts";

/** Signals this soon after the first are the same one: Ctrl-C through `npx pnpm` delivers SIGINT twice, milliseconds apart. */
const SAME_SIGNAL_MS = 1_000;

export interface Shutdown {
  /** Stops taking work and finishes what was begun. */
  readonly drain: () => Promise<void>;
  readonly timeoutMs: number;
  readonly logger: Logger;
}

/**
 * Ends the process on SIGTERM, SIGINT or an error nobody caught: the first of them drains and exits 0 (1 past the deadline, and after an
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
      process.exit(EXIT_FAILURE);
    }, timeoutMs);
    drain().then(
      () => {
        clearTimeout(deadline);
        logger.info("stopped");
        process.exit(exitCode);
      },
      (thrown: unknown) => {
        logger.error({ err: toError(thrown) }, "drain failed");
        process.exit(EXIT_FAILURE);
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

  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => signalled(signal));
  process.on("uncaughtException", (err) => {
    logger.fatal({ err }, "uncaught exception");
    failed("uncaughtException");
  });
  process.on("unhandledRejection", (reason) => {
    logger.fatal({ err: toError(reason) }, "unhandled rejection");
    failed("unhandledRejection");
  });
}

/** Ends the process now, with what it could not do on standard error and nothing else. */
export function exitWith(exitCode: number, message?: string): never {
  if (message !== undefined) process.stderr.write(`${message}\n`);
  process.exit(exitCode);
}
