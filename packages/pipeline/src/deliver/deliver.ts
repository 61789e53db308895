/**
 * Delivers items to a sink: waits out outages, tries again, splits a batch to find the item at fault, and buries an item only with evidence
 * that the item is to blame.
 *
 * A refusal alone is no evidence. A constraint that somebody added refuses every row, and a bug throws for every event: burying on refusal
 * would empty the queue into the dead-letter queue. So an item is buried only if it is refused, others of its kind get through after that, and
 * it is refused again; and if those that got through are at least as many as those of the kind that are refused. What got through is never
 * sent again: in most sinks that does nothing, and so proves nothing. Everything else is held: it stays in its job, and that is an outage.
 * Burying is rate-limited as well, for faults that hit only some items of a kind, or come and go.
 *
 * A batch that takes too long may have a single item in it that does. What gets through in smaller parts is delivered, and the rest waits
 * (`SlowItems`); nothing is buried for that. Where nothing gets through, it is an outage like any other, and no more is tried than in another.
 */
import { PermanentError, TimedOutError, UnavailableError, backoffMs, pause } from "@celery-metrics-exporter/runtime";
import { type BurialLimit, Evidence, type Likeness, halves } from "./evidence.ts";
import { GivenBack } from "../host/drain.ts";

import { type Part, type RefusedPart, type Search, type Suspect, addLeft, inParts, refusedIn, spread } from "./search.ts";
import { type Attempt, type Failure, ONCE, type RetryRules, type Tries, tryUntilDecided } from "./tries.ts";
import { SlowItems } from "./slow-items.ts";

/** A sink, as the items of one stage see it. `C` is what `send` has to know about their job. */
export interface Delivery<T, C = undefined> extends Likeness<T> {
  /**
   * One try. Items may come again, alone or in other company.
   *
   * @returns for how many of them there was something to do; nothing means all.
   */
  readonly send: (items: readonly T[], signal: AbortSignal, context: C) => Promise<number | void>;
  /** Puts an item that cannot be delivered into the dead-letter queue. */
  readonly bury: (item: T, failure: Failure) => Promise<void>;
  /** Items got through. */
  readonly onDelivered?: (items: readonly T[]) => void;
}

export interface DeliveryRules extends RetryRules {
  /** Tries after an error that is neither `PermanentError` nor `UnavailableError`: of a whole batch, and of an item before it is buried. */
  readonly maxTries: number;
  readonly burials: BurialLimit;
  readonly onUnavailable: (error: Error) => void;
  readonly onServed: () => void;
  readonly onSplit: () => void;
}

/** The job that items come in. */
export interface DeliveryJob {
  /** The same id again means the same job again. */
  readonly id: string;
  /** How often it has been begun, this time included. */
  readonly begun: number;
  /** Runs each try. */
  readonly attempt: Attempt;
}

/** Items that were neither delivered nor buried. Keep them, and deliver them again later. */
export interface Held<T> extends HeldReason {
  readonly items: readonly T[];
}

export interface HeldReason {
  /** `slow`: others get through meanwhile, and need not wait. `unavailable`: nothing does, and that was reported. */
  readonly as: "refused" | "slow" | "unavailable";
  readonly because: string;
  /** What the sink answered first. */
  readonly error: Error;
}

export const NOTHING_GETS_THROUGH = "nothing gets through";
export const NOT_PROVEN = "too few others of their kind get through to blame them";
export const TOO_MANY_BURIALS = "too many events are refused";
export const TOO_SLOW = "others get through, but this takes too long";

/** After so many single items of a kind in a row, the others of the kind are not tried: they wait for the next time. */
const MOST_REFUSALS = 16;
/** A sink that has taken nothing for so long takes nothing, as far as we know. */
const RECENTLY_MS = 60_000;
/** So many items of a batch are tried alone to learn whether others like what is refused get through. */
const MOST_LOOKS = 16;
/** So many tries that take too long are enough: of a batch, then of its parts, then of single items. */
const MOST_TIMEOUTS = 3;
/** Many, as a part with a slow item costs the whole time limit, and any other part little. */
const PARTS = 64;

/** One for each sink in a process: it remembers what got through. */
export class Deliverer<T, C = undefined> {
  readonly #delivery: Delivery<T, C>;
  readonly #rules: DeliveryRules;
  readonly #evidence: Evidence<T>;
  readonly #slow: SlowItems<T>;
  /** Those under way, in the order in which they began. */
  readonly #searches = new Set<Search<T>>();
  /** Tries that took too long since something got through. */
  #timeouts = 0;

