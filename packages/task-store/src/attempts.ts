/**
 * Which attempt a start or an end belongs to: its name, its queue, and how long it waited before it started.
 *
 * Neither `task-started` nor a final names its attempt, so messages are handed from one to the next in order of time, first in, first out. What
 * is decided for one event depends on nothing later than that event, but for a `task-sent` that is a little late.
 *
 *   received   takes the first `task-sent` of the same retries and name that is left. A sending after it is not its own, unless by the few
 *              seconds that clients' clocks and reports may be late, or unless there is no earlier one at all (clocks differ). Where none is
 *              left it is a copy of the latest: the task was redelivered.
 *   started    takes the first message that its worker received and has not begun. Of several copies of one message that is the latest; a
 *              message that another worker has begun comes last, and one from before a retry or a replacement is out. Where the worker
 *              received none (an event was lost) it takes the first `task-sent` that is left, and where there is none either, it is the
 *              latest attempt of that worker once more.
 *   ended      takes a message as a start does, where its start is not known or never was.
 *
 * A `task-received` has a shadow name where the task has one, so without a `task-sent` of its own name it takes one of another name, unless
 * that name was received too: then the `task-sent` belongs to a task that was replaced.
 *
 *   wait = start − max(sent, eta)         basis `sent`
 *   wait = start − max(received, eta)     basis `received`, where there is no `task-sent` (celery beat, or the setting is off)
 *
 * A wait below 0 (clocks differ) counts as 0.
 */
import { EXCLUDED, type FinalFact, type ReceivedFact, type SentFact, type StartedFact } from "./fact.ts";
import { groupBy } from "./group-by.ts";
import { inOrder, latestNotAfter } from "./order.ts";
import type { Run } from "./runs.ts";
import { SentMessages, isSameAttempt } from "./sent-messages.ts";
import type { TaskEntry } from "./task-entry.ts";

/** What an attempt is counted under. */
export interface Labels {
  /** Undefined where no event had it. */
  readonly name: string | undefined;
  readonly queue: string | undefined;
}

/** One attempt's wait. */
export interface Wait extends Labels {
  readonly seconds: number;
  /** Which event the wait is counted from. */
  readonly basis: "sent" | "received";
  /** Whether the clocks of client and worker made it negative. */
  readonly skewed: boolean;
  /** Seconds since the epoch, by the worker's clock. */
  readonly startedAt: number;
  readonly worker: string | undefined;
}

/** The events that brought a message to its worker, as far as they are known. */
export interface Message {
  readonly received: ReceivedFact | undefined;
  readonly sent: SentFact | undefined;
}

/** One attempt, as far as it is known. */
export interface Attempt extends Labels, Message {
  /** Whether a filter excludes it. */
  readonly excluded: boolean;
}

/** What begins an attempt, or ended it unbegun. */
type Beginning = StartedFact | FinalFact;

/** The attempts of one task. */
export class Attempts {
  readonly #texts: ReadonlyMap<string, string>;
  readonly #sent: readonly SentFact[];
  readonly #received: readonly ReceivedFact[];
  /** All starts, and the first finals of the runs that have none. In order. */
  readonly #beginnings: readonly Beginning[];
  #messages: ReadonlyMap<Beginning, Message> | undefined;
  #sentByName: ReadonlyMap<string, readonly SentFact[]> | undefined;
  /** A run's start is asked for twice: by its wait and by its completion. */
  #last: readonly [Beginning, Attempt] | undefined;

  constructor({ texts, facts: { sent, received, started } }: TaskEntry, runs: readonly Run[]) {
    this.#texts = texts;
    this.#sent = inOrder(sent);
    this.#received = inOrder(withoutTwins(received));
    const startless = runs.filter(({ start }) => start === undefined);
    this.#beginnings = inOrder<Beginning>(startless.length === 0 ? started : [...started, ...startless.map(({ finals }) => finals[0])]);
  }

  ofStart(start: StartedFact): Attempt {
    return this.#of(start);
  }

  ofRun({ start, finals }: Run): Attempt {
    return this.#of(start ?? finals[0]);
  }

  /** The wait before this start; undefined where neither its `task-sent` nor its `task-received` is known. */
  waitBefore(start: StartedFact): Wait | undefined {
    const { sent, received, name, queue } = this.#of(start);
    const origin = sent ?? received;
    if (origin === undefined) return undefined;
    const microseconds = start.at - Math.max(origin.at, origin.eta ?? 0);
    return {
      name,
      queue,
      seconds: Math.max(microseconds, 0) / 1e6,
      basis: sent === undefined ? "received" : "sent",
      skewed: microseconds < 0,
      startedAt: start.at / 1e6,
      worker: start.worker,
    };
  }

  #of(beginning: Beginning): Attempt {
    if (this.#last?.[0] === beginning) return this.#last[1];
    const attempt = this.#describe(beginning, this.#messageOf(beginning));
    this.#last = [beginning, attempt];
    return attempt;
  }

  #messageOf(beginning: Beginning): Message {
    // Nearly every task.
    if (this.#beginnings.length === 1 && this.#received.length < 2 && this.#sent.length < 2) return this.#onlyMessage(beginning);
    this.#messages ??= handOut(this.#beginnings, this.#received, this.#sent);
    return this.#messages.get(beginning) ?? NO_MESSAGE;
  }

