/**
 * Assigns the `task-sent` of a task to each `task-received`, and to starts and ends without a known `task-received`. Must be called in
 * order of time.
 *
 *   received   takes the first `task-sent` left with the same retries and name. A later `task-sent` is not its own, with two exceptions: it
 *              is only a few seconds later (clients' clocks differ, and Celery emits it late), or there is no earlier one at all (clocks
 *              differ more). If none is left, the task was redelivered, and this is a copy of the latest.
 *              If no `task-sent` has its name, that may be a shadow name. Then it takes the first `task-sent` left with the same retries,
 *              whatever its name. This one may be slightly later too, or even later than every worker event (its client's clock is ahead),
 *              but only if nothing was received under its name. Any other later `task-sent` belongs to a task that replaced this one.
 *   others     take the first `task-sent` left, preferably one for which nothing was received.
 *
 * Once another attempt is sent, every `task-sent` before it is no longer left.
 */
import type { ReceivedFact, SentFact } from "../facts/fact.ts";
import { groupBy, latestNotAfter } from "../facts/order.ts";

/** How late a `task-sent` may be: Celery emits it after it has sent the message, and clients' clocks differ slightly. Microseconds. */
const LATE_WITHIN = 2e6;

/** The same if more was received than sent: a later `task-sent` then more likely belongs to a later `task-received`. Microseconds. */
const LATE_WITHIN_OF_FEW = 0.25e6;

/** A `task-sent`. */
interface Sending {
  readonly fact: SentFact;
  /** When another attempt of the task was sent. This one had begun by then, if it ever did. */
  supersededAt: number;
  /** Whether anything was received with its retries and name. */
  isReceived: boolean;
  /** Whether it is later than every worker event, by so much that its client's clock must be ahead. */
  readonly isAhead: boolean;
}

export class SentMessages {
  readonly #sent: readonly SentFact[];
  readonly #sendings: readonly Sending[];
  readonly #all: Queue;
  /** Those for which nothing was received. */
  readonly #unreceived: Queue;
  readonly #byRetries: ReadonlyMap<number, SameRetries>;
  readonly #taken = new Set<SentFact>();

