/** Reads a task's facts back from its hash; the layout is in `fact.ts`. */
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

/** Reads the facts among the fields of a hash; other fields, and kinds a later version may add, are passed over. */
export function parseFacts(hash: ReadonlyMap<string, string>): Facts {
  const sent: SentFact[] = [];
  const received: ReceivedFact[] = [];
  const started: StartedFact[] = [];
  const finals: FinalFact[] = [];
  for (const [field, value] of hash) {
    const kind = field[0];
    if (field.length < 2 || (kind !== "s" && kind !== "r" && kind !== "b" && kind !== "f")) continue;
    const [body = "", worker = "", exception = ""] = field.slice(1).split("|");
    const [at = "", first = "", second = "", third = ""] = body.split(".");
    const base = { field, at: parseInt(at, 36), sent: value === SENT };
    if (kind === "s") sent.push({ ...base, ...parseAttempt(first, second) });
    else if (kind === "r") received.push({ ...base, host: first, ...parseAttempt(second, third) });
    else if (kind === "b") started.push({ ...base, host: first, ...(worker === "" ? {} : { worker }) });
    else {
      const outcome = parseOutcome(second);
      if (outcome !== undefined)
        finals.push({ ...base, host: first, ...outcome, ...(worker && { worker }), ...(exception && { exception }) });
    }
  }
  return { sent, received, started, finals };
}

function parseAttempt(retries: string, eta: string): Attempt {
  const number = retries === "" ? 0 : parseInt(retries, 36);
  return eta === "" ? { retries: number } : { retries: number, eta: parseInt(eta, 36) };
}

function parseOutcome(text: string): { state: FinalState; runtime?: number } | undefined {
  const state = STATES.get(text.charAt(0));
  if (state === undefined) return undefined;
  return text.length > 1 ? { state, runtime: parseInt(text.slice(1), 36) / 1e9 } : { state };
}
