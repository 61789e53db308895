/** What a process has acquired, released in reverse order, once. */
import { toError } from "../errors.ts";
import type { Logger } from "../log/logger.ts";

type Release = () => unknown;

/**
 * Whoever acquires something registers its release on the next line. `close()` releases the newest first, each exactly once, goes on past
 * failures, and rejects with the first of them.
 */
export class Lifecycle {
  readonly #releases: { name: string; release: Release }[] = [];
  readonly #logger: Logger;
  #closing: Promise<void> | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Registers a release. Registered while closing, it runs in the same close. */
  defer(name: string, release: Release): void {
    this.#releases.push({ name, release });
  }

  /** Releases everything; safe to call again. */
  close(): Promise<void> {
    this.#closing ??= this.#releaseAll();
    return this.#closing;
  }

  async #releaseAll(): Promise<void> {
    let firstError: Error | undefined;
    for (let entry = this.#releases.pop(); entry !== undefined; entry = this.#releases.pop()) {
      try {
        await entry.release();
        this.#logger.debug({ resource: entry.name }, "released");
      } catch (thrown) {
        const error = toError(thrown);
        firstError ??= error;
        this.#logger.warn({ resource: entry.name, err: error }, "release failed");
      }
    }
    if (firstError !== undefined) throw firstError;
  }
}
