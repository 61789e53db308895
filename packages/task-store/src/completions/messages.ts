/**
 * Which message each start belongs to, and each end without a start.
 *
 * Neither `task-started` nor a final names its attempt, so messages are handed from one to the next in order of time, first in, first out. What
 * is decided for one event depends on nothing later than that event, but for a `task-sent` or `task-started` that is a little late.
 *
 *   received   takes its `task-sent` (see `sent-messages.ts`).
 *   started    takes the first message that its worker received and has not begun. Of several copies of one message that is the latest; a
 *              message that another worker has begun comes last, and one from before a retry or a replacement is out, unless its start comes
 *              late: a busy worker may receive the next attempt before it reports the start of this one. Where the worker received none (an
 *              event was lost) it takes the first `task-sent` that is left. Where there is none either, it borrows: it is the latest attempt
 *              of that worker once more, as far as is known.
 *   ended      takes a message as a start does, where its start is not known or never was (see `runs.ts`).
 */
import { EXCLUDED, type Facts, type FinalFact, type ReceivedFact, type SentFact, type StartedFact } from "../facts/fact.ts";
import { countNotAfter, groupBy, inOrder } from "../facts/order.ts";
import { SentMessages, isSameAttempt } from "./sent-messages.ts";

/** The events that brought a message to its worker, as far as they are known. */
export interface Message {
  readonly received: ReceivedFact | undefined;
  readonly sent: SentFact | undefined;
}

/** What begins an attempt, or ended it unbegun. */
export type Beginning = StartedFact | FinalFact;

/** Microseconds within which a start may be told after the next attempt was received. */
const STARTS_LATE_WITHIN = 2e6;

const NO_MESSAGE: Message = { received: undefined, sent: undefined };

/** Hands out the messages of one task. Asked in order of time. */
export class Messages {
  readonly #received: readonly ReceivedFact[];
  readonly #sending: SentMessages;
  readonly #inboxes = new Map<string, Inbox>();
  readonly #begun = new Set<SentFact>();
  readonly #messages = new Map<Beginning, Message>();
  readonly #borrowers = new Set<Beginning>();
  readonly #started: readonly StartedFact[];
  #startedBy: ReadonlyMap<string, readonly StartedFact[]> | undefined;
  #receivedBy: ReadonlyMap<string, readonly ReceivedFact[]> | undefined;
  #arrived = 0;

  constructor(facts: Facts) {
    this.#started = facts.started;
    this.#received = inOrder(withoutTwins(facts.received));
    this.#sending = new SentMessages(inOrder(facts.sent), this.#received, lastTold(facts));
  }

  /** Hands it its message. */
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

  /** Whether it has no message of its own, only that of another. */
  isBorrower(beginning: Beginning): boolean {
    return this.#borrowers.has(beginning);
  }

  /** The message that this worker would begin now, if there is one that nothing has begun. */
  waitingFor(now: Beginning): Message | undefined {
    const message = this.#inboxOf(now).waiting(now.at) ?? orphan(this.#sending.nextAt(now.at));
    return message !== undefined && etaOf(message) <= now.at ? message : undefined;
  }

  /** That of its worker, with all that arrived until then. */
  #inboxOf({ host, at }: Beginning): Inbox {
    for (let next = this.#received[this.#arrived]; next !== undefined && next.at <= at; next = this.#received[this.#arrived]) {
      this.#inbox(next.host).add({ received: next, sent: this.#sending.takeFor(next) });
      this.#arrived += 1;
    }
    return this.#inbox(host);
  }

  #inbox(host: string): Inbox {
    let inbox = this.#inboxes.get(host);
    if (inbox === undefined) {
      inbox = new Inbox(this.#begun, (at, waiting) => this.#startSoon(host, at, waiting));
      this.#inboxes.set(host, inbox);
    }
    return inbox;
  }

  /** Whether soon after this instant so many start as wait by then. */
  #startSoon(host: string, at: number, waiting: number): boolean {
    this.#startedBy ??= groupBy(inOrder(this.#started), (start) => start.host);
    this.#receivedBy ??= groupBy(this.#received, (receipt) => receipt.host);
    const started = this.#startedBy.get(host) ?? [];
    const received = this.#receivedBy.get(host) ?? [];
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

/** When it came to its worker, or was sent. */
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

/** Whether both may be of the same attempt, as far as is known. A name that was received may be a shadow name. */
export function areOfSameAttempt(a: Message, b: Message): boolean {
  if (a.sent !== undefined && b.sent !== undefined) return isSameAttempt(a.sent, b.sent);
  if (a.received !== undefined && b.received !== undefined) return isSameAttempt(a.received, b.received);
  const [one, other] = [a.sent ?? a.received, b.sent ?? b.received];
  return one !== undefined && other !== undefined && isSameAttempt(one, other);
}

/** Whether the run of the other one sent it, when it ended. */
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

/** When a worker told something last. */
function lastTold({ received, started, finals }: Facts): number {
  let last = 0;
  for (const facts of [received, started, finals]) for (const { at } of facts) if (at > last) last = at;
  return last;
}

/** Without those that a batch has marked as excluded and another, which did not know yet, has not. */
function withoutTwins(received: readonly ReceivedFact[]): readonly ReceivedFact[] {
  const marked = new Set(received.filter(({ excluded }) => excluded).map(({ field }) => field.replace(EXCLUDED, "")));
  return marked.size === 0 ? received : received.filter(({ excluded, field }) => excluded || !marked.has(field));
}

/** What a worker received and has not begun. */
class Inbox {
  /** What it began last. */
  last: Message | undefined;
  readonly #begun: ReadonlySet<SentFact>;
  /** Whether soon after an instant so many start as wait by then. */
  readonly #startSoon: (at: number, waiting: number) => boolean;
  readonly #waiting: Message[] = [];
  #first = 0;
  /** Other workers have begun all before it. */
  #unbegun = 0;
  /** Where another attempt begins, and when it was due: those before it had begun by then, if they ever did. */
  readonly #others: { readonly place: number; readonly at: number }[] = [];
  /** Where the copy of a message waits: by its `task-sent`, or else by what tells attempts apart. */
  readonly #places = new Map<SentFact | string, number>();
  /** How many it received and has not begun, those that are out included. */
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

  /** The first that no worker has begun. */
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

  /** What it began last, where it received more than it began: a copy, for one. */
  takeCopy(): Message | undefined {
    if (this.#left === 0) return undefined;
    this.#left -= 1;
    return this.last;
  }

  /** The place of the first that no worker has begun; the end where there is none. */
  #next(at: number): number {
    let place = Math.max(this.#unbegun, this.#firstAt(at));
    while (place < this.#waiting.length && this.#isBegun(place)) place += 1;
    this.#unbegun = place;
    return place;
  }

  /** The place of the first that is not out. */
  #firstAt(now: number): number {
    for (let other = this.#others[0]; other !== undefined && other.at <= now; other = this.#others[0]) {
      const before = other.place - this.#first;
      // A busy worker may tell their starts late.
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
