/** Simulated tasks as Celery would report them, and their expected results: derived from Celery's rules, not from our code. */

import type { WireEvent } from "@celery-metrics-exporter/testkit";

/** A row of `celery_task`. Instants in whole microseconds of Unix time. */
export interface ExpectedTask {
  readonly id: string;
  readonly status: "SUCCESS" | "FAILURE" | "REVOKED" | "REJECTED";
  readonly name: string;
  readonly queue: string | null;
  readonly worker: string;
  readonly retries: number;
  readonly args: string;
  readonly result: string | null;
  readonly exception: string | null;
  readonly sentAt: number | null;
  readonly receivedAt: number | null;
  readonly startedAt: number | null;
  readonly finishedAt: number;
  /** In seconds; only for SUCCESS. */
  readonly runtime: number | null;
  /** Samples in seconds that Datadog must receive. */
  readonly waits: readonly { readonly seconds: number; readonly basis: "sent" | "received" }[];
  readonly runs: readonly { readonly seconds: number; readonly state: "success" | "failure" }[];
}

export interface SyntheticTask {
  /** In order of time. */
  readonly events: readonly WireEvent[];
  readonly expected: ExpectedTask;
}

const NAMES = ["charge", "receipt", "resize", "stock", "report", "mail", "sync", "thumbnail"].map((name) => `shop.${name}`);
const QUEUES = ["celery", "payments", "images", "mail"];
const WORKERS = ["w1@host-a", "w2@host-a", "w1@host-b", "w1@host-c"];
const MICROSECONDS = 1_000_000;

type Ending = "success" | "retried" | "failure" | "revoked" | "rejected" | "unsent";

/** Shares in percent. `unsent`: tasks from a client without `task_send_sent_event`. */
const ENDINGS: readonly (readonly [Ending, number])[] = [
  ["success", 78],
  ["retried", 8],
  ["failure", 8],
  ["revoked", 2],
  ["rejected", 1],
  ["unsent", 3],
];

/**
 * One task sent at `startMicros`, done within a second.
 *
 * @param random numbers from 0 (inclusive) to 1 (exclusive).
 */
export function syntheticTask(id: string, startMicros: number, random: () => number): SyntheticTask {
  return new Life(id, startMicros, random).live(pickEnding(random));
}

function pickEnding(random: () => number): Ending {
  let left = random() * 100;
  for (const [ending, share] of ENDINGS) {
    left -= share;
    if (left < 0) return ending;
  }
  return "success";
}

function pick(items: readonly string[], random: () => number): string {
  return items[Math.floor(random() * items.length)] ?? "";
}

class Life {
  readonly #id: string;
  readonly #random: () => number;
  readonly #events: WireEvent[] = [];
  readonly #description;
  readonly #queue: string;
  readonly #waits: { seconds: number; basis: "sent" | "received" }[] = [];
  /** Belongs to the first attempt. */
  #sentAt: number | null = null;
  #receivedAt: number | null = null;
  #startedAt: number | null = null;
  #worker: string;
  #now: number;

  constructor(id: string, startMicros: number, random: () => number) {
    this.#id = id;
    this.#now = startMicros;
    this.#random = random;
    this.#queue = pick(QUEUES, random);
    this.#worker = pick(WORKERS, random);
    const args = `(${Math.floor(random() * 10_000)}, 'customer@example.com')`;
    this.#description = {
      name: pick(NAMES, random),
      args,
      kwargs: "{'priority': 3}",
      root_id: id,
      parent_id: null,
      eta: null,
      expires: null,
    };
  }

  live(ending: Ending): SyntheticTask {
    if (ending === "revoked") {
      this.#send(0);
      this.#tell("task-revoked", { terminated: false, signum: null, expired: false });
      return this.#end("REVOKED", { queue: this.#queue });
    }
    if (ending === "rejected") {
      this.#send(0);
      this.#receive(0);
      this.#tell("task-rejected", { requeue: false });
      return this.#end("REJECTED", { queue: this.#queue });
    }
    const sent = ending !== "unsent";
    let startedAt = this.#attempt(0, sent);
    if (ending === "retried") {
      // The next attempt is sent before the retry is reported (celery/app/task.py, `retry`).
      this.#send(1);
      this.#tell("task-retried", { exception: "TimeoutError('upstream')", traceback: "Traceback (most recent call last): …" });
      this.#worker = pick(WORKERS, this.#random);
      startedAt = this.#attempt(1, false);
    }
    const retries = ending === "retried" ? 1 : 0;
    if (ending === "failure") {
      const exception = "ValueError('no such order')";
      this.#tell("task-failed", { exception, traceback: "Traceback (most recent call last): …" });
      const run = { seconds: (this.#now - startedAt) / MICROSECONDS, state: "failure" as const };
      return this.#end("FAILURE", { queue: this.#queue, retries, exception, runs: [run] });
    }
    const runtime = Math.round(this.#random() * 200_000) / MICROSECONDS;
    const result = `{'total': ${Math.floor(this.#random() * 1_000)}}`;
    this.#tell("task-succeeded", { result, runtime });
    const run = { seconds: runtime, state: "success" as const };
    return this.#end("SUCCESS", { queue: sent ? this.#queue : null, retries, result, runtime, runs: [run] });
  }

  #attempt(retries: number, send: boolean): number {
    let readyAt = this.#sentOf(retries);
    if (send) readyAt = this.#send(retries);
    const receivedAt = this.#receive(retries);
    const startedAt = this.#tell("task-started", {});
    this.#startedAt ??= startedAt;
    const basis = readyAt === null ? "received" : "sent";
    this.#waits.push({ seconds: (startedAt - (readyAt ?? receivedAt)) / MICROSECONDS, basis });
    return startedAt;
  }

  #sentOf(retries: number): number | null {
    const sent = this.#events.find((event) => event.type === "task-sent" && event["retries"] === retries);
    return sent === undefined ? null : Math.round(sent.timestamp * MICROSECONDS);
  }

  #send(retries: number): number {
    const fields = { ...this.#description, retries, queue: this.#queue, exchange: "", routing_key: this.#queue };
    const sentAt = this.#tell("task-sent", fields, "gen17@client-a");
    this.#sentAt ??= sentAt;
    return sentAt;
  }

  #receive(retries: number): number {
    const receivedAt = this.#tell("task-received", { ...this.#description, retries });
    this.#receivedAt ??= receivedAt;
    return receivedAt;
  }

  /** The next event, up to 100 ms after the previous one; its time in microseconds. */
  #tell(type: string, fields: Readonly<Record<string, unknown>>, hostname = this.#worker): number {
    this.#now += 1 + Math.floor(this.#random() * 100_000);
    const clock = this.#events.length + 1;
    const timestamp = this.#now / MICROSECONDS;
    this.#events.push({ hostname, utcoffset: -2, pid: 17, clock, uuid: this.#id, ...fields, timestamp, type });
    return this.#now;
  }

  #end(status: ExpectedTask["status"], fields: Partial<ExpectedTask>): SyntheticTask {
    const { name, args } = this.#description;
    const told = { id: this.#id, status, name, args, worker: this.#worker, finishedAt: this.#now, waits: this.#waits };
    const times = { sentAt: this.#sentAt, receivedAt: this.#receivedAt, startedAt: this.#startedAt };
    const absent = { queue: null, retries: 0, result: null, exception: null, runtime: null, runs: [] };
    return { events: this.#events, expected: { ...absent, ...told, ...times, ...fields } };
  }
}