  /**
   * @param sent in order.
   * @param received in order.
   * @param lastWorkerEventAt the time of the latest worker event.
   */
  constructor(sent: readonly SentFact[], received: readonly ReceivedFact[], lastWorkerEventAt: number) {
    this.#sent = sent;
    this.#sendings = sendingsOf(sent, lastWorkerEventAt);
    this.#all = new Queue(this.#sendings, this.#taken);
    const receivedByRetries = groupBy(received, ({ retries }) => retries);
    const sentByRetries = groupBy(this.#sendings, ({ fact }) => fact.retries);
    this.#byRetries = new Map(
      [...sentByRetries].map(([retries, own]) => [retries, new SameRetries(own, receivedByRetries.get(retries) ?? [], this.#taken)]),
    );
    this.#unreceived = new Queue(
      this.#sendings.filter(({ isReceived }) => !isReceived),
      this.#taken,
    );
  }

  /** The sending of a message that a worker received. */
  takeFor({ retries, name, at }: ReceivedFact): SentFact | undefined {
    return this.#take(this.#byRetries.get(retries)?.find(name, at));
  }

  /** The first sending left, for an attempt of which nothing else is known. */
  takeAt(at: number): SentFact | undefined {
    return this.#take(this.nextAt(at));
  }

  /** What `takeAt` would take. */
  nextAt(at: number): SentFact | undefined {
    return [this.#unreceived.first(at), this.#all.first(at)].find((next) => next !== undefined && isOpenAt(next, at))?.fact;
  }

  /** The latest sending, taken or not. */
  latestAt(at: number): SentFact | undefined {
    const [first] = this.#sendings;
    return latestNotAfter(this.#sent, at) ?? (first?.isAhead === true ? first.fact : undefined);
  }

  #take(sent: SentFact | undefined): SentFact | undefined {
    if (sent !== undefined) this.#taken.add(sent);
    return sent;
  }
}

/** Sendings in order. Those that are taken or superseded leave it. */
class Queue {
  readonly #sendings: readonly Sending[];
  readonly #taken: ReadonlySet<SentFact>;
  #first = 0;

  constructor(sendings: readonly Sending[], taken: ReadonlySet<SentFact>) {
    this.#sendings = sendings;
    this.#taken = taken;
  }

  /** The first sending left at an instant. */
  first(at: number): Sending | undefined {
    for (; ; this.#first += 1) {
      const sending = this.#sendings[this.#first];
      if (sending === undefined || (!this.#taken.has(sending.fact) && sending.supersededAt > at)) return sending;
    }
  }

  /** Whether no sending has left it from the front. */
  get isWhole(): boolean {
    return this.#first === 0;
  }
}

/** The sendings with the same retries. */
class SameRetries {
  readonly #byName: ReadonlyMap<string, SameName>;
  readonly #all: Queue;
  readonly #lateWithin: number;
  /** The sending found last for each shadow name. */
  readonly #shadowed = new Map<string, SentFact>();

  constructor(sendings: readonly Sending[], received: readonly ReceivedFact[], taken: ReadonlySet<SentFact>) {
    const receivedByName = groupBy(received, ({ name }) => name);
    const sentByName = groupBy(sendings, ({ fact }) => fact.name);
    for (const sending of sendings) sending.isReceived = receivedByName.has(sending.fact.name);
    this.#byName = new Map([...sentByName].map(([name, own]) => [name, new SameName(own, receivedByName.get(name)?.length ?? 0, taken)]));
    this.#all = new Queue(sendings, taken);
    const others = received.filter(({ name }) => !sentByName.has(name));
    const areFew = others.length > sendings.filter(({ isReceived }) => !isReceived).length;
    this.#lateWithin = areFew ? LATE_WITHIN_OF_FEW : LATE_WITHIN;
  }

  find(name: string, at: number): SentFact | undefined {
    const own = this.#byName.get(name);
    if (own !== undefined) return own.find(at);
    const next = this.#all.first(at);
    const isAhead = next?.isAhead === true && !next.isReceived && this.#all.isWhole;
    if (next === undefined || !(isAhead || isOpenAt(next, at, this.#lateWithin))) return this.#shadowed.get(name);
    this.#shadowed.set(name, next.fact);
    return next.fact;
  }
}

/** The sendings with the same retries and name. */
class SameName {
  readonly #sent: readonly SentFact[];
  readonly #all: Queue;
  /** Whether there are fewer than messages received. */
  readonly #areFew: boolean;
  /** How far the client's clock turned out to be ahead. Microseconds. */
  #ahead = 0;

  /**
   * @param sendings in order.
   * @param received how many messages were received with these retries and this name.
   */
  constructor(sendings: readonly Sending[], received: number, taken: ReadonlySet<SentFact>) {
    this.#sent = sendings.map(({ fact }) => fact);
    this.#all = new Queue(sendings, taken);
    this.#areFew = received > sendings.length;
  }

  /**
   * The first sending left for a message received at this instant. If none of these is earlier, the latest one: the message is a copy of
   * it.
   */
  find(at: number): SentFact | undefined {
    const next = this.#all.first(at)?.fact;
    if (next !== undefined && next.at <= at + this.#ahead + (this.#areFew ? LATE_WITHIN_OF_FEW : LATE_WITHIN)) return next;
    // The first may be taken already, by a message received slightly before it.
    const [first] = this.#sent;
    const copied = latestNotAfter(this.#sent, at) ?? (next === first ? undefined : first);
    // If there are enough sendings for all messages, clocks differ. Otherwise this one may belong to another message.
    if (copied !== undefined || next === undefined || this.#areFew) return copied;
    this.#ahead = next.at - at;
    return next;
  }
}

/** Whether it may be taken at this instant by an event that was not received under its name. */
function isOpenAt({ fact, isReceived }: Sending, at: number, lateWithin = LATE_WITHIN): boolean {
  return fact.at <= (isReceived ? at : at + lateWithin);
}

function sendingsOf(sent: readonly SentFact[], lastWorkerEventAt: number): readonly Sending[] {
  const sendings = sent.map((fact): Sending => ({
    fact,
    supersededAt: Number.POSITIVE_INFINITY,
    isReceived: false,
    isAhead: fact.at > lastWorkerEventAt + LATE_WITHIN,
  }));
  let later: Sending | undefined;
  for (const sending of sendings.toReversed()) {
    if (later !== undefined) sending.supersededAt = isSameAttempt(sending.fact, later.fact) ? later.supersededAt : later.fact.at;
    later = sending;
  }
  return sendings;
}

/** Whether both can be the same attempt of a task, judging by their messages. */
export function isSameAttempt(a: Named, b: Named): boolean {
  return a.retries === b.retries && a.name === b.name;
}

interface Named {
  readonly retries: number;
  readonly name: string;
}
