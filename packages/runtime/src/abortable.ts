/** Abortable waits. */

/** Settles like the promise, or rejects with the signal's reason if the abort comes first. Does not cancel the underlying work. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const ended = new AbortController();
  const aborted = new Promise<never>((_resolve, reject) => {
    const abort = (): void => reject(signal.reason as Error);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true, signal: ended.signal });
  });
  try {
    return await Promise.race([aborted, promise]);
  } finally {
    ended.abort();
  }
}
