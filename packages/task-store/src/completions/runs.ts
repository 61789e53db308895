/** Pairs the facts of a task: which message each start belongs to, and which start each end. */
import type { Facts, FinalFact, ReceivedFact, SentFact, StartedFact } from "../facts/fact.ts";
import { type Beginning, type Message, Messages, areOfSameAttempt, cameAt, dueAt, isRetryOf } from "./messages.ts";
import { EXIT_YIELDS_SECONDS } from "@celery-metrics-exporter/celery";
import { countNotAfter, inOrder } from "../facts/order.ts";

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

// The runs of a task that came to an end, worked out from its finals and starts, for each worker by itself.
//
// Nothing in a final names its run, and one run can send several: a hard time limit two `task-failed` 2 ms apart, a rejection in Celery 5.6 a
// `task-failed` and a `task-rejected`, a termination a `task-revoked` and whatever the task's process makes of the signal. And a task can run
// more than once: sent again under its id, redelivered after its worker was lost, or past Redis' visibility timeout while it still runs.
//
// So the finals of a worker are taken in order of time, each with the starts before it that no run has taken yet. What is decided for one final
// depends on nothing later: a task that is looked at while it goes on gets the same runs as one that is looked at afterwards.
//
//   revoked      without `terminated` it ended no run: the message was expired, or was revoked before it started. It stands alone, and so does
//                the failure of a task that its worker does not know.
//   succeeded    is a run of its own (Celery never repeats it), with the start nearest to when it says it began.
//   failed,      within a second of another one, with no start in between: a repeat. Otherwise a run of its own, with the latest start left;
//   rejected     without one a repeat after all, if a failure was the last end and no message came since.
//   terminated   takes the latest start left, and waits for how its run ends. Told again before that end, it is a repeat.
//
// But a run that was retried or replaced has no final. So where another attempt came after a start and nothing has begun it (see `messages.ts`),
// the final is of that one: its own start is not known (yet), or never was. A success is still of the start if that is nearer to when it says it
// began, and a termination unless the other attempt is a retry: only what runs is terminated, and a replacement may wait beside it.
//
// A terminated run ends in one of these ways: its process exits because of the signal (a failure with `SystemExit`), which belongs to the
// termination however long the task cleaned up; or the task catches the signal and ends by itself. Within `EXIT_YIELDS_SECONDS` that end
// replaces the termination; later, or once the termination was sent, both count.

/** A run that ended, or a revocation that ended none. */
export interface Run {
  /** Undefined where it is not known, or never was. */
  readonly start: StartedFact | undefined;
  /** In order. */
  readonly finals: readonly [FinalFact, ...FinalFact[]];
  /** Whether one of the finals may be of a further run, whose start is not known (yet). */
  readonly isDoubtful: boolean;
  /** Whether it was terminated, rejected or told to exit, and an end that replaces this may still come. */
  readonly mayEndOtherwise: boolean;
}

interface MutableRun extends Run {
  readonly finals: [FinalFact, ...FinalFact[]];
  isDoubtful: boolean;
  mayEndOtherwise: boolean;
  /** When its termination was told first. */
  terminatedAt: number | undefined;
}

/** Microseconds within which Celery repeats a failure. It does so within milliseconds; a busy worker takes longer. */
const REPEATED_WITHIN = 1e6;
/** Microseconds. */
const CLEANS_UP_WITHIN = EXIT_YIELDS_SECONDS * 1e6;

/** Each worker's runs in the order in which they ended. Hands each start, and each end without one, its message. */
function runsOf({ finals, started }: Facts, messages: Messages): readonly Run[] {
  const hosts = new Map<string, HostRuns>();
  for (const fact of inOrder<Beginning>([...started, ...finals])) {
    let runs = hosts.get(fact.host);
    if (runs === undefined) {
      runs = new HostRuns(messages);
      hosts.set(fact.host, runs);
    }
    if ("state" in fact) runs.end(fact);
    else runs.start(fact);
  }
  return [...hosts.values()].flatMap((runs) => runs.all());
}

/** Whether it only reports that a signal made the run's process exit. */
export function isExit({ state, terminated }: FinalFact): boolean {
  return state === "FAILURE" && terminated;
}

export function isTermination({ state, terminated }: FinalFact): boolean {
  return state === "REVOKED" && terminated;
}

/** The run of a task's only end. */
function endAlone(final: FinalFact, start: StartedFact | undefined): Run {
  const mayEndOtherwise = isTermination(final) || isExit(final) || final.state === "REJECTED";
  return { start, finals: [final], isDoubtful: false, mayEndOtherwise };
}

class HostRuns {
  readonly #messages: Messages;
  readonly #runs: MutableRun[] = [];
  /** Starts that no run has taken, in order. */
  readonly #left: StartedFact[] = [];
  /** Terminated runs whose own end is not known, in order. */
  #dying: MutableRun[] = [];
  /** The run that ended last. */
  #last: MutableRun | undefined;
  /** When this worker told something last. */
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

  /** What a worker tells comes in order. */
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
      // Its exit was told first.
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

  /** The run that was terminated last, if no other has started since. */
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

  /** The start at this place of those that are left, if this may be its end. */
  #take(place: number, final: FinalFact): StartedFact | undefined {
    const start = this.#left[place];
    if (start === undefined || this.#endsLaterRun(final, start)) return undefined;
    this.#left.splice(place, 1);
    return start;
  }

  /** Whether it rather ends a run after that of this start, of which only the message is known. */
  #endsLaterRun(final: FinalFact, start: StartedFact): boolean {
    const message = this.#messages.waitingFor(final);
    if (message === undefined || cameAt(message) <= start.at) return false;
    const began = beganAt(final);
    // A worker begins what it has received, and not before its ETA: clocks do not matter there.
    if (began !== undefined) return message.received ? dueAt(message) <= began : cameAt(message) - began < distance(start, began);
    const begun = this.#messages.of(start);
    return isTermination(final) ? isRetryOf(message, begun) : !areOfSameAttempt(message, begun);
  }

  /** Whether a message has come since this instant that nothing has begun. */
  #hasComeSince(at: number, final: FinalFact): boolean {
    const message = this.#messages.waitingFor(final);
    return message !== undefined && cameAt(message) > at;
  }

  /** A terminated run ends. */
  #endDying(dying: MutableRun, final: FinalFact): void {
    this.#dying = this.#dying.filter((run) => run !== dying);
    const isTold = !final.sent && dying.finals.some(({ sent }) => sent);
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
    // What was terminated before this run began has ended unseen.
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

/** When a success says its run began, by its worker's clock; undefined where it does not. */
function beganAt({ at, runtime }: FinalFact): number | undefined {
  return runtime === undefined ? undefined : at - runtime * 1e6;
}

function distance(start: StartedFact | undefined, began: number): number {
  return start === undefined ? Number.POSITIVE_INFINITY : Math.abs(start.at - began);
}

/** The index of the start nearest to an instant, of starts in order; -1 where there is none. */
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
