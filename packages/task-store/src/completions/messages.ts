/**
 * Decides which message each start belongs to, and each end without a start.
 *
 * Neither `task-started` nor a final names its attempt, so messages are assigned in order of time, first in, first out. The decision for an
 * event depends on no later event, except for a `task-sent` or `task-started` that is slightly late.
 *
 *   received   takes its `task-sent` (see `sent-messages.ts`).
 *   started    takes the first message that its worker has received but not begun:
 *              - Of several copies of one message, it takes the latest.
 *              - A message that another worker has begun is taken only if no other is left.
 *              - A message from before a retry or a replacement is out: it is not taken any more. The exception is a late start: a busy
 *                worker may receive the next attempt before it emits this one's `task-started`.
 *              If the worker has no such message (an event was lost), the start takes the first `task-sent` left. If there is none either,
 *              it takes the worker's last message again, if the worker received more messages than it began. Otherwise it borrows: until
 *              more is known, it counts as another run of its worker's latest attempt.
 *   ended      takes a message like a start, if its start is not known or never happened (see `runs.ts`).
 */
import { EXCLUDED, type Facts, type FinalFact, type ReceivedFact, type SentFact, type StartedFact } from "../facts/fact.ts";
import { countNotAfter, groupBy, inOrder } from "../facts/order.ts";
import { SentMessages, isSameAttempt } from "./sent-messages.ts";

/** The events that brought a message to its worker, as far as they are known. */
export interface Message {
  readonly received: ReceivedFact | undefined;
  readonly sent: SentFact | undefined;
}

/** The event that uses a message: a start, or an end whose start is not known. */
export type Beginning = StartedFact | FinalFact;

/** How long after the next attempt is received a `task-started` may still come. Microseconds. */
const STARTS_LATE_WITHIN = 2e6;

export const NO_MESSAGE: Message = { received: undefined, sent: undefined };

/** Assigns the messages of one task. Must be called in order of time. */
export class Messages {
  readonly #received: readonly ReceivedFact[];
  readonly #sending: SentMessages;
  readonly #inboxes = new Map<string, Inbox>();
  readonly #begun = new Set<SentFact>();
  readonly #messages = new Map<Beginning, Message>();
  readonly #borrowers = new Set<Beginning>();
  readonly #sentFor = new Map<ReceivedFact, SentFact | undefined>();
  readonly #started: readonly StartedFact[];
  #startedBy: ReadonlyMap<string, readonly StartedFact[]> | undefined;
  #receivedBy: ReadonlyMap<string, readonly ReceivedFact[]> | undefined;
  #arrived = 0;

  constructor(facts: Facts) {
    this.#started = facts.started;
    this.#received = inOrder(withoutTwins(facts.received));
    this.#sending = new SentMessages(inOrder(facts.sent), this.#received, lastWorkerEventAt(facts));
  }

  /** Assigns a message to it. */
  begin(beginning: Beginning): void {
    const inbox = this.#inboxOf(beginning);
    const own = inbox.take(beginning.at) ?? orphan(this.#sending.takeAt(beginning.at)) ?? inbox.takeCopy();
    const message = own ?? inbox.last ?? orphan(this.#sending.latestAt(beginning.at));
    if (own === undefined) this.#borrowers.add(beginning);
    if (message === undefined) return;
    inbox.last = message;
    if (message.sent !== undefined) this.#begun.add(message.sent);
    this.#messages.set(beginning, message);
  }

  of(beginning: Beginning): Message {
    return this.#messages.get(beginning) ?? NO_MESSAGE;
  }

  /** Whether it has no message of its own and borrows another's, if any. */
  isBorrower(beginning: Beginning): boolean {
    return this.#borrowers.has(beginning);
  }

  /** What brought a received message, once everything has begun. Undefined for the twin of a receipt that is marked as excluded. */
  ofReceived(received: ReceivedFact): Message | undefined {
    this.#receive(Number.POSITIVE_INFINITY);
    return this.#sentFor.has(received) ? { received, sent: this.#sentFor.get(received) } : undefined;
  }

  /** The message that this worker would begin now, if one is due that nothing has begun. */
  waitingFor(now: Beginning): Message | undefined {
    const message = this.#inboxOf(now).waiting(now.at) ?? orphan(this.#sending.nextAt(now.at));
    return message !== undefined && etaOf(message) <= now.at ? message : undefined;
  }

  /** Its worker's inbox, filled with everything received up to then. */
  #inboxOf({ hostname, at }: Beginning): Inbox {
    this.#receive(at);
    return this.#inbox(hostname);
  }

  #receive(until: number): void {
    for (let next = this.#received[this.#arrived]; next !== undefined && next.at <= until; next = this.#received[this.#arrived]) {
      const sent = this.#sending.takeFor(next);
      this.#sentFor.set(next, sent);
      this.#inbox(next.hostname).add({ received: next, sent });
      this.#arrived += 1;
    }
  }

  #inbox(hostname: string): Inbox {
    let inbox = this.#inboxes.get(hostname);
    if (inbox === undefined) {
      inbox = new Inbox(this.#begun, (at, waiting) => this.#startSoon(hostname, at, waiting));
      this.#inboxes.set(hostname, inbox);
    }
    return inbox;
  }

