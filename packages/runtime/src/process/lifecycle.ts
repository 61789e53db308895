/** Releases the resources of a process once, in reverse order. */
import { toError } from "../errors.ts";
import type { Logger } from "../log/logger.ts";

type Release = () => unknown;

/**
 * Code that acquires a resource registers its release on the next line. `close()` releases the newest first, each exactly once. It continues
 * after failures, and rejects with the first.
 */
export class Lifecycle {
  readonly #releases: { name: string; release: Release }[] = [];
  readonly #logger: Logger;
  #closing: Promise<void> | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /**
   * Registers a release.
   *
   * @throws {Error} if closing has begun, so that a start that still goes on ends here. The resource is released all the same. Register each
   * resource before the next is opened.
   */
  defer(name: string, release: Release): void {
    this.#releases.push({ name, release });
    if (this.#closing === undefined) return;
    this.#closing = this.#closing.finally(() => this.#releaseAll());
    // Whoever closes sees the failure. After that, the log does.
    this.#closing.catch(() => {});
    throw new Error(`${name}: opened while everything was being closed`);
  }

  /** Releases everything. Idempotent. */
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
