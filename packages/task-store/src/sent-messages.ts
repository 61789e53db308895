/** Hands out the `task-sent` of a task to what was received and started. Asked in order of time. */
import type { ReceivedFact, SentFact } from "./fact.ts";
import { groupBy } from "./group-by.ts";
import { latestNotAfter } from "./order.ts";

/** Microseconds. Celery reports a sending after it made it, and clients' clocks differ a little. */
const LATE_WITHIN = 2e6;

/** A sending. */
interface Sending {
  readonly fact: SentFact;
  /** When another attempt of the task was sent: this one had begun by then, if it ever did. */
  supersededAt: number;
}

export class SentMessages {
  readonly #sent: readonly SentFact[];
  readonly #sendings: readonly Sending[];
  readonly #byRetries: ReadonlyMap<number, SameRetries>;
  readonly #taken = new Set<SentFact>();
  /** The first that may be left. */
  #first = 0;

  /** Both in order. */
  constructor(sent: readonly SentFact[], received: readonly ReceivedFact[]) {
    this.#sent = sent;
    this.#sendings = sendingsOf(sent);
    const names = new Set(received.map(({ name }) => name));
    const receivedByRetries = groupBy(received, ({ retries }) => retries);
    const sentByRetries = groupBy(this.#sendings, ({ fact }) => fact.retries);
    this.#byRetries = new Map(
      [...sentByRetries].map(([retries, own]) => [retries, new SameRetries(own, receivedByRetries.get(retries) ?? [], names)]),
    );
  }

  /** The sending of what a worker received. */
  takeFor({ retries, name, at }: ReceivedFact): SentFact | undefined {
    return this.#byRetries.get(retries)?.queueOf(name)?.take(at, this.#taken);
  }

  /** The first sending that is left, for an attempt of which nothing else is known. */
  takeAt(at: number): SentFact | undefined {
    for (
      let next = this.#sendings[this.#first];
      next !== undefined && next.fact.at <= at + LATE_WITHIN;
      next = this.#sendings[this.#first]
    ) {
      this.#first += 1;
      if (this.#taken.has(next.fact) || next.supersededAt <= at) continue;
      this.#taken.add(next.fact);
      return next.fact;
    }
    return undefined;
  }

  latestAt(at: number): SentFact | undefined {
    return latestNotAfter(this.#sent, at) ?? this.#sent[0];
  }
}

/** What was sent with the same retries. */
class SameRetries {
  readonly #byName: ReadonlyMap<string, Queue>;
  /** What may have been received under a shadow name. */
  readonly #shadowed: Queue;
  readonly #all: Queue;

  constructor(sent: readonly Sending[], received: readonly ReceivedFact[], receivedNames: ReadonlySet<string>) {
    const receivedByName = groupBy(received, ({ name }) => name);
    const sentByName = groupBy(sent, ({ fact }) => fact.name);
    this.#byName = new Map([...sentByName].map(([name, own]) => [name, new Queue(own, receivedByName.get(name)?.length ?? 0)]));
    const shadowed = sent.filter(({ fact }) => fact.name === "" || !receivedNames.has(fact.name));
    this.#shadowed = new Queue(shadowed, received.filter(({ name }) => !sentByName.has(name)).length);
    this.#all = new Queue(sent, received.length);
  }

  queueOf(name: string): Queue | undefined {
    return this.#byName.get(name) ?? (name === "" ? this.#all : this.#shadowed);
  }
}

class Queue {
  readonly #sendings: readonly Sending[];
  readonly #sent: readonly SentFact[];
  readonly #received: number;
  #first = 0;
  /** How far the client's clock was found to be ahead. Microseconds. */
  #ahead = 0;

  /**
   * @param sendings in order.
   * @param received how many were received of these.
   */
  constructor(sendings: readonly Sending[], received: number) {
    this.#sendings = sendings;
    this.#sent = sendings.map(({ fact }) => fact);
    this.#received = received;
  }

  /** The first that is left, for what was received at this instant; where there is none before it, the latest, which it is a copy of. */
  take(at: number, taken: Set<SentFact>): SentFact | undefined {
    const next = this.#next(at, taken);
    if (next === undefined || next.at > at + this.#ahead + LATE_WITHIN) {
      const copied = latestNotAfter(this.#sent, at);
      // Where every message was received, clocks differ; otherwise this one may be of another message.
      if (copied !== undefined || next === undefined || this.#received > this.#sent.length) return copied;
      this.#ahead = next.at - at;
    }
    taken.add(next);
    return next;
  }

  #next(at: number, taken: ReadonlySet<SentFact>): SentFact | undefined {
    for (let next = this.#sendings[this.#first]; next !== undefined; next = this.#sendings[this.#first]) {
      if (!taken.has(next.fact) && next.supersededAt > at) return next.fact;
      this.#first += 1;
    }
    return undefined;
  }
}

function sendingsOf(sent: readonly SentFact[]): readonly Sending[] {
  const sendings = sent.map((fact): Sending => ({ fact, supersededAt: Number.POSITIVE_INFINITY }));
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
