/** Pairs the facts of a task: each start with its message, and each end with its start. */
import type { Facts, FinalFact, ReceivedFact, SentFact, StartedFact } from "../facts/fact.ts";
import { type Beginning, type Message, Messages, areOfSameAttempt, cameAt, dueAt, isRetryOf } from "./messages.ts";
import { EXIT_YIELDS_SECONDS } from "@celery-metrics-exporter/celery";
import { countNotAfter, inOrder } from "../facts/order.ts";

export interface Pairing {
  readonly runs: readonly Run[];
  readonly messages: MessagesOf;
}

/** The message of each start, and of each end without one. */
export interface MessagesOf {
  of(beginning: Beginning): Message;
  /** Whether it has no message of its own and borrows another's, if any. */
  isBorrower(beginning: Beginning): boolean;
  /** What brought a received message. Undefined for the twin of a receipt that is marked as excluded. */
  ofReceived(received: ReceivedFact): Message | undefined;
}

export function pair(facts: Facts): Pairing {
  if (isPlain(facts)) {
    const [start, final] = [facts.started[0], facts.finals[0]];
    const messages = new OneMessage({ received: facts.received[0], sent: facts.sent[0] });
    return { runs: final === undefined ? [] : [endAlone(final, start)], messages };
  }
  const messages = new Messages(facts);
  return { runs: runsOf(facts, messages), messages };
}

/** Whether each kind of event came at most once, and they fit together, so that all of them belong to one message. So it is with nearly every task. */
export function isPlain({ sent, received, started, finals }: Facts): boolean {
  if (finals.length > 1 || started.length > 1 || received.length > 1 || sent.length > 1) return false;
  const [final] = finals;
  const [start] = started;
  const [receipt] = received;
  const [sending] = sent;
  if (final !== undefined && start !== undefined && !isEndOf(final, start)) return false;
  const beginning = start ?? final ?? receipt ?? sending;
  if (beginning === undefined) return false;
  if (receipt !== undefined && "hostname" in beginning && (receipt.hostname !== beginning.hostname || receipt.at > beginning.at))
    return false;
  return sending === undefined || isSendingOf(sending, receipt, beginning);
}

function isEndOf(final: FinalFact, { hostname, at }: StartedFact): boolean {
  return final.hostname === hostname && final.at >= at && !final.unbegun;
}

function isSendingOf(sending: SentFact, receipt: ReceivedFact | undefined, beginning: { readonly at: number }): boolean {
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

  ofReceived(): Message {
    return this.#message;
  }

  isBorrower(): boolean {
    return this.#message.received === undefined && this.#message.sent === undefined;
  }
}

// The ended runs of a task, worked out from its finals and starts, separately for each worker.
//
// A final does not name its run, and one run can send several finals:
//
//   - A hard time limit sends two `task-failed` 2 ms apart.
//   - A rejection in Celery 5.6 sends a `task-failed` and a `task-rejected`.
//   - A termination sends a `task-revoked`, and another final that depends on how the task's process handles the signal.
//
// A task can also run more than once: it was sent again under the same id, or redelivered because its worker was lost, or redelivered while
// it was still running because Redis' visibility timeout was over.
//
// So the finals of a worker are processed in order of time, each with the earlier starts that no run has taken. The decision for a final
// depends on no later event: a task read while it is still running gets the same runs as one read afterwards.
//
//   revoked      without `terminated`, ends no run: the message expired, or was revoked before it started. It is recorded without a start.
//                So is the failure of a task that its worker does not know.
//   succeeded    is always a run of its own, because Celery never repeats it. It takes the start nearest to its end minus its runtime.
//   failed,      is a repeat if it comes within a second of another one, with no start in between.
//   rejected     Otherwise it is a run of its own and takes the latest start left. If none is left, it is a repeat after all, provided the
//                last end was one of these too and no message has arrived since.
//   terminated   takes the latest start left, and waits for the end of its run. Another `terminated` before that end is a repeat.
//
// A run that was retried or replaced has no final. So if another attempt's message arrived after a start and nothing has begun it (see
// `messages.ts`), the final belongs to that attempt, whose start is not known yet or never happened. There are two exceptions. A success
// still belongs to the start if this fits its runtime better. A termination still belongs to the start unless the other attempt is a retry:
// only a running task can be terminated, and its replacement may already be waiting.
//
// A terminated run ends in one of two ways:
//
//   - Its process exits because of the signal (a failure with `SystemExit`). This belongs to the termination, however long the task cleaned
//     up.
//   - The task catches the signal and ends by itself. Within `EXIT_YIELDS_SECONDS`, this end replaces the termination. Later, or once the
//     termination was reported, both count.