  constructor(delivery: Delivery<T, C>, rules: DeliveryRules) {
    this.#delivery = delivery;
    this.#rules = rules;
    this.#evidence = new Evidence(delivery);
    this.#slow = new SlowItems(delivery);
  }

  /**
   * Resolves when every item has been delivered or buried, or with those that must be held.
   *
   * @throws {GivenBack} when the process ends first: some items may have been delivered.
   */
  async deliver(items: readonly T[], context: C, job: DeliveryJob): Promise<Held<T> | undefined> {
    const [slow, others] = this.#slow.partition(items);
    const search: Search<T> = {
      job,
      beganAt: performance.now(),
      isFresh: this.#evidence.isFresh(job),
      send: (part, tries) => this.#send(part, context, search, tries),
      open: [{ items: others, of: undefined }],
      suspects: [],
      untried: [],
      looks: 0,
      refusals: new Map(),
      firstError: undefined,
      slow: [],
      firstTimeout: undefined,
      limited: false,
    };
    this.#searches.add(search);
    try {
      return await this.#search(search, slow);
    } finally {
      this.#searches.delete(search);
    }
  }

  async #search(search: Search<T>, slow: readonly T[]): Promise<Held<T> | undefined> {
    const { job } = search;
    for (let part: Part<T> | undefined; (part = search.open.pop()) !== undefined;) await this.#try(part, search);
    for (const item of slow) await this.#trySlow(item, search);
    const suspects = await this.#judge(search);
    const refused = [...search.untried, ...suspects.map(({ item }) => item)];
    const held = [...refused, ...search.slow];
    if (held.length === 0) {
      this.#evidence.release(job.id);
      return undefined;
    }
    const known = suspects.map((suspect) => [suspect.item, this.#takenBefore(suspect, job)] as const);
    this.#evidence.hold(job, known, search.untried);
    return { items: held, ...(refused.length > 0 ? this.#whyRefused(refused, search) : this.#whySlow(search)) };
  }

  async #send(items: readonly T[], context: C, search: Search<T>, tries: Tries): Promise<Failure | undefined> {
    let done: number | void = undefined;
    let beganAt = 0;
    const attempt = (): Promise<void> => {
      beganAt = performance.now();
      return search.job.attempt(async () => void (done = await this.#sendOnce(items, context, search)));
    };
    const failure = await tryUntilDecided(attempt, this.#rules, tries);
    if (failure === undefined) this.#gotThrough(items, done, search);
    if (failure?.reason === "slow") await this.#tookTooLong(items, { error: failure.error, tookMs: performance.now() - beganAt }, search);
    return failure;
  }

  /** Unless it was known before, lets some time pass, as the sink may have too much to do: longer each time, until something gets through. */
  async #tookTooLong(items: readonly T[], { error, tookMs }: { error: Error; tookMs: number }, search: Search<T>): Promise<void> {
    const [item, ...others] = items;
    if (item !== undefined && others.length === 0) this.#slow.add(item, { error, tookMs, since: search.beganAt });
    search.firstTimeout ??= error;
    if (items.every((one) => this.#slow.isSlow(one))) return;
    const { drain, onRetry } = this.#rules;
    onRetry("unavailable");
    await pause(backoffMs(this.#timeouts++), drain.begun);
    if (drain.begun.aborted) throw new GivenBack();
  }

  /** One try, and what it says about the sink. Steps that need only Redis say nothing: its connections report that. */
  async #sendOnce(items: readonly T[], context: C, { beganAt }: Search<T>): Promise<number | void> {
    const { drain, onServed, onUnavailable } = this.#rules;
    try {
      const done = await this.#delivery.send(items, drain.overdue, context);
      onServed();
      return done;
    } catch (thrown) {
      // A sink that serves others meanwhile is not away.
      const isSlow = thrown instanceof TimedOutError && (this.#slow.servedSince(beganAt) || items.every((item) => this.#slow.isSlow(item)));
      if (thrown instanceof UnavailableError && !isSlow) onUnavailable(thrown);
      // A sink that refuses data has answered.
      if (thrown instanceof PermanentError && !drain.overdue.aborted) onServed();
      throw thrown;
    }
  }

  #gotThrough(items: readonly T[], done: number | void, { isFresh, firstError, refusals }: Search<T>): void {
    this.#timeouts = 0;
    this.#slow.gotThrough(items);
    this.#delivery.onDelivered?.(items);
    if (refusals.size > 0) for (const item of items) refusals.delete(this.#delivery.kindOf(item));
    // Not counted while nothing is in question: it would be work for every event.
    if (isFresh && (firstError !== undefined || this.#evidence.isWanted)) this.#evidence.add(items, done ?? items.length);
  }

  /** Tries a part, or replaces it by smaller ones. */
  async #try(part: Part<T>, search: Search<T>): Promise<void> {
    const items = this.#withoutRefusedKinds(part, search);
    const pieces = search.isFresh && search.looks < MOST_LOOKS ? this.#evidence.pieces(items) : [items];
    if (pieces.length > 1) {
      search.looks += 1;
      return this.#openPieces(pieces, part.of, search);
    }
    if (items.length === 0) return;
    const isBeginning = search.job.begun === 1 && search.firstTimeout === undefined && !this.#slow.isAny;
    const failure = await search.send(items, {
      errors: search.firstError === undefined ? this.#rules.maxTries : 1,
      timeouts: isBeginning ? MOST_TIMEOUTS : 1,
    });
    if (failure?.reason === "slow") await this.#divide({ items, of: part.of }, search);
    else if (failure !== undefined) this.#refused({ items, of: part.of }, failure.error, search);
  }

  /** Of a part that takes too long, delivers what gets through: in smaller parts, and of those that take too long in turn, one by one. */
  async #divide({ items, of }: Part<T>, search: Search<T>): Promise<void> {
    const sizes = items.length === 1 ? [] : new Set([Math.ceil(items.length / PARTS), 1]);
    let slow = items;
    let left = 0;
    for (const size of sizes) {
      const sent = await this.#sendInParts({ items: slow, of }, size, search);
      search.slow.unshift(...sent.untried);
      left += sent.untried.length;
      slow = sent.slow;
    }
    search.slow.push(...slow);
    left += slow.length;
    addLeft(of, left);
    if (left > 0 && left < items.length) this.#rules.onSplit();
  }

  /** Until too many parts have taken too long. */
  async #sendInParts({ items, of }: Part<T>, size: number, search: Search<T>): Promise<{ readonly untried: T[]; readonly slow: T[] }> {
    const [untried, slow]: [T[], T[]] = [[], []];
    let timeouts = 0;
    for (const part of spread(inParts(items, size))) {
      const [known, others] = this.#slow.partition(part);
      slow.push(...known);
      if (others.length === 0) continue;
      if (timeouts === MOST_TIMEOUTS) {
        untried.push(...others);
        continue;
      }
      const failure = await search.send(others, ONCE);
      if (failure?.reason === "slow") {
        slow.push(...others);
        timeouts += 1;
      } else if (failure !== undefined) {
        this.#refused({ items: others, of }, failure.error, search);
      }
    }
    return { untried, slow };
  }

  async #trySlow(item: T, search: Search<T>): Promise<void> {
    if (!this.#slow.claim(item)) return void search.slow.push(item);
    const failure = await search.send([item], ONCE).finally(() => this.#slow.release());
    if (failure?.reason === "slow") search.slow.push(item);
    else if (failure !== undefined) this.#refused({ items: [item], of: undefined }, failure.error, search);
  }

  #openPieces(pieces: readonly (readonly T[])[], of: RefusedPart<T> | undefined, { open }: Search<T>): void {
    open.push(...pieces.map((items) => ({ items, of })).reverse());
  }

  #withoutRefusedKinds({ items, of }: Part<T>, { refusals, untried }: Search<T>): readonly T[] {
    const isRefused = (item: T): boolean => (refusals.get(this.#delivery.kindOf(item)) ?? 0) >= MOST_REFUSALS;
    if (refusals.size === 0 || !items.some(isRefused)) return items;
    const refused = items.filter(isRefused);
    untried.push(...refused);
    addLeft(of, refused.length);
    return items.filter((item) => !isRefused(item));
  }

  #refused(part: Part<T>, error: Error, search: Search<T>): void {
    search.firstError ??= error;
    const refused: RefusedPart<T> = { ...part, takenBefore: new Map(this.#evidence.taken), left: 0 };
    const [item, ...others] = part.items;
    if (item === undefined) return;
    if (others.length > 0) {
      this.#rules.onSplit();
      return this.#openPieces(halves(part.items), refused, search);
    }
    const kind = this.#delivery.kindOf(item);
    search.refusals.set(kind, (search.refusals.get(kind) ?? 0) + 1);
    search.suspects.push({ ...refused, item, kind });
    addLeft(part.of, 1);
    this.#evidence.want(kind);
  }

  /**
   * Buries what is proven to be at fault, and returns the other suspects. An item is not judged while another of its subject is in doubt: a sink
   * that refuses the first event of a task may refuse the next ones for that reason alone.
   */
  async #judge(search: Search<T>): Promise<Suspect<T>[]> {
    const { suspects, untried, slow, job } = search;
    if (suspects.length === 0) return [];
    const beside = this.#evidence.beside(job.id);
    const searches = [...this.#searches];
    const earlier = searches.slice(0, searches.indexOf(search));
    const subjectOf = (item: T): string | undefined => this.#delivery.subjectOf?.(item);
    const doubted = new Set([...beside.subjects, ...[...earlier.flatMap(refusedIn), ...untried, ...slow].map(subjectOf)]);
    doubted.delete(undefined);
    const counts = new Map<string, number>();
    const kinds = [...beside.kinds, ...searches.flatMap(refusedIn).map((item) => this.#delivery.kindOf(item))];
    for (const kind of kinds) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    const left: Suspect<T>[] = [];
    for (const suspect of suspects) {
      const { kind, item } = suspect;
      const subject = subjectOf(item);
      const count = counts.get(kind) ?? 0;
      // Those of its kind that got through since it was refused must not be fewer than those that are refused.
      const taken = (this.#evidence.taken.get(kind) ?? 0) - this.#takenBefore(suspect, job);
      if (!doubted.has(subject) && taken >= count && (await this.#isSettled(suspect, search))) {
        counts.set(kind, count - 1);
      } else {
        left.push(suspect);
        if (subject !== undefined) doubted.add(subject);
      }
    }
    return left;
  }

  /** How many of its kind had got through when it was refused for the first time: alone, or with others that all got through later. */
  #takenBefore({ item, kind, takenBefore, of }: Suspect<T>, job: DeliveryJob): number {
    const counts = [takenBefore.get(kind) ?? 0, this.#evidence.takenBefore(job.id, item) ?? Number.POSITIVE_INFINITY];
    for (let part = of; part?.left === 1; part = part.of) counts.push(part.takenBefore.get(kind) ?? 0);
    return Math.min(...counts);
  }

  /** Tries the item for the last time, and buries it unless it gets through after all. */
  async #isSettled({ item }: Suspect<T>, search: Search<T>): Promise<boolean> {
    if (!this.#rules.burials.take()) {
      search.limited = true;
      return false;
    }
    const failure = await search.send([item], { errors: this.#rules.maxTries, timeouts: 1 });
    if (failure?.reason === "slow") return false;
    // Tried for ever: once its job is done, the item is nowhere else.
    if (failure !== undefined) await tryUntilDecided(() => this.#delivery.bury(item, failure), this.#rules);
    return true;
  }

  #whyRefused(refused: readonly T[], { limited, firstError }: Search<T>): HeldReason {
    const kinds = new Set(refused.map((item) => this.#delivery.kindOf(item)));
    let because = `${NOT_PROVEN}: ${[...kinds].join(", ")}`;
    if (!this.#slow.servedSince(performance.now() - RECENTLY_MS)) because = NOTHING_GETS_THROUGH;
    if (limited) because = TOO_MANY_BURIALS;
    return { as: "refused", because, error: firstError ?? new Error(because) };
  }

  #whySlow({ slow, firstTimeout, beganAt }: Search<T>): HeldReason {
    const item = slow.find((one) => this.#slow.isSlow(one));
    const error = firstTimeout ?? this.#slow.lastError ?? new Error(TOO_SLOW);
    if (item === undefined && !this.#slow.servedSince(beganAt)) return { as: "unavailable", because: NOTHING_GETS_THROUGH, error };
    const name = item === undefined ? "" : `: ${this.#delivery.subjectOf?.(item) ?? this.#delivery.kindOf(item)}`;
    return { as: "slow", because: TOO_SLOW + name, error };
  }
}
