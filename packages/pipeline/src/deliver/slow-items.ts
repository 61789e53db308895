/** What a process knows of items that take a sink longer than its time limit. */
import { backoffMs } from "@celery-metrics-exporter/runtime";
import { keyOf, type Likeness } from "./evidence.ts";

/** An item that took too long alone. */
interface TookTooLong {
  /** When the delivery began in which it was found. */
  readonly since: number;
  readonly dueAt: number;
  /** How often it was tried while the sink served others. */
  readonly tries: number;
}

/** What became of a try. */
interface Timeout {
  readonly error: Error;
  readonly tookMs: number;
  /** When the delivery began. */
  readonly since: number;
}

/** Between two tries of an item. */
const RETRY = { firstMs: 1_000, maxMs: 300_000 };
/** Tries of slow items may take a tenth of the time of one batch. */
const PAUSE_FOR_TIME = 9;
/** More take no memory: they are found again. */
const MOST_ITEMS = 10_000;

/**
 * An item is slow if the sink served others since it took too long: otherwise it is the sink that is slow. Slow items are tried alone, at growing
 * intervals, one after the other, and all items of a subject wait with the one that was found.
 */
export class SlowItems<T> {
  readonly #likeness: Likeness<T>;
  readonly #now: () => number;
  /** By subject. */
  readonly #items = new Map<string, TookTooLong>();
  #servedAt = Number.NEGATIVE_INFINITY;
  /** When the next may be tried, whichever it is. */
  #nextAt = Number.NEGATIVE_INFINITY;
  #isTrying = false;
  #lastError: Error | undefined;

  /** @param now milliseconds, monotonic. */
  constructor(likeness: Likeness<T>, now: () => number = () => performance.now()) {
    this.#likeness = likeness;
    this.#now = now;
  }

  /** Whether any is known. */
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

  /** The sink took these. */
  gotThrough(items: readonly T[]): void {
    this.#servedAt = this.#now();
    if (!this.isAny) return;
    for (const item of items) {
      // The others may get through now too.
      if (this.#items.delete(this.#keyOf(item))) this.#nextAt = this.#servedAt;
    }
  }

  /** It took too long, alone. */
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

  /** Those that are slow, and the others. */
  partition(items: readonly T[]): [slow: readonly T[], others: readonly T[]] {
    if (!this.isAny) return [[], items];
    const [slow, others]: [T[], T[]] = [[], []];
    for (const item of items) (this.isSlow(item) ? slow : others).push(item);
    return [slow, others];
  }

  /** Whether a slow item may be tried again now; if so, no other may until `release`. */
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
