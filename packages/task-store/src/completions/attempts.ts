/**
 * The labels of each attempt, and how long it waited before it started. Both come from the attempt's message (see `messages.ts`).
 *
 *   wait = start − max(sent, eta)         basis `sent`
 *   wait = start − max(received, eta)     basis `received`, if there is no `task-sent` (celery beat, or the setting is off)
 *
 * A negative wait (clocks differ) counts as 0.
 */
import type { ReceivedFact, RepeatFact, SentFact, StartedFact } from "../facts/fact.ts";
import { groupBy, inOrder, latestNotAfter } from "../facts/order.ts";
import { type Beginning, type Message, NO_MESSAGE } from "./messages.ts";
import type { MessagesOf, Run } from "./runs.ts";
import type { TaskEntry } from "../facts/task-entry.ts";

export interface Labels {
  /** Undefined if no event carried it. */
  readonly name: string | undefined;
  readonly queue: string | undefined;
}

/** Which event a wait is counted from. */
export const BASES = ["sent", "received"] as const;

/** One attempt's wait. */
export interface Wait extends Labels {
  readonly seconds: number;
  readonly basis: (typeof BASES)[number];
  /** Whether it was negative, because the clocks of client and worker differ. */
  readonly skewed: boolean;
  /** Seconds since the epoch, by the worker's clock. */
  readonly startedAt: number;
  readonly worker: string | undefined;
}

/** What is known of one attempt. */
export interface Attempt extends Labels, Message {
  /** Whether a filter excludes it. */
  readonly excluded: boolean;
}

/** The attempts of one task. */
export class Attempts {
  readonly #texts: ReadonlyMap<string, string>;
  readonly #sent: readonly SentFact[];
  readonly #received: readonly ReceivedFact[];
  readonly #messages: MessagesOf;
  readonly #started: readonly StartedFact[];
  #startsByHostname: ReadonlyMap<string, readonly StartedFact[]> | undefined;
  #notBegun: ReadonlyMap<string, readonly ReceivedFact[]> | undefined;
  #sentByName: ReadonlyMap<string, readonly SentFact[]> | undefined;
  /** Cached, because a run's start is described twice: for its wait and for its completion. */
  #last: readonly [Beginning, Attempt] | undefined;

  constructor({ texts, facts: { sent, received, started } }: TaskEntry, messages: MessagesOf) {
    this.#texts = texts;
    this.#started = started;
    this.#sent = inOrder(sent);
    this.#received = inOrder(received);
    this.#messages = messages;
  }

  ofStart(start: StartedFact): Attempt {
    return this.#of(start);
  }

  ofRun({ start, finals }: Run): Attempt {
    return this.#of(start ?? finals[0]);
  }

  ofSent(sent: SentFact): Attempt {
    return this.#describe(sent, { received: undefined, sent });
  }

  /** @param message what brought it; see `Messages.ofReceived`. */
  ofReceived(received: ReceivedFact, message: Message): Attempt {
    return this.#describe(received, message);
  }

  /** The attempt that a retry or requeueing ended. If its start is not known, it is the first that its worker received and, as far as is known, did not begin. */
  ofRepeat(repeat: RepeatFact): Attempt {
    const start = this.startOf(repeat);
    if (start !== undefined) return this.#of(start);
    const [received] = this.#notBegunBy(repeat.hostname);
    const message = received !== undefined && received.at <= repeat.at ? this.#messages.ofReceived(received) : undefined;
    return this.#describe(repeat, message ?? NO_MESSAGE);
  }

  /** What a worker received and, as far as is known, did not begin; in order. */
  #notBegunBy(hostname: string): readonly ReceivedFact[] {
    if (this.#notBegun === undefined) {
      const begun = new Set(this.#started.map((start) => this.#of(start).received));
      const notBegun = this.#received.filter((fact) => !begun.has(fact));
      this.#notBegun = groupBy(notBegun, (fact) => fact.hostname);
    }
    return this.#notBegun.get(hostname) ?? [];
  }

  /** The start of the attempt that a retry or requeueing ended, if it is known. */
  startOf({ hostname, at }: RepeatFact): StartedFact | undefined {
    this.#startsByHostname ??= groupBy(inOrder(this.#started), (start) => start.hostname);
    return latestNotAfter(this.#startsByHostname.get(hostname) ?? [], at);
  }

  /** Whether its own message is not known (yet). Until then it counts as another run of its worker's latest attempt. */
  lacksMessage(beginning: Beginning): boolean {
    return this.#messages.isBorrower(beginning);
  }

  /** The wait before this start; undefined if neither its `task-sent` nor its `task-received` is known. */
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
    const attempt = this.#describe(beginning, this.#messages.of(beginning));
    this.#last = [beginning, attempt];
    return attempt;
  }

  /**
   * An attempt without its own `task-sent` gets the queue of the previous attempt with the same name: by default, Celery sends a retry to
   * the queue it came from.
   */
  #describe({ at }: { readonly at: number }, { received, sent }: Message): Attempt {
    const described = received ?? latestNotAfter(this.#received, at) ?? this.#received[0];
    const routed = sent ?? (received && latestNotAfter(this.#sentWithName(received.name), at));
    return {
      received,
      sent,
      name: this.#text(sent?.name) ?? this.#text(described?.name) ?? this.#anyName(),
      queue: this.#text(routed?.queue),
      // The `task-sent` decides, if there is one: the `task-received` carries the shadow name, which the filter may judge differently.
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