/** A run that ended, or a final that ended no run (`unbegun`). */
export interface Run {
  /** Undefined if it is not known (yet) or never happened. */
  readonly start: StartedFact | undefined;
  /** In order. */
  readonly finals: readonly [FinalFact, ...FinalFact[]];
  /** Whether one of the finals may belong to another run, whose start is not known (yet). */
  readonly isDoubtful: boolean;
  /** Whether it was terminated, was rejected or exited because of a signal, and an event that replaces this end may still come. */
  readonly mayEndOtherwise: boolean;
}

interface MutableRun extends Run {
  readonly finals: [FinalFact, ...FinalFact[]];
  isDoubtful: boolean;
  mayEndOtherwise: boolean;
  /** The time of its first termination event. */
  terminatedAt: number | undefined;
}

/** How soon Celery repeats a failure: within milliseconds, but a busy worker takes longer. Microseconds. */
const REPEATED_WITHIN = 1e6;
/** `EXIT_YIELDS_SECONDS` in microseconds. */
const CLEANS_UP_WITHIN = EXIT_YIELDS_SECONDS * 1e6;

/** Each worker's runs in the order in which they ended. Assigns a message to each start, and to each end without one. */
function runsOf({ finals, started }: Facts, messages: Messages): readonly Run[] {
  const hostnames = new Map<string, HostnameRuns>();
  for (const fact of inOrder<Beginning>([...started, ...finals])) {
    let runs = hostnames.get(fact.hostname);
    if (runs === undefined) {
      runs = new HostnameRuns(messages);
      hostnames.set(fact.hostname, runs);
    }
    if ("state" in fact) runs.end(fact);
    else runs.start(fact);
  }
  return [...hostnames.values()].flatMap((runs) => runs.all());
}

/** Whether this final only says that a signal made the run's process exit. */
export function isExit({ state, terminated }: FinalFact): boolean {
  return state === "FAILURE" && terminated;
}

export function isTermination({ state, terminated }: FinalFact): boolean {
  return state === "REVOKED" && terminated;
}

/** The run of a task that has only one end. */
function endAlone(final: FinalFact, start: StartedFact | undefined): Run {
  const mayEndOtherwise = isTermination(final) || isExit(final) || final.state === "REJECTED";
  return { start, finals: [final], isDoubtful: false, mayEndOtherwise };
}

class HostnameRuns {
  readonly #messages: Messages;
  readonly #runs: MutableRun[] = [];
  /** Starts that no run has taken, in order. */
  readonly #left: StartedFact[] = [];
  /** Terminated runs whose own end is not known, in order. */
  #dying: MutableRun[] = [];
  /** The run that ended last. */
  #last: MutableRun | undefined;
  /** The time of this worker's latest event. */
  #now = 0;

  constructor(messages: Messages) {
    this.#messages = messages;
  }

  start(start: StartedFact): void {
    this.#now = start.at;
    this.#messages.begin(start);
    this.#left.push(start);
  }

  end(final: FinalFact): void {
    this.#now = final.at;
    if (final.unbegun) this.#note(final, undefined);
    else if (isTermination(final)) this.#terminated(final);
    else if (isExit(final)) this.#exited(final);
    else if (final.state === "SUCCESS") this.#succeeded(final);
    else this.#failed(final);
  }

  all(): readonly Run[] {
    this.#noteWhatMayCome();
    return this.#runs;
  }

