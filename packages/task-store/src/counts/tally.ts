/**
 * What a task's events count as: one item per event, with the name and queue of the event's own attempt. It follows from the task's facts alone, so it does
 * not matter in which order or how often they arrived.
 *
 * An event of another event's message has its labels: a start and an end those of the message that the worker ran, a retry those of the start before it.
 * Two `task-failed` of one run count once: a hard time limit sends two.
 */
import type { Facts, FinalState, ReceivedFact, SentFact, StartedFact } from "../facts/fact.ts";
import { byInstant } from "../facts/order.ts";
import type { TaskEntry } from "../facts/task-entry.ts";
import { type Attempt, Attempts, type Labels } from "../completions/attempts.ts";
import { type MessagesOf, isPlain, pair, type Run } from "../completions/runs.ts";

export type TalliedKind = "sent" | "received" | "started" | "succeeded" | "failed" | "revoked" | "rejected" | "retried";

export interface TalliedEvent extends Labels {
  readonly kind: TalliedKind;
  /** The worker's full name, if `keepWorker` is on. Always undefined for `sent`. */
  readonly worker: string | undefined;
  /** The exception's class, of a failure, if `keepException` is on. */
  readonly exception: string | undefined;
  /** Of a success, as Celery measured it; of a failure, from its start. In seconds. */
  readonly runtime: number | undefined;
  /** Of a start whose `task-sent` is known: how long it waited after that, or after its ETA if that is later. In seconds, at least 0. */
  readonly wait: number | undefined;
  /** Of a start whose `task-received` is known and has no ETA: how long it was in the worker's memory. In seconds, at least 0. */
  readonly prefetch: number | undefined;
}

/** A message that no worker has received. */
export interface WaitingMessage extends Labels {
  /** When it was sent, or its ETA if that is later. Seconds since the epoch, by the client's clock. */
  readonly since: number;
}

/** A message without an ETA that a worker has received and not begun. */
interface PrefetchedMessage extends Labels {
  /** When it was received. Seconds since the epoch, by the worker's clock. */
  readonly since: number;
  /** The worker's full name, if `keepWorker` is on. */
  readonly worker: string | undefined;
}

export interface Tally {
  readonly events: readonly TalliedEvent[];
  readonly waiting: readonly WaitingMessage[];
  readonly prefetched: PrefetchedMessage | undefined;
  /** Whether the task has ended and nothing of it is under way, as far as is known. */
  readonly ended: boolean;
}

const KINDS: Readonly<Record<FinalState, TalliedKind>> = {
  SUCCESS: "succeeded",
  FAILURE: "failed",
  REVOKED: "revoked",
  REJECTED: "rejected",
};

const NOTHING_MORE: Partial<TalliedEvent> = {};

export function tally(entry: TaskEntry): Tally {
  return entry.facts.repeats.length === 0 && isPlain(entry.facts) ? tallyPlain(entry) : tallyAny(entry);
}

/** The shortcut for nearly every task: all of its events are of one message, so they have the same name and queue. */
function tallyPlain({ facts, texts }: TaskEntry): Tally {
  const [sent, received, start, final] = [facts.sent[0], facts.received[0], facts.started[0], facts.finals[0]];
  const textOf = (key = ""): string | undefined => (key === "" ? undefined : texts.get(key));
  const name = textOf(sent?.name) ?? textOf(received?.name);
  const queue = textOf(sent?.queue);
  const events: TalliedEvent[] = [];
  const add = (kind: TalliedKind, { worker, exception, runtime, wait, prefetch }: Partial<TalliedEvent> = NOTHING_MORE): void => {
    events.push({ kind, name, queue, worker, exception, runtime, wait, prefetch });
  };
  const ended = final !== undefined;
  if ((sent ?? received)?.excluded === true) return { events, waiting: [], prefetched: undefined, ended };
  if (sent !== undefined) add("sent");
  if (received !== undefined) add("received", { worker: received.worker });
  if (start !== undefined) {
    const wait = sent && secondsBetween(Math.max(sent.at, sent.eta ?? 0), start.at);
    const prefetch = received === undefined || received.eta !== undefined ? undefined : secondsBetween(received.at, start.at);
    add("started", { worker: start.worker, wait, prefetch });
  }
  if (final !== undefined) {
    const ofFailure = start === undefined || final.unbegun ? undefined : secondsBetween(start.at, final.at);
    const { state, worker, exception } = final;
    if (state === "FAILURE") add("failed", { worker, exception, runtime: ofFailure });
    else add(KINDS[state], { worker, runtime: final.runtime });
  }
  const isBegun = start !== undefined || ended;
  const waits = sent !== undefined && received === undefined && !isBegun;
  const isPrefetched = received !== undefined && received.eta === undefined && !isBegun;
  return {
    events,
    waiting: waits ? [{ name, queue, since: waitingSince(sent) }] : [],
    prefetched: isPrefetched ? { name, queue, worker: received.worker, since: received.at / 1e6 } : undefined,
    ended,
  };
}

/** From instants in microseconds. At least 0, because two clocks may be involved. */
function secondsBetween(from: number, to: number): number {
  return Math.max(to - from, 0) / 1e6;
}

