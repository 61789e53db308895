/**
 * Hands out the `task-sent` of a task to what was received, and to what started or ended though nothing is known to be received. Asked in order
 * of time.
 *
 *   received   takes the first `task-sent` of the same retries and name that is left. A sending after it is not its own, unless by the few
 *              seconds that clients' clocks and reports may be late, or unless there is no earlier one at all (clocks differ). Where none is
 *              left it is a copy of the latest: the task was redelivered.
 *              Without any `task-sent` of its name it may have a shadow name: then it takes the first one of the same retries that is left,
 *              whatever its name. That may be a little late too, or its client's clock ahead; but where something was received under that
 *              name, or any worker has told anything since, it is that of a task which replaced this one.
 *   others     take the first that is left, rather one of which nothing was received.
 *
 * What was sent before another attempt is left no longer once that was sent.
 */
import type { ReceivedFact, SentFact } from "../facts/fact.ts";
import { groupBy, latestNotAfter } from "../facts/order.ts";

/** Microseconds. Celery reports a sending after it made it, and clients' clocks differ a little. */
const LATE_WITHIN = 2e6;

/** The same where more was received than sent: what comes later is rather the sending of what was received after it. */
const LATE_WITHIN_OF_FEW = 0.25e6;

/** A sending. */
interface Sending {
  readonly fact: SentFact;
  /** When another attempt of the task was sent: this one had begun by then, if it ever did. */
  supersededAt: number;
  /** Whether anything was received under its retries and name. */
  isReceived: boolean;
  /** Whether it is after all that any worker told, so that its client's clock must be ahead. */
  readonly isAhead: boolean;
}

export class SentMessages {
  readonly #sent: readonly SentFact[];
  readonly #sendings: readonly Sending[];
  readonly #all: Queue;
  /** Those of which nothing was received. */
  readonly #unreceived: Queue;
  readonly #byRetries: ReadonlyMap<number, SameRetries>;
  readonly #taken = new Set<SentFact>();

  /**
   * @param sent in order.
   * @param received in order.
   * @param lastTold when a worker told something last.
   */
  constructor(sent: readonly SentFact[], received: readonly ReceivedFact[], lastTold: number) {
    this.#sent = sent;
    this.#sendings = sendingsOf(sent, lastTold);
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

  /** The sending of what a worker received. */
  takeFor({ retries, name, at }: ReceivedFact): SentFact | undefined {
    return this.#take(this.#byRetries.get(retries)?.find(name, at));
  }

  /** The first sending that is left, for an attempt of which nothing else is known. */
  takeAt(at: number): SentFact | undefined {
    return this.#take(this.nextAt(at));
  }

  /** What `takeAt` would take. */
  nextAt(at: number): SentFact | undefined {
    return [this.#unreceived.first(at), this.#all.first(at)].find((next) => next !== undefined && isOpenAt(next, at))?.fact;
  }

  /** The latest, taken or not. */
  latestAt(at: number): SentFact | undefined {
    const [first] = this.#sendings;
    return latestNotAfter(this.#sent, at) ?? (first?.isAhead === true ? first.fact : undefined);
  }

  #take(sent: SentFact | undefined): SentFact | undefined {
    if (sent !== undefined) this.#taken.add(sent);
    return sent;
  }
}

/** Sendings in order, from which those that are taken or superseded go. */
class Queue {
  readonly #sendings: readonly Sending[];
  readonly #taken: ReadonlySet<SentFact>;
  #first = 0;

  constructor(sendings: readonly Sending[], taken: ReadonlySet<SentFact>) {
    this.#sendings = sendings;
    this.#taken = taken;
  }

  /** The first that is left at an instant. */
  first(at: number): Sending | undefined {
    for (; ; this.#first += 1) {
      const sending = this.#sendings[this.#first];
      if (sending === undefined || (!this.#taken.has(sending.fact) && sending.supersededAt > at)) return sending;
    }
  }

  /** Whether none has gone. */
  get isWhole(): boolean {
    return this.#first === 0;
  }
}

/** What was sent with the same retries. */
class SameRetries {
  readonly #byName: ReadonlyMap<string, SameName>;
  readonly #all: Queue;
  readonly #lateWithin: number;
  /** What was found last under each shadow name. */
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

/** What was sent with the same retries and name. */
class SameName {
  readonly #sent: readonly SentFact[];
  readonly #all: Queue;
  /** Whether there are not enough for all that was received. */
  readonly #areFew: boolean;
  /** How far the client's clock was found to be ahead. Microseconds. */
  #ahead = 0;

  /**
   * @param sendings in order.
   * @param received how many were received of these.
   */
  constructor(sendings: readonly Sending[], received: number, taken: ReadonlySet<SentFact>) {
    this.#sent = sendings.map(({ fact }) => fact);
    this.#all = new Queue(sendings, taken);
    this.#areFew = received > sendings.length;
  }

  /** The first that is left, for what was received at this instant; where there is none before it, the latest, which it is a copy of. */
  find(at: number): SentFact | undefined {
    const next = this.#all.first(at)?.fact;
    if (next !== undefined && next.at <= at + this.#ahead + (this.#areFew ? LATE_WITHIN_OF_FEW : LATE_WITHIN)) return next;
    // The first may have been taken a little before it was reported.
    const [first] = this.#sent;
    const copied = latestNotAfter(this.#sent, at) ?? (next === first ? undefined : first);
    // Where every message was received, clocks differ; otherwise this one may be of another message.
    if (copied !== undefined || next === undefined || this.#areFew) return copied;
    this.#ahead = next.at - at;
    return next;
  }
}

/** Whether something may take it at this instant that was not received under its name. */
function isOpenAt({ fact, isReceived }: Sending, at: number, lateWithin = LATE_WITHIN): boolean {
  return fact.at <= (isReceived ? at : at + lateWithin);
}

function sendingsOf(sent: readonly SentFact[], lastTold: number): readonly Sending[] {
  const sendings = sent.map((fact): Sending => ({
    fact,
    supersededAt: Number.POSITIVE_INFINITY,
    isReceived: false,
    isAhead: fact.at > lastTold + LATE_WITHIN,
  }));
  let later: Sending | undefined;
  for (const sending of sendings.toReversed()) {
    if (later !== undefined) sending.supersededAt = isSameAttempt(sending.fact, later.fact) ? later.supersededAt : later.fact.at;
    later = sending;
  }
  return sendings;
}

/** Whether both may be the same attempt of a task, as far as its messages tell. */
export function isSameAttempt(a: Named, b: Named): boolean {
  return a.retries === b.retries && a.name === b.name;
}

interface Named {
  readonly retries: number;
  readonly name: string;
}
