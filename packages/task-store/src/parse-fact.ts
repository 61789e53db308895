/** Reads facts back from the fields of a hash; the layout is in `fact.ts`. */
import {
  SENT,
  STATE_LETTERS,
  type Attempt,
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
    const sent = value === SENT;
    switch (field[0]) {
      case "s": {
        const [at, retries, eta] = field.slice(1).split(".");
        this.sent.push({ field, at: instant(at), sent, ...attempt(retries, eta) });
        break;
      }
      case "r": {
        const [at, host = "", retries, eta] = field.slice(1).split(".");
        this.received.push({ field, at: instant(at), sent, host, ...attempt(retries, eta) });
        break;
      }
      case "b":
        this.#addStart(field, sent);
        break;
      case "f":
        this.#addFinal(field, sent);
        break;
      default:
    }
  }

  #addStart(field: string, sent: boolean): void {
    const [body = "", worker] = field.slice(1).split("|");
    const [at, host = ""] = body.split(".");
    const start = { field, at: instant(at), sent, host };
    this.started.push(worker ? { ...start, worker } : start);
  }

  #addFinal(field: string, sent: boolean): void {
    const [body = "", worker, exception] = field.slice(1).split("|");
    const [at, host = "", outcome = ""] = body.split(".");
    const state = STATES.get(outcome.charAt(0));
    if (state === undefined) return;
    const final: FinalFact = { field, at: instant(at), sent, host, state };
    const told: FinalFact = outcome.length > 1 ? { ...final, runtime: parseInt(outcome.slice(1), 36) / 1e9 } : final;
    this.finals.push(worker || exception ? { ...told, ...(worker && { worker }), ...(exception && { exception }) } : told);
  }
}

function instant(text = "0"): number {
  return parseInt(text, 36);
}

function attempt(retries: string | undefined, eta: string | undefined): Attempt {
  const number = retries === undefined || retries === "" ? 0 : parseInt(retries, 36);
  return eta === undefined ? { retries: number } : { retries: number, eta: parseInt(eta, 36) };
}
