/**
 * A fact is one thing an event says about a task, as the Store keeps it: the NAME of a hash field. Adding a fact is adding to a set, so it does
 * not matter how often and in which order facts arrive.
 *
 *   s<at>.<name>.<queue>.<retries>.<eta>   task-sent
 *   r<at>.<host>.<name>.<retries>.<eta>    task-received
 *   b<at>.<host>                           task-started ("begun")
 *   f<at>.<host>.<state><detail>           a final
 *
 * Instants are microseconds and runtimes nanoseconds, in base 36; hosts are hashes; empty parts at the end are left out. Names and queues are
 * the keys of texts that the same hash holds (`texts.ts`); a `!` after the name marks an attempt that a filter excludes. A final's detail is
 * the runtime of a success, and for the others `1` where it belongs to a termination: a revocation of a running task, or the failure of a task
 * whose process got a signal; and `0` for the failure of a task that its worker does not know.
 *
 * The name of the field is the fact's identity. Its value is no part of that, and the first one stays: empty, or `1` once what follows from the
 * fact was sent; and after it `|<worker>|<exception>`, where the opt-in tags want them.
 */

/** The states that end a task, or one run of it. */
export type FinalState = "SUCCESS" | "FAILURE" | "REVOKED" | "REJECTED";

interface FactBase {
  /** The hash field. */
  readonly field: string;
  /** Microseconds since the epoch, by the sender's clock. */
  readonly at: number;
  /** Whether what follows from it was sent. */
  readonly sent: boolean;
}

/** Which attempt a message was for, and not before when. */
interface Message extends FactBase {
  readonly retries: number;
  /** Microseconds since the epoch. */
  readonly eta: number | undefined;
  /** The key of the name's text; empty where the event had none. */
  readonly name: string;
  /** Whether a filter excludes this attempt. */
  readonly excluded: boolean;
}

export interface SentFact extends Message {
  /** The key of the queue's text; empty where the event had none. */
  readonly queue: string;
}

export interface ReceivedFact extends Message {
  readonly host: string;
}

export interface StartedFact extends FactBase {
  readonly host: string;
  /** Where `keepWorker` is on. */
  readonly worker: string | undefined;
}

export interface FinalFact extends FactBase {
  readonly host: string;
  readonly state: FinalState;
  /** Seconds; only of SUCCESS. */
  readonly runtime: number | undefined;
  /** REVOKED: the task was running and was terminated. FAILURE: its process got a signal, as a termination sends one. */
  readonly terminated: boolean;
  /** Whether no run came before it. REVOKED: the message was expired, or revoked before it started. FAILURE: its worker does not know the task. */
  readonly unbegun: boolean;
  readonly worker: string | undefined;
  /** The exception's class, where `keepException` is on. */
  readonly exception: string | undefined;
}

/** What the opt-in tags need; both cost memory. */
export interface FactOptions {
  readonly keepWorker: boolean;
  readonly keepException: boolean;
}

/** A task's facts, told apart by kind. */
export interface Facts {
  readonly sent: readonly SentFact[];
  readonly received: readonly ReceivedFact[];
  readonly started: readonly StartedFact[];
  readonly finals: readonly FinalFact[];
}

/** How a final's state is written. */
export const STATE_LETTERS: Readonly<Record<FinalState, string>> = { SUCCESS: "S", FAILURE: "F", REVOKED: "V", REJECTED: "J" };

/** How a final is written that belongs to a termination. */
export const TERMINATED = "1";

/** How a failure is written of a task that its worker does not know. */
export const UNKNOWN_TASK = "0";

/** Follows the name of an attempt that a filter excludes. */
export const EXCLUDED = "!";

/** What the value of a fact begins with once its consequences were sent. */
export const SENT = "1";

/** Comes before each thing that an opt-in tag needs. */
export const DETAIL = "|";
