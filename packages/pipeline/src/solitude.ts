/** Lets jobs run side by side, except those that have to run alone. */

/** Jobs that run alone wait until all others are done, and those that come after wait for them. */
export class Solitude {
  readonly #running = new Set<Promise<void>>();
  #alone: Promise<void> | undefined;

  /** Runs `task` beside others. */
  async beside<T>(task: () => Promise<T>): Promise<T> {
    while (this.#alone !== undefined) await this.#alone;
    const running = run(task);
    this.#running.add(running.settled);
    try {
      return await running.result;
    } finally {
      this.#running.delete(running.settled);
    }
  }

  /** Runs `task` while nothing else runs. */
  async alone<T>(task: () => Promise<T>): Promise<T> {
    while (this.#alone !== undefined) await this.#alone;
    const running = run(async () => {
      await Promise.all(this.#running);
      return task();
    });
    this.#alone = running.settled;
    try {
      return await running.result;
    } finally {
      this.#alone = undefined;
    }
  }
}

function run<T>(task: () => Promise<T>): { result: Promise<T>; settled: Promise<void> } {
  const result = task();
  return { result, settled: settle(result) };
}

async function settle(result: Promise<unknown>): Promise<void> {
  try {
    await result;
  } catch {
    // Whoever asked for the result gets the error.
  }
}
