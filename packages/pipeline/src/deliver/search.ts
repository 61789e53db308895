/** The search of a batch for what is at fault: what has been tried of it, and what is left. */
import type { DeliveryJob } from "./deliver.ts";
import { PermanentError, TimedOutError, UnavailableError, backoffMs, pause, toError } from "@celery-metrics-exporter/runtime";
import { type Drain, GivenBack } from "../host/drain.ts";
import { LetGo } from "../contract/errors.ts";

const SPREAD = 8;

/** Some items of a batch, in their order. */
export interface Part<T> {
  readonly items: readonly T[];
  /** The refused part that this is a piece of. */
  readonly of: RefusedPart<T> | undefined;
}

export interface RefusedPart<T> extends Part<T> {
  /** How many items of each kind had got through by then. */
  readonly takenBefore: ReadonlyMap<string, number>;
  /** How many of its items have not got through, once all its pieces have been tried. */
  left: number;
}

/** An item that was refused alone. */
export interface Suspect<T> extends RefusedPart<T> {
  readonly item: T;
  readonly kind: string;
}

/** One batch, while it is searched for what is at fault. */
export interface Search<T> {
  readonly job: DeliveryJob;
  readonly beganAt: number;
  /** Whether what gets through now gets through for the first time. */
  readonly isFresh: boolean;
  readonly send: (items: readonly T[], tries: Tries) => Promise<Failure | undefined>;
  /** What is to be tried. The last part is the next: items go in their order, so that each meets in the sink what it would have met there. */
  readonly open: Part<T>[];
  readonly suspects: Suspect<T>[];
  /** Items of kinds that are refused. */
  readonly untried: T[];
  /** Items that were tried alone to learn whether any of their kind gets through. */
  looks: number;
  /** Single items of a kind that were refused in a row. */
  readonly refusals: Map<string, number>;
  firstError: Error | undefined;
  /** Items that are slow or may be, those that were not tried first. */
  readonly slow: T[];
  firstTimeout: Error | undefined;
  limited: boolean;
}

/** Items that were refused alone so far, and those of kinds that are refused. */
export function refusedIn<T>({ suspects, untried }: Search<T>): T[] {
  return [...suspects.map(({ item }) => item), ...untried];
}

export function inParts<T>(items: readonly T[], size: number): (readonly T[])[] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) => items.slice(index * size, (index + 1) * size));
}

/** Every so many of them, again and again: those beside each other are often alike. */
export function spread<T>(parts: readonly T[]): T[] {
  return Array.from({ length: SPREAD }, (_, offset) => parts.filter((__, index) => index % SPREAD === offset)).flat();
}

/** Items of this part, and of those it is a piece of, have not got through. */
export function addLeft<T>(of: RefusedPart<T> | undefined, count: number): void {
  for (let part = of; part !== undefined; part = part.of) part.left += count;
}

// Tries again what fails, as long as there is a point in it.

/** Why an item could not be delivered. */
export interface Failure {
  /** `refused`: the exporter threw `PermanentError`. `slow`: `TimedOutError` at every try. `failed`: something else at every try. */
  readonly reason: "refused" | "failed" | "slow";
  readonly error: Error;
}

/** Runs one try of a job's delivery, beside those of other jobs or alone. */
export type Attempt = (task: () => Promise<void>) => Promise<void>;

/** How often something is tried: after errors of no known kind, and after time limits. */
export interface Tries {
  readonly errors: number;
  readonly timeouts: number;
}

const FOR_EVER: Tries = { errors: Number.POSITIVE_INFINITY, timeouts: Number.POSITIVE_INFINITY };
export const ONCE: Tries = { errors: 1, timeouts: 1 };

export interface RetryRules {
  readonly drain: Drain;
  readonly onRetry: (reason: "unavailable" | "error") => void;
  /** An error that is neither `PermanentError` nor `UnavailableError`: most likely a bug. */
  readonly onError: (error: Error) => void;
}

/**
 * Tries until it works (undefined) or there is no point in going on.
 *
 * @throws {GivenBack} when the process ends first.
 */
export async function tryUntilDecided(
  attempt: () => Promise<void>,
  rules: RetryRules,
  most: Tries = FOR_EVER,
): Promise<Failure | undefined> {
  const { drain } = rules;
  let [errors, timeouts] = [0, 0];
  for (let waits = 0; ; waits++) {
    try {
      await attempt();
      return undefined;
    } catch (thrown) {
      const error = toError(thrown);
      if (error instanceof LetGo) throw error;
      if (drain.overdue.aborted) throw new GivenBack();
      if (error instanceof PermanentError) return { reason: "refused", error };
      const isOutage = error instanceof UnavailableError;
      if (!isOutage) rules.onError(error);
      if (!isOutage && ++errors >= most.errors) return { reason: "failed", error };
      if (error instanceof TimedOutError && ++timeouts >= most.timeouts) return { reason: "slow", error };
      rules.onRetry(isOutage ? "unavailable" : "error");
    }
    await pause(backoffMs(waits), drain.begun);
    if (drain.begun.aborted) throw new GivenBack();
  }
}