/** In seconds since the epoch. */
function waitingSince({ at, eta = 0 }: SentFact): number {
  return Math.max(at, eta) / 1e6;
}

type Add = (kind: TalliedKind, attempt: Attempt, rest?: Partial<TalliedEvent>) => void;

/** The same for any task. */
export function tallyAny(entry: TaskEntry): Tally {
  const { sent, received, started, finals, repeats } = entry.facts;
  const { runs, messages } = pair(entry.facts);
  const attempts = new Attempts(entry, messages);
  const events: TalliedEvent[] = [];
  const add: Add = (kind, { name, queue, excluded }, { worker, exception, runtime, wait, prefetch } = NOTHING_MORE) => {
    if (!excluded) events.push({ kind, name, queue, worker, exception, runtime, wait, prefetch });
  };
  for (const fact of sent) add("sent", attempts.ofSent(fact));
  const delivered = new Set<unknown>();
  let prefetched: ReceivedFact | undefined;
  for (const fact of received) {
    const message = messages.ofReceived(fact);
    if (message === undefined) continue;
    if (message.sent !== undefined) delivered.add(message.sent);
    add("received", attempts.ofReceived(fact, message), { worker: fact.worker });
    if (prefetched === undefined || fact.at > prefetched.at) prefetched = fact;
  }
  for (const start of started) {
    const attempt = attempts.ofStart(start);
    const { sent: begun, received: receipt } = attempt;
    if (begun !== undefined) delivered.add(begun);
    const wait = begun === undefined ? undefined : attempts.waitBefore(start)?.seconds;
    const isOwn = receipt !== undefined && receipt.eta === undefined && !attempts.lacksMessage(start);
    const prefetch = isOwn ? secondsBetween(receipt.at, start.at) : undefined;
    add("started", attempt, { worker: start.worker, wait, prefetch });
  }
  for (const run of runs) addEnds(run, attempts, started, add);
  for (const repeat of repeats) {
    add(repeat.kind === "retried" ? "retried" : "rejected", attempts.ofRepeat(repeat), { worker: repeat.worker });
  }
  for (const run of runs) {
    const begun = attempts.ofRun(run).sent;
    if (begun !== undefined) delivered.add(begun);
  }
  const waiting = sent.flatMap((fact) => {
    const attempt = attempts.ofSent(fact);
    if (delivered.has(fact) || attempt.excluded) return [];
    return [{ name: attempt.name, queue: attempt.queue, since: waitingSince(fact) }];
  });
  const ended = finals.length > 0 && waiting.length === 0 && !isUnderWay(entry.facts, runs);
  return { events, waiting, prefetched: prefetched && prefetchedMessage(prefetched, entry.facts, attempts, messages), ended };
}

/**
 * At most one of a task: its latest, if that is the last that a worker told of the task. So a lost event, a redelivery or a worker that died is forgotten with
 * the next event.
 */
function prefetchedMessage(
  latest: ReceivedFact,
  { started, finals, repeats }: Facts,
  attempts: Attempts,
  messages: MessagesOf,
): PrefetchedMessage | undefined {
  const isLast = [started, finals, repeats].every((facts) => facts.every(({ at }) => at < latest.at));
  const message = messages.ofReceived(latest);
  if (!isLast || latest.eta !== undefined || message === undefined) return undefined;
  const { name, queue, excluded } = attempts.ofReceived(latest, message);
  return excluded ? undefined : { name, queue, worker: latest.worker, since: latest.at / 1e6 };
}

/** Whether another message than those that ended was received or started. */
function isUnderWay({ received, started, finals, repeats }: Facts, runs: readonly Run[]): boolean {
  const lastEnd = Math.max(...finals.map(({ at }) => at));
  if (received.some(({ at }) => at > lastEnd)) return true;
  const ended = new Set(runs.map(({ start }) => start));
  const goesOn = ({ hostname, at }: StartedFact): boolean => !repeats.some((repeat) => repeat.hostname === hostname && repeat.at >= at);
  // A success takes the start that fits its runtime, and after a retry that may be the earlier one. Then the later one is the one that ended.
  const mistaken = new Set(runs.flatMap(({ start }) => (start === undefined || goesOn(start) ? [] : start.hostname)));
  return started.some((start) => !ended.has(start) && goesOn(start) && !mistaken.has(start.hostname));
}

function addEnds(run: Run, attempts: Attempts, started: readonly StartedFact[], add: Add): void {
  const attempt = attempts.ofRun(run);
  let failedAt: number | undefined;
  for (const final of run.finals.toSorted(byInstant)) {
    const kind = KINDS[final.state];
    const { worker, exception, at, hostname } = final;
    if (kind !== "failed") {
      add(kind, attempt, { worker, runtime: final.runtime });
      continue;
    }
    const since = failedAt;
    failedAt = at;
    if (since !== undefined && !started.some((start) => start.hostname === hostname && start.at > since && start.at <= at)) continue;
    const runtime = run.start === undefined || final.unbegun ? undefined : secondsBetween(run.start.at, at);
    add(kind, attempt, { worker, exception, runtime });
  }
}
