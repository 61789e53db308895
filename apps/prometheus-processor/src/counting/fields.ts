/**
 * The fields of the counts. A field is `<label set>.<code>`:
 *
 *   s r b S V J y   sent, received, started ("begun"), succeeded, revoked, rejected, retried
 *   F<exception>    failed, by the id of the exception's class
 *   t u w           histograms: `t` run times of successes, `u` of failures, `w` waits. `t<limits>:<bucket>` counts the values of one bucket (not those
 *                   below it), and `T<limits>` is their sum in microseconds
 *   m M             time in workers' memory before the start: the number of starts, and their sum in microseconds. Only for Flower's metrics
 *   q<minute>       messages that have waited since that minute, in base 36. A gauge
 *   qP<minute>      messages in workers' memory since that minute. A gauge, only for Flower's metrics
 *
 * `<limits>` is a hash of the buckets' limits. With other limits, a histogram starts anew.
 */
import { createHash } from "node:crypto";
import type { TalliedKind } from "@celery-metrics-exporter/task-store";

export const CODES = {
  sent: "s",
  received: "r",
  started: "b",
  succeeded: "S",
  failed: "F",
  revoked: "V",
  rejected: "J",
  retried: "y",
} as const satisfies Readonly<Record<TalliedKind, string>>;

export const PREFETCH = { count: "m", sum: "M" } as const;

/** With what the codes of gauges begin. */
const GAUGE = "q";
const PREFETCHED = `${GAUGE}P`;
/** How exact gauges are. */
export const MINUTE_SECONDS = 60;

/** The code of messages that wait, or are in workers' memory, since then. In seconds since the epoch. */
export function gaugeCode(state: "waiting" | "prefetched", since: number): string {
  return (state === "waiting" ? GAUGE : PREFETCHED) + Math.floor(since / MINUTE_SECONDS).toString(36);
}

/** What the messages of a field, or of its code alone, do, and since when in seconds since the epoch; undefined for any other field. */
export function readGauge(field: string): { readonly state: "waiting" | "prefetched"; readonly since: number } | undefined {
  const code = field.indexOf(".") + 1;
  if (!field.startsWith(GAUGE, code)) return undefined;
  const state = field.startsWith(PREFETCHED, code) ? "prefetched" : "waiting";
  const minute = field.slice(code + (state === "waiting" ? GAUGE : PREFETCHED).length);
  return { state, since: Number.parseInt(minute, 36) * MINUTE_SECONDS };
}

/** A histogram's fields. */
export class HistogramFields {
  /** Upper limits in seconds, in order, without infinity. */
  readonly limits: readonly number[];
  readonly sum: string;
  readonly #buckets: readonly string[];

  constructor(letter: "t" | "u" | "w", limits: readonly number[]) {
    this.limits = limits;
    const tag = createHash("sha1").update(limits.join()).digest("hex").slice(0, 3);
    this.sum = `${letter.toUpperCase()}${tag}`;
    this.#buckets = [...limits, Infinity].map((_, index) => `${letter}${tag}:${index.toString(36)}`);
  }

  /** @param index from 0; the number of limits for the bucket up to infinity. */
  bucket(index: number): string {
    return this.#buckets[index] ?? "";
  }

  bucketOf(seconds: number): string {
    const index = this.limits.findIndex((limit) => seconds <= limit);
    return this.bucket(index === -1 ? this.limits.length : index);
  }
}