  /** Whether the worker's starts soon after this instant catch up with all waiting messages, including those that arrive meanwhile. */
  #startSoon(hostname: string, at: number, waiting: number): boolean {
    this.#startedBy ??= groupBy(inOrder(this.#started), (start) => start.hostname);
    this.#receivedBy ??= groupBy(this.#received, (receipt) => receipt.hostname);
    const started = this.#startedBy.get(hostname) ?? [];
    const received = this.#receivedBy.get(hostname) ?? [];
    let left = waiting;
    let arrived = countNotAfter(received, at);
    for (const start of started.slice(countNotAfter(started, at), countNotAfter(started, at + STARTS_LATE_WITHIN))) {
      for (let next = received[arrived]; next !== undefined && next.at <= start.at; next = received[arrived]) {
        if ((next.eta ?? 0) <= start.at) left += 1;
        arrived += 1;
      }
      left -= 1;
      if (left === 0) return true;
    }
    return false;
  }
}

/** When its worker received it, or else when it was sent. */
export function cameAt({ received, sent }: Message): number {
  return (received ?? sent)?.at ?? 0;
}

/** The earliest instant at which a worker begins it, by that worker's clock. */
export function dueAt(message: Message): number {
  return Math.max(cameAt(message), etaOf(message));
}

function etaOf({ received, sent }: Message): number {
  return (received ?? sent)?.eta ?? 0;
}

/** Whether both can belong to the same attempt. Compares like with like if possible: the name in a `task-received` may be a shadow name. */
export function areOfSameAttempt(a: Message, b: Message): boolean {
  if (a.sent !== undefined && b.sent !== undefined) return isSameAttempt(a.sent, b.sent);
  if (a.received !== undefined && b.received !== undefined) return isSameAttempt(a.received, b.received);
  const [one, other] = [a.sent ?? a.received, b.sent ?? b.received];
  return one !== undefined && other !== undefined && isSameAttempt(one, other);
}

/** Whether `message` is a later retry of `other`. */
export function isRetryOf(message: Message, other: Message): boolean {
  const [retries, before] = [retriesOf(message), retriesOf(other)];
  return retries !== undefined && before !== undefined && retries > before;
}

function retriesOf({ received, sent }: Message): number | undefined {
  return (received ?? sent)?.retries;
}

function orphan(sent: SentFact | undefined): Message | undefined {
  return sent && { received: undefined, sent };
}

/** The time of the latest worker event. */
function lastWorkerEventAt({ received, started, finals }: Facts): number {
  let last = 0;
  for (const facts of [received, started, finals]) for (const { at } of facts) if (at > last) last = at;
  return last;
}

/** Keeps only the marked one of two facts of one event: one batch marked it as excluded, another did not know yet. */
function withoutTwins(received: readonly ReceivedFact[]): readonly ReceivedFact[] {
  const marked = new Set(received.filter(({ excluded }) => excluded).map(({ field }) => field.replace(EXCLUDED, "")));
  return marked.size === 0 ? received : received.filter(({ excluded, field }) => excluded || !marked.has(field));
}

/** The messages that a worker has received but not begun. */
class Inbox {
  /** The message it began last. */
  last: Message | undefined;
  readonly #begun: ReadonlySet<SentFact>;
  /** See `Messages`. */
  readonly #startSoon: (at: number, waiting: number) => boolean;
  readonly #waiting: Message[] = [];
  #first = 0;
  /** Other workers have begun every message before this place. */
  #unbegun = 0;
  /** The places where another attempt follows, and when it was due. Messages before such a place had begun by then, if they ever did. */
  readonly #others: { readonly place: number; readonly at: number }[] = [];
  /** The place of each message, so that a copy replaces it. The key is its `task-sent`, or else its retries and name. */
  readonly #places = new Map<SentFact | string, number>();
  /** How many messages it has received but not begun, including those that are out. */
  #left = 0;

  constructor(begun: ReadonlySet<SentFact>, startSoon: (at: number, waiting: number) => boolean) {
    this.#begun = begun;
    this.#startSoon = startSoon;
  }

  add(message: Message & { readonly received: ReceivedFact }): void {
    const { received, sent } = message;
    const key = sent ?? `${received.retries} ${received.name}`;
    const before = this.#waiting.at(-1)?.received;
    if (before !== undefined && !isSameAttempt(before, received)) this.#others.push({ place: this.#waiting.length, at: dueAt(message) });
    const place = this.#places.get(key);
    if (place !== undefined && place >= this.#firstAt(received.at)) this.#waiting[place] = message;
    else this.#places.set(key, this.#waiting.push(message) - 1);
    this.#left += 1;
  }

  /** The first message that no worker has begun. */
  waiting(at: number): Message | undefined {
    return this.#waiting[this.#next(at)];
  }

  take(at: number): Message | undefined {
    const place = Math.min(this.#next(at), this.#waiting.length - 1);
    if (place < this.#first) return undefined;
    this.#first = place + 1;
    this.#left -= 1;
    return this.#waiting[place];
  }

  /** The message it began last, if it received more messages than it began: one of them may have been a copy. */
  takeCopy(): Message | undefined {
    if (this.#left === 0) return undefined;
    this.#left -= 1;
    return this.last;
  }

  /** The place of the first message that no worker has begun; the end if there is none. */
  #next(at: number): number {
    let place = Math.max(this.#unbegun, this.#firstAt(at));
    while (place < this.#waiting.length && this.#isBegun(place)) place += 1;
    this.#unbegun = place;
    return place;
  }

  /** The place of the first message that is not out. */
  #firstAt(now: number): number {
    for (let other = this.#others[0]; other !== undefined && other.at <= now; other = this.#others[0]) {
      const before = other.place - this.#first;
      // A busy worker may emit their starts late.
      if (before > 0 && !this.#startSoon(other.at, before + 1)) this.#first = other.place;
      this.#others.shift();
    }
    return this.#first;
  }

  #isBegun(place: number): boolean {
    const sent = this.#waiting[place]?.sent;
    return sent !== undefined && this.#begun.has(sent);
  }
}