  /** A worker's events come in order, so its latest event shows how much time has passed without a further end. */
  #noteWhatMayCome(): void {
    const now = this.#now;
    for (const run of this.#dying) run.mayEndOtherwise = now - terminatedAt(run) <= CLEANS_UP_WITHIN;
    const last = this.#last;
    if (last === undefined || last.terminatedAt !== undefined) return;
    const since = now - endOf(last).at;
    const isRejected = last.finals.every(({ state }) => state === "REJECTED");
    last.mayEndOtherwise = (isRejected && since <= REPEATED_WITHIN) || (isExit(endOf(last)) && since <= CLEANS_UP_WITHIN);
  }

  #terminated(final: FinalFact): void {
    const dying = this.#dyingUntouched();
    if (dying !== undefined) {
      const isSoon = final.at - terminatedAt(dying) < CLEANS_UP_WITHIN;
      if (isSoon || (this.#left.length === 0 && !this.#hasComeSince(terminatedAt(dying), final))) {
        this.#join(dying, final, !isSoon);
        return;
      }
    }
    const last = this.#last;
    const isTold = last !== undefined && final.at - endOf(last).at <= CLEANS_UP_WITHIN && !this.#startedAfter(endOf(last).at);
    if (isTold && last.terminatedAt === undefined && isExit(endOf(last))) {
      // Its exit came before its termination.
      last.terminatedAt = final.at;
      this.#join(last, final);
    } else if (isTold && this.#left.length === 0) {
      // It had just ended.
      this.#join(last, final, final.at - endOf(last).at > REPEATED_WITHIN);
    } else {
      const run = this.#end(final, this.#takeLatest(final));
      run.terminatedAt = final.at;
      this.#dying.push(run);
    }
  }

  #exited(final: FinalFact): void {
    const dying = this.#dying[0];
    if (dying !== undefined && !this.#startedAfter(terminatedAt(dying))) this.#endDying(dying, final);
    else this.#failedByItself(final);
  }

