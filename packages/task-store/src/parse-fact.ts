/** Reads facts back from the fields of a hash; the layout is in `fact.ts`. */
import { readBase36 } from "./base36.ts";
import {
  DETAIL,
  EXCLUDED,
  SENT,
  STATE_LETTERS,
  TERMINATED,
  UNKNOWN_TASK,
  type Facts,
  type FinalFact,
  type FinalState,
  type ReceivedFact,
  type SentFact,
  type StartedFact,
} from "./fact.ts";

const STATES: ReadonlyMap<string, FinalState> = new Map(
  Object.entries(STATE_LETTERS).map(([state, letter]) => [letter, state as FinalState]),
);

/** Gathers the facts of one task. */
export class FactCollector implements Facts {
  readonly sent: SentFact[] = [];
  readonly received: ReceivedFact[] = [];
  readonly started: StartedFact[] = [];
  readonly finals: FinalFact[] = [];

  /** Adds the fact that a field holds. Other fields, and what a later version may add, are passed over. */
  add(field: string, value: string): void {
    const sent = value[0] === SENT;
    switch (field[0]) {
      case "s":
        this.#addSent(field, sent);
        break;
      case "r":
        this.#addReceived(field, sent);
        break;
      case "b":
        this.#addStart(field, sent, value);
        break;
      case "f":
        this.#addFinal(field, sent, value);
        break;
      default:
    }
  }

  #addSent(field: string, sent: boolean): void {
    const nameAt = afterDot(field, 1);
    const queueAt = afterDot(field, nameAt);
    const retriesAt = afterDot(field, queueAt);
    const name = partAt(field, nameAt);
    const excluded = name.endsWith(EXCLUDED);
    this.sent.push({
      field,
      at: instantAt(field),
      sent,
      name: excluded ? name.slice(0, -1) : name,
      excluded,
      queue: partAt(field, queueAt),
      retries: readBase36(field, retriesAt),
      eta: etaAt(field, afterDot(field, retriesAt)),
    });
  }

  #addReceived(field: string, sent: boolean): void {
    const hostAt = afterDot(field, 1);
    const nameAt = afterDot(field, hostAt);
    const retriesAt = afterDot(field, nameAt);
    const name = partAt(field, nameAt);
    const excluded = name.endsWith(EXCLUDED);
    this.received.push({
      field,
      at: instantAt(field),
      sent,
      name: excluded ? name.slice(0, -1) : name,
      excluded,
      host: partAt(field, hostAt),
      retries: readBase36(field, retriesAt),
      eta: etaAt(field, afterDot(field, retriesAt)),
    });
  }

  #addStart(field: string, sent: boolean, value: string): void {
    const [worker] = detailsOf(value);
    this.started.push({ field, at: instantAt(field), sent, host: partAt(field, afterDot(field, 1)), worker });
  }

  #addFinal(field: string, sent: boolean, value: string): void {
    const host = afterDot(field, 1);
    const outcome = afterDot(field, host);
    const state = STATES.get(field.charAt(outcome));
    if (state === undefined) return;
    const [worker, exception] = detailsOf(value);
    const detail = field.slice(outcome + 1);
    const runtime = state === "SUCCESS" && detail !== "" ? readBase36(detail, 0) / 1e9 : undefined;
    const terminated = state !== "SUCCESS" && detail === TERMINATED;
    const unbegun = state === "REVOKED" ? !terminated : state === "FAILURE" && detail === UNKNOWN_TASK;
    this.finals.push({
      field,
      at: instantAt(field),
      sent,
      host: partAt(field, host),
      state,
      runtime,
      terminated,
      unbegun,
      worker,
      exception,
    });
  }
}

function instantAt(field: string): number {
  return readBase36(field, 1);
}

function etaAt(field: string, from: number): number | undefined {
  return from < field.length ? readBase36(field, from) : undefined;
}

/** Where the part after the next dot begins; the end where there is none. */
function afterDot(text: string, from: number): number {
  const dot = text.indexOf(".", from);
  return dot === -1 ? text.length : dot + 1;
}

function partAt(text: string, from: number): string {
  const dot = text.indexOf(".", from);
  return dot === -1 ? text.slice(from) : text.slice(from, dot);
}

const NO_DETAILS = [undefined, undefined] as const;

/** What the opt-in tags need; empty ones are none. */
function detailsOf(value: string): readonly [worker: string | undefined, exception: string | undefined] {
  // Nearly always.
  if (value.length < 2) return NO_DETAILS;
  const [, worker = "", exception = ""] = value.split(DETAIL);
  return [worker || undefined, exception || undefined];
}
