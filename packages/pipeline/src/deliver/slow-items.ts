/** What a process knows about items that take a sink longer than its time limit. */
import { backoffMs } from "@celery-metrics-exporter/runtime";
import { keyOf, type Likeness } from "./evidence.ts";

/** An item that took too long when it was tried alone. */
interface TookTooLong {
  /** When the delivery that found it began. */
  readonly since: number;
  readonly dueAt: number;
  /** How often it was tried while the sink served others. */
  readonly tries: number;
}

/** A try that took too long. */
interface Timeout {
  readonly error: Error;
  readonly tookMs: number;
  /** When the delivery began. */
  readonly since: number;
}

/** Time between two tries of an item. */
const RETRY = { firstMs: 1_000, maxMs: 300_000 };
/** Length of the pause after a slow try, in lengths of the try. So slow items take a tenth of the time of one batch at most. */
const PAUSE_FOR_TIME = 9;
/** Bounds the memory. Further items are simply found again. */
const MOST_ITEMS = 10_000;

/**
 * An item is slow if the sink has taken others since it took too long; otherwise the sink itself is slow. Slow items are tried alone, one
 * after the other, at growing intervals. All items of a subject wait with the slow one.
 */
export class SlowItems<T> {
  readonly #likeness: Likeness<T>;
  readonly #now: () => number;
  /** By subject. */
  readonly #items = new Map<string, TookTooLong>();
  #servedAt = Number.NEGATIVE_INFINITY;
  /** When the next slow item may be tried, whichever it is. */
  #nextAt = Number.NEGATIVE_INFINITY;
  #isTrying = false;
  #lastError: Error | undefined;

  /** @param now milliseconds, monotonic. */
  constructor(likeness: Likeness<T>, now: () => number = () => performance.now()) {
    this.#likeness = likeness;
    this.#now = now;
  }

  /** Whether any item is known to have taken too long. */
  get isAny(): boolean {
    return this.#items.size > 0;
  }

  get lastError(): Error | undefined {
    return this.#lastError;
  }

  /** Whether the sink has taken anything since then. */
  servedSince(instant: number): boolean {
    return this.#servedAt > instant;
  }

  /** Notes that the sink took these items. */
  gotThrough(items: readonly T[]): void {
    this.#servedAt = this.#now();
    if (!this.isAny) return;
    for (const item of items) {
      // Now the other slow items may get through too.
      if (this.#items.delete(this.#keyOf(item))) this.#nextAt = this.#servedAt;
    }
  }

  /** Notes that an item took too long when it was tried alone. */
  add(item: T, { error, tookMs, since }: Timeout): void {
    this.#lastError = error;
    const key = this.#keyOf(item);
    const known = this.#items.get(key) ?? { since, tries: 0 };
    const now = this.#now();
    const isSlow = this.servedSince(known.since);
    if (isSlow) this.#nextAt = now + PAUSE_FOR_TIME * tookMs;
    this.#items.delete(key);
    this.#items.set(key, { since: known.since, tries: known.tries + (isSlow ? 1 : 0), dueAt: now + backoffMs(known.tries, RETRY) });
    for (const [oldest] of this.#items) {
      if (this.#items.size <= MOST_ITEMS) break;
      this.#items.delete(oldest);
    }
  }

  isSlow(item: T): boolean {
    const known = this.#items.get(this.#keyOf(item));
    return known !== undefined && this.servedSince(known.since);
  }

  /** Separates slow items from the others. */
  partition(items: readonly T[]): [slow: readonly T[], others: readonly T[]] {
    if (!this.isAny) return [[], items];
    const [slow, others]: [T[], T[]] = [[], []];
    for (const item of items) (this.isSlow(item) ? slow : others).push(item);
    return [slow, others];
  }

  /** Whether a slow item may be retried now. If so, no other may until `release`. */
  claim(item: T): boolean {
    const now = this.#now();
    if (this.#isTrying || now < this.#nextAt || now < (this.#items.get(this.#keyOf(item))?.dueAt ?? now)) return false;
    this.#isTrying = true;
    return true;
  }

  release(): void {
    this.#isTrying = false;
  }

  #keyOf(item: T): string {
    return this.#likeness.subjectOf?.(item) ?? keyOf(item);
  }
}
