/** Pairs the facts of a task: which message each start belongs to, and which start each end. */
import type { Facts, FinalFact, ReceivedFact, SentFact, StartedFact } from "./fact.ts";
import { Messages, type Beginning, type Message } from "./messages.ts";
import { endAlone, runsOf, type Run } from "./runs.ts";

export interface Pairing {
  readonly runs: readonly Run[];
  readonly messages: MessagesOf;
}

/** The message of each start, and of each end whose run has none. */
export interface MessagesOf {
  of(beginning: Beginning): Message;
  /** Whether it has no message of its own, only that of another. */
  isBorrower(beginning: Beginning): boolean;
}

export function pair(facts: Facts): Pairing {
  const plain = pairPlain(facts);
  if (plain !== undefined) return plain;
  const messages = new Messages(facts);
  return { runs: runsOf(facts, messages), messages };
}

/** What pairing comes to where each event came once at most, and they fit: nearly every task. Undefined for others. */
function pairPlain({ sent, received, started, finals }: Facts): Pairing | undefined {
  if (finals.length !== 1 || started.length > 1 || received.length > 1 || sent.length > 1) return undefined;
  const [final] = finals;
  const [start] = started;
  const [receipt] = received;
  const [sending] = sent;
  if (final === undefined || (start !== undefined && !isEndOf(final, start))) return undefined;
  const beginning = start ?? final;
  if (receipt !== undefined && (receipt.host !== beginning.host || receipt.at > beginning.at)) return undefined;
  if (sending !== undefined && !isSendingOf(sending, receipt, beginning)) return undefined;
  return { runs: [endAlone(final, start)], messages: new OneMessage({ received: receipt, sent: sending }) };
}

function isEndOf(final: FinalFact, { host, at }: StartedFact): boolean {
  return final.host === host && final.at >= at && !final.unbegun;
}

function isSendingOf(sending: SentFact, receipt: ReceivedFact | undefined, beginning: Beginning): boolean {
  if (receipt === undefined) return sending.at <= beginning.at;
  return sending.retries === receipt.retries && (sending.name === receipt.name || sending.at <= receipt.at);
}

class OneMessage implements MessagesOf {
  readonly #message: Message;

  constructor(message: Message) {
    this.#message = message;
  }

  of(): Message {
    return this.#message;
  }

  isBorrower(): boolean {
    return this.#message.received === undefined && this.#message.sent === undefined;
  }
}
