/**
 * Which message each start belongs to, and each end without a start.
 *
 * Neither `task-started` nor a final names its attempt, so messages are handed from one to the next in order of time, first in, first out. What
 * is decided for one event depends on nothing later than that event, but for a `task-sent` that is a little late.
 *
 *   received   takes its `task-sent` (see `sent-messages.ts`).
 *   started    takes the first message that its worker received and has not begun. Of several copies of one message that is the latest; a
 *              message that another worker has begun comes last, and one from before a retry or a replacement is out. Where the worker
 *              received none (an event was lost) it takes the first `task-sent` that is left. Where there is none either, it borrows: it is
 *              the latest attempt of that worker once more, as far as is known.
 *   ended      takes a message as a start does, where its start is not known or never was (see `runs.ts`).
 */
import { EXCLUDED, type Facts, type FinalFact, type ReceivedFact, type SentFact, type StartedFact } from "./fact.ts";
import { inOrder } from "./order.ts";
import { SentMessages, isSameAttempt } from "./sent-messages.ts";

/** The events that brought a message to its worker, as far as they are known. */
export interface Message {
  readonly received: ReceivedFact | undefined;
  readonly sent: SentFact | undefined;
}

/** What begins an attempt, or ended it unbegun. */
export type Beginning = StartedFact | FinalFact;

const NO_MESSAGE: Message = { received: undefined, sent: undefined };

/** Hands out the messages of one task. Asked in order of time. */
export class Messages {
  readonly #received: readonly ReceivedFact[];
  readonly #sending: SentMessages;
  readonly #inboxes = new Map<string, Inbox>();
  readonly #begun = new Set<SentFact>();
  readonly #messages = new Map<Beginning, Message>();
  readonly #borrowers = new Set<Beginning>();
  #arrived = 0;

  constructor(facts: Facts) {
    this.#received = inOrder(withoutTwins(facts.received));
    this.#sending = new SentMessages(inOrder(facts.sent), this.#received, lastTold(facts));
  }

  /** Hands it its message. */
  begin(beginning: Beginning): void {
    const inbox = this.#inboxOf(beginning);
    const own = inbox.take() ?? orphan(this.#sending.takeAt(beginning.at)) ?? inbox.takeCopy();
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
    return this.#inboxOf(now).waiting() ?? orphan(this.#sending.nextAt(now.at));
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
      inbox = new Inbox(this.#begun);
      this.#inboxes.set(host, inbox);
    }
    return inbox;
  }
}

/** When it came to its worker, or was sent. */
export function cameAt({ received, sent }: Message): number {
  return (received ?? sent)?.at ?? 0;
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
  readonly #waiting: Message[] = [];
  #first = 0;
  /** Other workers have begun all before it. */
  #unbegun = 0;
  /** Where the copy of a message waits: by its `task-sent`, or else by what tells attempts apart. */
  readonly #places = new Map<SentFact | string, number>();
  /** How many it received and has not begun, those that are out included. */
  #left = 0;

  constructor(begun: ReadonlySet<SentFact>) {
    this.#begun = begun;
  }

  add(message: Message): void {
    const key = message.sent ?? `${message.received?.retries} ${message.received?.name}`;
    const before = this.#waiting.at(-1)?.received;
    // Another attempt: those before it had begun, if they ever did.
    if (before !== undefined && message.received !== undefined && !isSameAttempt(before, message.received)) {
      this.#first = this.#waiting.length;
    }
    const place = this.#places.get(key);
    if (place !== undefined && place >= this.#first) this.#waiting[place] = message;
    else this.#places.set(key, this.#waiting.push(message) - 1);
    this.#left += 1;
  }

  /** The first that no worker has begun. */
  waiting(): Message | undefined {
    return this.#waiting[this.#next()];
  }

  take(): Message | undefined {
    const place = Math.min(this.#next(), this.#waiting.length - 1);
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
  #next(): number {
    let place = Math.max(this.#unbegun, this.#first);
    while (place < this.#waiting.length && this.#isBegun(place)) place += 1;
    this.#unbegun = place;
    return place;
  }

  #isBegun(place: number): boolean {
    const sent = this.#waiting[place]?.sent;
    return sent !== undefined && this.#begun.has(sent);
  }
}
