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
 * Ends the process on SIGTERM, SIGINT or an error nobody caught: the first drains and exits 0 (1 after an error or past the deadline), a
 * second signal exits 1 at once.
 */
export function exitOnSignals({ drain, timeoutMs, logger }: Shutdown): void {
  let begunAt: number | undefined;

  const end = (reason: string, exitCode: number): void => {
    if (begunAt !== undefined) {
      if (Date.now() - begunAt < SAME_SIGNAL_MS) return;
      logger.warn({ reason }, "second signal, exiting without draining");
      process.exit(EXIT_FAILURE);
    }
    begunAt = Date.now();
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

  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => end(signal, 0));
  process.on("uncaughtException", (err) => {
    logger.fatal({ err }, "uncaught exception");
    end("uncaughtException", EXIT_FAILURE);
  });
  process.on("unhandledRejection", (reason) => {
    logger.fatal({ err: toError(reason) }, "unhandled rejection");
    end("unhandledRejection", EXIT_FAILURE);
  });
}

/** Ends the process now, with what it could not do on standard error and nothing else. */
export function exitWith(exitCode: number, message?: string): never {
  if (message !== undefined) process.stderr.write(`${message}\n`);
  process.exit(exitCode);
}