  #failed(final: FinalFact): void {
    const last = this.#last;
    if (
      last !== undefined &&
      isFailure(endOf(last)) &&
      final.at - endOf(last).at <= REPEATED_WITHIN &&
      !this.#startedAfter(endOf(last).at)
    ) {
      this.#join(last, final);
      return;
    }
    const dying = this.#dyingUntouched();
    if (dying === undefined) this.#failedByItself(final);
    else this.#endDying(dying, final);
  }

  #failedByItself(final: FinalFact): void {
    const last = this.#last;
    const start = this.#takeLatest(final);
    if (start === undefined && last !== undefined && isFailure(endOf(last)) && !this.#hasComeSince(endOf(last).at, final)) {
      this.#join(last, final, final.at - endOf(last).at > REPEATED_WITHIN);
    } else this.#end(final, start);
  }

  #succeeded(final: FinalFact): void {
    if (this.#dying.length === 0) {
      this.#end(final, this.#takeNearest(final));
      return;
    }
    const began = beganAt(final);
    const dying = began === undefined ? this.#dyingUntouched() : nearestDying(this.#dying, began);
    const left = began === undefined ? -1 : nearest(this.#left, began);
    const isNearer = began === undefined || left === -1 || distance(dying?.start, began) <= distance(this.#left[left], began);
    if (dying !== undefined && isNearer) this.#endDying(dying, final);
    else this.#end(final, this.#takeNearest(final));
  }

  /** The run terminated last, unless another has started since. */
  #dyingUntouched(): MutableRun | undefined {
    const dying = this.#dying.at(-1);
    return dying === undefined || this.#startedAfter(terminatedAt(dying)) ? undefined : dying;
  }

  #startedAfter(at: number): boolean {
    return (this.#left.at(-1)?.at ?? -1) > at;
  }

  #takeLatest(final: FinalFact): StartedFact | undefined {
    return this.#take(this.#left.length - 1, final);
  }

  #takeNearest(final: FinalFact): StartedFact | undefined {
    const began = beganAt(final);
    return began === undefined ? this.#takeLatest(final) : this.#take(nearest(this.#left, began), final);
  }

  /** Takes the start at this place of `#left`, unless the final ends a later run. */
  #take(place: number, final: FinalFact): StartedFact | undefined {
    const start = this.#left[place];
    if (start === undefined || this.#endsLaterRun(final, start)) return undefined;
    this.#left.splice(place, 1);
    return start;
  }

  /** Whether the final ends a later run than this start's, of which only the message is known. */
  #endsLaterRun(final: FinalFact, start: StartedFact): boolean {
    const message = this.#messages.waitingFor(final);
    if (message === undefined || cameAt(message) <= start.at) return false;
    const began = beganAt(final);
    // A worker begins only what it has received, and not before its ETA. Both are by its own clock, so clock differences do not matter.
    if (began !== undefined) return message.received ? dueAt(message) <= began : cameAt(message) - began < distance(start, began);
    const begun = this.#messages.of(start);
    return isTermination(final) ? isRetryOf(message, begun) : !areOfSameAttempt(message, begun);
  }

  /** Whether a message that nothing has begun has arrived since this instant. */
  #hasComeSince(at: number, final: FinalFact): boolean {
    const message = this.#messages.waitingFor(final);
    return message !== undefined && cameAt(message) > at;
  }

  /** Ends a terminated run. */
  #endDying(dying: MutableRun, final: FinalFact): void {
    this.#dying = this.#dying.filter((run) => run !== dying);
    const isTold = !final.reported && dying.finals.some(({ reported }) => reported);
    const isReplaced = isExit(final) || (final.at - terminatedAt(dying) <= CLEANS_UP_WITHIN && !isTold);
    if (isReplaced) this.#join(dying, final);
    else this.#end(final, dying.start && this.#endsLaterRun(final, dying.start) ? undefined : dying.start);
  }

  #join(run: MutableRun, final: FinalFact, isDoubtful = false): void {
    run.finals.push(final);
    if (isDoubtful) run.isDoubtful = true;
    this.#last = run;
  }

  #end(final: FinalFact, start: StartedFact | undefined): MutableRun {
    const run = this.#note(final, start);
    this.#last = run;
    // Runs terminated before this one began have ended, though their ends were not seen.
    if (start !== undefined && this.#dying.length > 0) this.#dying = this.#dying.filter((dying) => terminatedAt(dying) >= start.at);
    return run;
  }

  #note(final: FinalFact, start: StartedFact | undefined): MutableRun {
    const run = { start, finals: [final], isDoubtful: false, mayEndOtherwise: false, terminatedAt: undefined } satisfies MutableRun;
    this.#runs.push(run);
    if (start === undefined) this.#messages.begin(final);
    return run;
  }
}

function endOf({ finals }: MutableRun): FinalFact {
  return finals.at(-1) ?? finals[0];
}

function terminatedAt(run: MutableRun): number {
  return run.terminatedAt ?? 0;
}

function isFailure({ state }: FinalFact): boolean {
  return state === "FAILURE" || state === "REJECTED";
}

/** When the run of a success began according to its runtime, by its worker's clock; undefined without a runtime. */
function beganAt({ at, runtime }: FinalFact): number | undefined {
  return runtime === undefined ? undefined : at - runtime * 1e6;
}

function distance(start: StartedFact | undefined, began: number): number {
  return start === undefined ? Number.POSITIVE_INFINITY : Math.abs(start.at - began);
}

/** The index of the start nearest to an instant; -1 if there are none. `starts` must be in order. */
function nearest(starts: readonly StartedFact[], at: number): number {
  const next = countNotAfter(starts, at);
  if (next === starts.length) return next - 1;
  return next > 0 && distance(starts[next - 1], at) <= distance(starts[next], at) ? next - 1 : next;
}

function nearestDying(dying: readonly MutableRun[], began: number): MutableRun | undefined {
  return dying.reduce<MutableRun | undefined>(
    (best, run) => (best === undefined || distance(run.start, began) < distance(best.start, began) ? run : best),
    undefined,
  );
}
