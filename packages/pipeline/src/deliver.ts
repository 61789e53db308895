/**
 * Delivers items to a sink: waits out outages, tries again, splits a batch to find the item at fault, and buries an item only with evidence
 * that the item is to blame.
 *
 * A refusal alone is no evidence. A constraint that somebody added refuses every row, and a bug throws for every event: burying on refusal
 * would empty the queue into the dead-letter queue. So an item that was refused alone is buried only if the sink takes another item, the
 * control, both before and after that refusal. Everything else is held: it stays in its job, and that is an outage. Burying is rate-limited
 * as well, for faults that hit only some kinds of items.
 */
import { UnavailableError, backoffMs, pause, toError } from "@celery-metrics-exporter/runtime";
import type { BurialLimit } from "./burial-limit.ts";
import { GivenBack, type Drain } from "./drain.ts";
import { LetGo, PermanentError } from "./errors.ts";
import { halves } from "./quarantine.ts";

/** Why an item could not be delivered. */
export interface Failure {
  /** `refused`: the exporter threw `PermanentError`. `failed`: it threw something else at every try. */
  readonly reason: "refused" | "failed";
  readonly error: Error;
}

/** A sink, as items of one kind see it. `C` is what `send` has to know about their job. */
export interface Delivery<T, C = undefined> {
  /** One try. Items may come again, alone or in other company. */
  readonly send: (items: readonly T[], signal: AbortSignal, context: C) => Promise<void>;
  /** Puts an item that cannot be delivered into the dead-letter queue. */
  readonly bury: (item: T, failure: Failure) => Promise<void>;
  /** Items got through. Not called again for an item that is sent again as a control. */
  readonly onDelivered?: (items: readonly T[]) => void;
  /** Sorts items by how a sink is likely to treat them, into few kinds: a control is of the item's own kind if there is one. */
  readonly kindOf?: (item: T) => string;
}

export interface DeliveryRules {
  readonly drain: Drain;
  /** Tries of a whole batch after an error that is neither `PermanentError` nor `UnavailableError`. */
  readonly maxTries: number;
  readonly burials: BurialLimit;
  readonly onUnavailable: (error: Error) => void;
  readonly onServed: () => void;
  readonly onRetry: (reason: "unavailable" | "error") => void;
  /** An error that is neither `PermanentError` nor `UnavailableError`: most likely a bug. */
  readonly onError: (error: Error) => void;
  readonly onSplit: () => void;
}

/** Runs one try of a job's delivery, beside those of other jobs or alone. */
export type Attempt = (task: () => Promise<void>) => Promise<void>;

const beside: Attempt = (task) => task();

/** Items that were neither delivered nor buried. Keep them, and deliver them again later. */
export interface Held<T> {
  readonly items: readonly T[];
  readonly because: string;
  /** The first error of this delivery. */
  readonly error: Error;
}

export const NOTHING_GETS_THROUGH = "nothing gets through";
const NOT_PROVEN = "it is not proven that the events are at fault";
export const TOO_MANY_BURIALS = "too many events are refused";

/** The batch as a whole has been tried often enough: its parts get one more chance each, or 4,000 events take minutes to bisect. */
const TRIES_OF_A_PART = 2;
/** After so many refusals in a row, single items from all over the batch are tried. If none gets through, the search is over. */
const MOST_REFUSALS = 64;
const SAMPLED_ITEMS = 16;
/** What got through longer ago is no control: sent again it may change nothing in the sink, and then proves nothing. */
const CONTROL_EXPIRY_MS = 600_000;

interface Control<T> {
  readonly item: T;
  readonly at: number;
}

interface Suspect<T> {
  readonly item: T;
  readonly failure: Failure;
}

/** The parts of one batch while it is searched for what is at fault. */
interface Search<T> {
  readonly send: (part: readonly T[], tries: number) => Promise<Failure | undefined>;
  /** Not tried yet, or to be tried again in smaller parts. */
  readonly open: (readonly T[])[];
  /** Refused alone. */
  suspects: Suspect<T>[];
  /** Refusals since something got through. */
  refusals: number;
  anyPassed: boolean;
  limited: boolean;
}

/** One for each sink in a process: it remembers what got through last. */
export class Deliverer<T, C = undefined> {
  readonly #delivery: Delivery<T, C>;
  readonly #rules: DeliveryRules;
  /** By kind, and under `undefined` the latest of all. */
  readonly #controls = new Map<string | undefined, Control<T>>();
  /** Whether the last delivery ended without anything through. The next one then looks just long enough to see that. */
  #isBlocked = false;

  constructor(delivery: Delivery<T, C>, rules: DeliveryRules) {
    this.#delivery = delivery;
    this.#rules = rules;
  }

