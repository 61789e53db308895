/** Delivers items until each is delivered or buried: waits out outages, tries again, and splits to find the item at fault. */
import { UnavailableError, backoffMs, pause, toError } from "@celery-metrics-exporter/runtime";
import { GivenBack, type Drain } from "./drain.ts";
import { PermanentError } from "./errors.ts";
import { halves } from "./quarantine.ts";

/** Why an item could not be delivered. */
export interface Failure {
  /** `refused`: the exporter threw `PermanentError`. `failed`: it threw something else at every try. */
  readonly reason: "refused" | "failed";
  readonly error: Error;
}

export interface Delivery<T> {
  /** One try. */
  readonly send: (items: readonly T[], signal: AbortSignal) => Promise<void>;
  /** Puts an item that cannot be delivered into the dead-letter queue. */
  readonly bury: (item: T, failure: Failure) => Promise<void>;
}

export interface DeliveryRules {
  readonly drain: Drain;
  /** Tries of a whole batch after an error that is neither `PermanentError` nor `UnavailableError`. */
  readonly maxTries: number;
  readonly onUnavailable: (reason: string) => void;
  readonly onServed: () => void;
  readonly onRetry: (reason: "unavailable" | "error") => void;
  readonly onSplit: () => void;
}

/** The batch as a whole has been tried often enough: its parts get one more chance each, or 4,000 events take minutes to bisect. */
const TRIES_OF_A_PART = 2;

/**
 * Resolves when every item has been delivered or buried.
 *
 * @throws {GivenBack} when the process ends first: some items may have been delivered.
 */
export async function deliver<T>(items: readonly T[], delivery: Delivery<T>, rules: DeliveryRules): Promise<void> {
  await deliverPart(items, delivery, rules, rules.maxTries);
}

async function deliverPart<T>(items: readonly T[], delivery: Delivery<T>, rules: DeliveryRules, tries: number): Promise<void> {
  const failure = await tryUntilDecided(() => send(items, delivery, rules), rules, tries);
  if (failure === undefined) return;
  const [first, ...others] = items;
  if (first === undefined) return;
  if (others.length === 0) return bury(first, failure, delivery, rules);
  rules.onSplit();
  for (const half of halves(items)) await deliverPart(half, delivery, rules, Math.min(tries, TRIES_OF_A_PART));
}

/** One try, and what it tells of the sink. Steps that need only Redis tell nothing: its connections do. */
async function send<T>(items: readonly T[], delivery: Delivery<T>, { drain, onServed, onUnavailable }: DeliveryRules): Promise<void> {
  try {
    await delivery.send(items, drain.overdue);
    onServed();
  } catch (thrown) {
    if (thrown instanceof UnavailableError) onUnavailable(thrown.message);
    // Who refuses data has answered.
    if (thrown instanceof PermanentError && !drain.overdue.aborted) onServed();
    throw thrown;
  }
}

/** Burying is tried for ever: the item is nowhere else any more once its job is done. */
async function bury<T>(item: T, failure: Failure, delivery: Delivery<T>, rules: DeliveryRules): Promise<void> {
  await tryUntilDecided(() => delivery.bury(item, failure), rules, Number.POSITIVE_INFINITY);
}

/**
 * Tries until it works (undefined) or there is no point in going on.
 *
 * @throws {GivenBack} when the process ends first.
 */
export async function tryUntilDecided(
  attempt: () => Promise<void>,
  rules: DeliveryRules,
  maxTries = Number.POSITIVE_INFINITY,
): Promise<Failure | undefined> {
  const { drain } = rules;
  let tries = 0;
  for (let waits = 0; ; waits++) {
    try {
      await attempt();
      return undefined;
    } catch (thrown) {
      const error = toError(thrown);
      if (drain.overdue.aborted) throw new GivenBack();
      if (error instanceof PermanentError) return { reason: "refused", error };
      const isOutage = error instanceof UnavailableError;
      if (!isOutage && ++tries >= maxTries) return { reason: "failed", error };
      rules.onRetry(isOutage ? "unavailable" : "error");
    }
    await pause(backoffMs(waits), drain.begun);
    if (drain.begun.aborted) throw new GivenBack();
  }
}
