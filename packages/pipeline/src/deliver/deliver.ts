/**
 * Delivers items to a sink: waits out outages, retries, splits a batch to find the item at fault, and buries an item only with evidence
 * that the item is to blame.
 *
 * A refusal alone is no evidence. A newly added constraint refuses every row, and a bug throws for every event: burying on refusal would
 * move the whole queue into the dead-letter queue. So an item is buried only if it is refused, others of its kind get through after that,
 * and it is refused again. In addition, at least as many items of its kind must have got through as are refused. Items that got through are
 * never sent again: in most sinks that does nothing, and so proves nothing. All other refused items are held: they stay in their job, and
 * that is an outage. Burying is also rate-limited, for faults that affect only some items of a kind, or come and go.
 *
 * If a batch takes too long, a single item may be the cause. What gets through in smaller parts is delivered, and the rest waits
 * (`SlowItems`); nothing is buried for being slow. If nothing gets through, it is an outage like any other, with no more tries than in any
 * other.
 */
import { PermanentError, TimedOutError, UnavailableError, backoffMs, pause } from "@celery-metrics-exporter/runtime";
import { type BurialLimit, Evidence, type Likeness, halves } from "./evidence.ts";
import { GivenBack, type Attempt, type Failure, ONCE, type RetryRules, type Tries, tryUntilDecided } from "./tries.ts";
import { type Part, type RefusedPart, type Search, type Suspect, addLeft, inParts, refusedIn, spread } from "./search.ts";
import { SlowItems } from "./slow-items.ts";

/** A sink for the items of one stage. `C` is what `send` needs to know about their job. */
export interface Delivery<T, C = undefined> extends Likeness<T> {
  /**
   * One try. Items may come again, alone or together with others.
   *
   * @returns the number of items for which there was something to do; undefined means all.
   */
  readonly send: (items: readonly T[], signal: AbortSignal, context: C) => Promise<number | void>;
  /** Puts an item that cannot be delivered into the dead-letter queue. */
  readonly bury: (item: T, failure: Failure) => Promise<void>;
  /** Called when items got through. */
  readonly onDelivered?: (items: readonly T[]) => void;
}

export interface DeliveryRules extends RetryRules {
  /** Tries of a whole batch, and of an item before it is buried, if the error is neither `PermanentError` nor `UnavailableError`. */
  readonly maxTries: number;
  readonly burials: BurialLimit;
  readonly onUnavailable: (error: Error) => void;
  readonly onServed: () => void;
  readonly onSplit: () => void;
}

/** The job that contains the items. */
export interface DeliveryJob {
  /** Stays the same if the job comes again. */
  readonly id: string;
  /** How often it has been begun, including this time. */
  readonly begun: number;
  /** Runs each try. */
  readonly attempt: Attempt;
}

/** Items that were neither delivered nor buried. The caller must keep them and deliver them later. */
export interface Held<T> extends HeldReason {
  readonly items: readonly T[];
}

export interface HeldReason {
  /** `slow`: other items get through meanwhile, and need not wait. `unavailable`: nothing gets through, and `onUnavailable` was called. */
  readonly as: "refused" | "slow" | "unavailable";
  readonly because: string;
  /** The sink's first error. */
  readonly error: Error;
}

export const NOTHING_GETS_THROUGH = "nothing gets through";
export const NOT_PROVEN = "too few others of this type are accepted to prove these at fault";
export const TOO_MANY_BURIALS = "too many events are refused";
export const TOO_SLOW = "others get through, but this takes too long";

/** Single items of a kind refused in a row after which the others of the kind are not tried, but wait for the next time. */
const MOST_REFUSALS = 16;
/** How long a sink has to take nothing until "nothing gets through" is the reason. */
const RECENTLY_MS = 60_000;
/** Items of a batch that are tried alone, to learn whether others of a refused kind get through. */
const MOST_LOOKS = 16;
/** Timeouts after which trying stops: first of a batch, then of its parts, then of single items. */
const MOST_TIMEOUTS = 3;
/** Parts of a batch that takes too long. Many, because a part with a slow item costs the whole time limit, and any other part little. */
const PARTS = 64;