  /** What handing out comes to where there is only one of each. */
  #onlyMessage({ host, at }: Beginning): Message {
    const [received] = this.#received;
    const [sent] = this.#sent;
    if (received === undefined || received.host !== host || received.at > at) return { received: undefined, sent };
    return { received, sent: received.retries === sent?.retries ? sent : undefined };
  }

  /**
   * Without a `task-sent` of its own an attempt is taken to be in the queue of the one before it, if that has the same name: Celery sends a
   * retry to the queue it came from unless told otherwise.
   */
  #describe({ at }: Beginning, { received, sent }: Message): Attempt {
    const described = received ?? latestNotAfter(this.#received, at) ?? this.#received[0];
    const namesakes = sent === undefined && received !== undefined ? this.#sentWithName(received.name) : [];
    const routed = sent ?? latestNotAfter(namesakes, at) ?? namesakes[0];
    return {
      received,
      sent,
      name: this.#text(sent?.name) ?? this.#text(described?.name) ?? this.#anyName(),
      queue: this.#text(routed?.queue),
      // Its `task-sent` says so where there is one: a shadow name may have been judged otherwise before that came.
      excluded: sent === undefined ? routed?.excluded === true || received?.excluded === true : sent.excluded,
    };
  }

  #sentWithName(name: string): readonly SentFact[] {
    this.#sentByName ??= groupBy(this.#sent, (sent) => sent.name);
    return this.#sentByName.get(name) ?? [];
  }

  #anyName(): string | undefined {
    for (const { name } of [...this.#sent, ...this.#received]) if (name !== "") return this.#text(name);
    return undefined;
  }

  #text(key = ""): string | undefined {
    return key === "" ? undefined : this.#texts.get(key);
  }
}

const NO_MESSAGE: Message = { received: undefined, sent: undefined };

/** Without those that a batch has marked as excluded and another, which did not know yet, has not. */
function withoutTwins(received: readonly ReceivedFact[]): readonly ReceivedFact[] {
  const marked = new Set(received.filter(({ excluded }) => excluded).map(({ field }) => field.replace(EXCLUDED, "")));
  return marked.size === 0 ? received : received.filter(({ excluded, field }) => excluded || !marked.has(field));
}

/** Hands each beginning its message; everything in order. */
function handOut(
  beginnings: readonly Beginning[],
  received: readonly ReceivedFact[],
  sent: readonly SentFact[],
): ReadonlyMap<Beginning, Message> {
  const messages = new Map<Beginning, Message>();
  const sending = new SentMessages(sent, received);
  const inboxes = new Map<string, Inbox>();
  const begun = new Set<SentFact>();
  const inboxOf = (host: string): Inbox => {
    let inbox = inboxes.get(host);
    if (inbox === undefined) {
      inbox = new Inbox(begun);
      inboxes.set(host, inbox);
    }
    return inbox;
  };
  let arrived = 0;
  for (const beginning of beginnings) {
    for (let next = received[arrived]; next !== undefined && next.at <= beginning.at; next = received[arrived]) {
      inboxOf(next.host).add({ received: next, sent: sending.takeFor(next) });
      arrived += 1;
    }
    const inbox = inboxOf(beginning.host);
    const message = inbox.take() ?? orphan(sending.takeAt(beginning.at)) ?? inbox.last ?? orphan(sending.latestAt(beginning.at));
    if (message === undefined) continue;
    inbox.last = message;
    if (message.sent !== undefined) begun.add(message.sent);
    messages.set(beginning, message);
  }
  return messages;
}

function orphan(sent: SentFact | undefined): Message | undefined {
  return sent && { received: undefined, sent };
}

/** What a worker received and has not begun. */
class Inbox {
  /** What it began last. */
  last: Message | undefined;
  readonly #begun: ReadonlySet<SentFact>;
  readonly #waiting: Message[] = [];
  #first = 0;
  /** Where the copy of a message waits: by its `task-sent`, or else by what tells attempts apart. */
  readonly #places = new Map<SentFact | string, number>();

  constructor(begun: ReadonlySet<SentFact>) {
    this.#begun = begun;
  }

  add(message: Message): void {
    const key = message.sent ?? `${message.received?.retries} ${message.received?.name}`;
    const before = this.#waiting.at(-1)?.received;
    // Another attempt: those before it had begun, if they ever did.
    if (before !== undefined && message.received !== undefined && !isSameAttempt(before, message.received))
      this.#first = this.#waiting.length;
    const place = this.#places.get(key);
    if (place !== undefined && place >= this.#first) this.#waiting[place] = message;
    else this.#places.set(key, this.#waiting.push(message) - 1);
  }

  take(): Message | undefined {
    for (let place = this.#first; place < this.#waiting.length; place += 1) {
      const message = this.#waiting[place];
      if (message?.sent !== undefined && this.#begun.has(message.sent)) continue;
      this.#first = place + 1;
      return message;
    }
    // Copies only.
    const message = this.#waiting[this.#waiting.length - 1];
    if (this.#first === this.#waiting.length) return undefined;
    this.#first = this.#waiting.length;
    return message;
  }
}