  /**
   * Resolves when every item has been delivered or buried, or with those that must be held.
   *
   * @throws {GivenBack} when the process ends first: some items may have been delivered.
   */
  async deliver(items: readonly T[], context: C, attempt: Attempt = beside): Promise<Held<T> | undefined> {
    const send = (part: readonly T[], tries: number): Promise<Failure | undefined> =>
      tryUntilDecided(() => attempt(() => this.#send(part, context)), this.#rules, tries);
    const failure = await send(items, this.#isBlocked ? 1 : this.#rules.maxTries);
    if (failure === undefined) {
      this.#gotThrough(items);
      return undefined;
    }
    const search: Search<T> = { send, open: [], suspects: [], refusals: 0, anyPassed: false, limited: false };
    await this.#refused(items, failure, search);
    const isOver = await this.#search(search);
    if (search.anyPassed) await this.#judgeAgain(search);
    this.#isBlocked = !search.anyPassed;
    const held = [...search.suspects.map(({ item }) => item), ...search.open.flat()];
    if (held.length === 0) return undefined;
    const because = search.limited ? TOO_MANY_BURIALS : isOver && search.anyPassed ? NOT_PROVEN : NOTHING_GETS_THROUGH;
    return { items: held, because, error: failure.error };
  }

  /** One try, and what it says about the sink. Steps that need only Redis say nothing: its connections report that. */
  async #send(items: readonly T[], context: C): Promise<void> {
    const { drain, onServed, onUnavailable } = this.#rules;
    try {
      await this.#delivery.send(items, drain.overdue, context);
      onServed();
    } catch (thrown) {
      if (thrown instanceof UnavailableError) onUnavailable(thrown);
      // A sink that refuses data has answered.
      if (thrown instanceof PermanentError && !drain.overdue.aborted) onServed();
      throw thrown;
    }
  }

  /**
   * Tries the open parts, halving what is refused: breadth first while nothing gets through, so that the whole batch is looked at; then depth
   * first. Returns whether it came to the end.
   */
  async #search(search: Search<T>): Promise<boolean> {
    const tries = this.#isBlocked ? 1 : TRIES_OF_A_PART;
    const mostRefusals = this.#isBlocked ? 1 : MOST_REFUSALS;
    while (search.open.length > 0) {
      if (search.refusals >= mostRefusals && !(await this.#sample(search))) return false;
      const part = (search.anyPassed ? search.open.pop() : search.open.shift()) ?? [];
      const failure = part.length === 0 ? undefined : await search.send(part, tries);
      if (failure === undefined) this.#gotThrough(part, search);
      else await this.#refused(part, failure, search);
    }
    return true;
  }

  async #refused(part: readonly T[], failure: Failure, search: Search<T>): Promise<void> {
    search.refusals += 1;
    const [item, ...others] = part;
    if (item === undefined) return;
    if (others.length > 0) {
      this.#rules.onSplit();
      search.open.push(...halves(part));
    } else if (!(await this.#isBuried({ item, failure }, search))) {
      search.suspects.push({ item, failure });
    }
  }

  /** Tries single items from all over the batch. Returns whether one of them got through, or was found to be at fault. */
  async #sample(search: Search<T>): Promise<boolean> {
    const items = search.open.splice(0).flat();
    for (let sample = 0; sample < SAMPLED_ITEMS && items.length > 0; sample++) {
      const [item] = items.splice(Math.floor(Math.random() * items.length), 1) as [T];
      const failure = await search.send([item], 1);
      if (failure === undefined) this.#gotThrough([item], search);
      if (failure === undefined || (await this.#isBuried({ item, failure }, search))) {
        search.open.push(items);
        return true;
      }
      search.suspects.push({ item, failure });
    }
    search.open.push(items);
    return false;
  }

  /** What was refused before anything got through may have a control now. */
  async #judgeAgain(search: Search<T>): Promise<void> {
    const suspects = search.suspects;
    search.suspects = [];
    for (const suspect of suspects) if (!(await this.#isBuried(suspect, search))) search.suspects.push(suspect);
  }

  /** Buries an item that was refused alone, if there is evidence. True too if it gets through after all. */
  async #isBuried({ item, failure }: Suspect<T>, search: Search<T>): Promise<boolean> {
    const control = this.#controlFor(item);
    if (search.limited || control === undefined) return false;
    const passes = async (one: T): Promise<boolean> => (await search.send([one], 1)) === undefined;
    if (!(await passes(control))) return false;
    if (await passes(item)) {
      this.#gotThrough([item], search);
      return true;
    }
    if (!(await passes(control))) return false;
    if (!this.#rules.burials.take()) {
      search.limited = true;
      return false;
    }
    // Tried for ever: once its job is done, the item is nowhere else.
    await tryUntilDecided(() => this.#delivery.bury(item, failure), this.#rules);
    search.anyPassed = true;
    search.refusals = 0;
    return true;
  }

  #controlFor(item: T): T | undefined {
    const control = this.#controls.get(this.#delivery.kindOf?.(item)) ?? this.#controls.get(undefined);
    if (control === undefined || performance.now() - control.at > CONTROL_EXPIRY_MS) return undefined;
    return control.item;
  }

  #gotThrough(items: readonly T[], search?: Search<T>): void {
    this.#isBlocked = false;
    if (search !== undefined) {
      search.anyPassed = true;
      search.refusals = 0;
    }
    this.#delivery.onDelivered?.(items);
    const at = performance.now();
    const kinds = new Set<string | undefined>();
    for (const item of items) {
      const kind = this.#delivery.kindOf?.(item);
      if (kinds.has(kind)) continue;
      kinds.add(kind);
      this.#controls.set(kind, { item, at }).set(undefined, { item, at });
    }
  }
}

/**
 * Tries until it works (undefined) or there is no point in going on.
 *
 * @throws {GivenBack} when the process ends first.
 */
export async function tryUntilDecided(
  attempt: () => Promise<void>,
  rules: Pick<DeliveryRules, "drain" | "onRetry" | "onError">,
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
      if (error instanceof LetGo) throw error;
      if (drain.overdue.aborted) throw new GivenBack();
      if (error instanceof PermanentError) return { reason: "refused", error };
      const isOutage = error instanceof UnavailableError;
      if (!isOutage) rules.onError(error);
      if (!isOutage && ++tries >= maxTries) return { reason: "failed", error };
      rules.onRetry(isOutage ? "unavailable" : "error");
    }
    await pause(backoffMs(waits), drain.begun);
    if (drain.begun.aborted) throw new GivenBack();
  }
}