/** One per sink and process. It remembers what got through. */
export class Deliverer<T, C = undefined> {
  readonly #delivery: Delivery<T, C>;
  readonly #rules: DeliveryRules;
  readonly #evidence: Evidence<T>;
  readonly #slow: SlowItems<T>;
  /** Searches under way, in the order in which they began. */
  readonly #searches = new Set<Search<T>>();
  /** Timeouts since something last got through. */
  #timeouts = 0;

  constructor(delivery: Delivery<T, C>, rules: DeliveryRules) {
    this.#delivery = delivery;
    this.#rules = rules;
    this.#evidence = new Evidence(delivery);
    this.#slow = new SlowItems(delivery);
  }

  /**
   * Resolves when every item is delivered or buried, or with the items that must be held.
   *
   * @throws {GivenBack} if the process exits first. Some items may have been delivered.
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

  /** Notes that a job was put off before anything of it was tried. It then counts as evidence as if it had not been begun. */
  putOff(job: Pick<DeliveryJob, "id" | "begun">): void {
    this.#evidence.putOff(job);
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

  /**
   * Pauses unless the items were known to be slow, because the sink may be overloaded. Pauses longer each time until something gets
   * through.
   */
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

  /** Makes one try, and reports whether the sink is available. Steps that use only Redis do not report: its connections do. */
  async #sendOnce(items: readonly T[], context: C, { beganAt }: Search<T>): Promise<number | void> {
    const { drain, onServed, onUnavailable } = this.#rules;
    try {
      const done = await this.#delivery.send(items, drain.overdue, context);
      onServed();
      return done;
    } catch (thrown) {
      // A sink that takes other items meanwhile is not unavailable.
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
    // Counted only while an item is refused or held: otherwise it would be wasted work for every event.
    if (isFresh && (firstError !== undefined || this.#evidence.isWanted)) this.#evidence.add(items, done ?? items.length);
  }

  /** Tries a part, or replaces it with smaller ones. */
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

  /** Delivers what gets through of a part that takes too long: in smaller parts, and items of parts that still take too long one by one. */
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

  /** Stops when too many parts have taken too long. */
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
   * Buries the items that are proven to be at fault, and returns the other suspects. An item is not judged while another item of its
   * subject is in doubt: a sink that refuses the first event of a task may refuse the next ones for that reason alone.
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
      // Since it was refused, at least as many of its kind must have got through as are refused.
      const taken = (this.#evidence.taken.get(kind) ?? 0) - this.#takenBefore(suspect, job);
      if (!doubted.has(subject) && taken >= count && (await this.#isDecided(suspect, search))) {
        counts.set(kind, count - 1);
      } else {
        left.push(suspect);
        if (subject !== undefined) doubted.add(subject);
      }
    }
    return left;
  }

  /** How many of its kind had got through when it was first refused, either alone or in a part whose other items all got through later. */
  #takenBefore({ item, kind, takenBefore, of }: Suspect<T>, job: DeliveryJob): number {
    const counts = [takenBefore.get(kind) ?? 0, this.#evidence.takenBefore(job.id, item) ?? Number.POSITIVE_INFINITY];
    for (let part = of; part?.left === 1; part = part.of) counts.push(part.takenBefore.get(kind) ?? 0);
    return Math.min(...counts);
  }

  /** Tries the item one last time, and buries it unless it gets through. */
  async #isDecided({ item }: Suspect<T>, search: Search<T>): Promise<boolean> {
    if (!this.#rules.burials.take()) {
      search.limited = true;
      return false;
    }
    const failure = await search.send([item], { errors: this.#rules.maxTries, timeouts: 1 });
    if (failure?.reason === "slow") return false;
    // Retried forever: once its job is done, the item exists nowhere else.
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
