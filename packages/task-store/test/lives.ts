/** Random lives of one task as events from Celery, in order of time, with the ends that Datadog must count. */
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import {
  taskFailed,
  taskReceived,
  taskRejected,
  taskRetried,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import * as fc from "fast-check";
import type { FinalState } from "../src/facts/fact.ts";

/** Unix time in seconds. */
export const START = 1_795_328_900;
export const ID = "t";

const HOSTNAMES = ["w1@host-a", "w2@host-b"] as const;
const QUEUES = ["celery", "mail", "reports"] as const;
const EXIT = { exception: "SystemExit(-241)", exited: true };

export interface History {
  /** In order of time. */
  readonly events: readonly TaskEvent[];
  /** The state of each end. */
  readonly ends: readonly FinalState[];
}

const ENDINGS = [
  "succeeds",
  "fails",
  "fails twice",
  "is rejected",
  "is rejected and fails",
  "is lost",
  "exits",
  "is terminated",
  "is terminated and exits",
  "is terminated and succeeds",
  "is terminated and fails",
  "is terminated and succeeds much later",
  "is revoked",
  "is revoked at once",
  "fails before it starts",
] as const;
type Ending = (typeof ENDINGS)[number];

/** The random values of one life. All times are in quarters of a second. */
interface Life {
  readonly retries: number;
  /** The first attempt's queue. Each further attempt is sent to a different queue than the one before it. */
  readonly queue: number;
  /** The attempt that is received under a shadow name, if the life has it. */
  readonly shadowed: number | undefined;
  readonly hostname: number;
  readonly queued: number;
  readonly runs: number;
  readonly cleansUp: number;
  readonly ending: Ending;
  /** A copy of the last attempt's message, some time after its start: it expires, is revoked, or runs during or after the original. */
  readonly copy:
    | { readonly after: number; readonly hostname: number; readonly is: "expired" | "revoked" | "run"; readonly fails: boolean }
    | undefined;
  /** Until the next life. */
  readonly pause: number;
}

const quarters = (max: number): fc.Arbitrary<number> => fc.integer({ min: 1, max });

const anyLife: fc.Arbitrary<Life> = fc.record({
  retries: fc.constantFrom(0, 0, 0, 1, 2),
  queue: fc.nat({ max: 2 }),
  shadowed: fc.option(fc.nat({ max: 2 }), { nil: undefined }),
  hostname: fc.constantFrom(0, 1),
  queued: quarters(400),
  runs: fc.oneof(quarters(40), quarters(800)),
  cleansUp: quarters(36),
  ending: fc.constantFrom(...ENDINGS),
  copy: fc.option(
    fc.record({
      after: fc.oneof(quarters(40), quarters(2_000)),
      hostname: fc.constantFrom(0, 1),
      is: fc.constantFrom("expired", "revoked", "run"),
      fails: fc.boolean(),
    }),
    { freq: 2, nil: undefined },
  ),
  // Longer than a `task-sent` may be late.
  pause: fc.oneof(quarters(8), quarters(1_000)).map((pause) => pause + 9),
});

/** One to four lives of one id, one after the other. */
export const histories: fc.Arbitrary<History> = fc
  .tuple(fc.array(anyLife, { minLength: 1, maxLength: 4 }), fc.boolean(), fc.boolean())
  .map(([lives, areClientsReporting, areWorkersReporting]) => {
    const writer = new Writer(areClientsReporting, areWorkersReporting);
    for (const one of lives) writer.live(one);
    return writer.history();
  });

/** Where and when something happens, and the event's further fields. */
interface Where {
  readonly hostname: number;
  /** Unix time in seconds. */
  readonly at: number;
  readonly [field: string]: unknown;
}

class Writer {
  readonly #events: TaskEvent[] = [];
  readonly #ends: FinalState[] = [];
  /** Whether the clients that send the task emit `task-sent`, and whether the workers that send its retries do. */
  readonly #areClientsReporting: boolean;
  readonly #areWorkersReporting: boolean;
  /** Seconds. */
  #now = START;

  constructor(areClientsReporting: boolean, areWorkersReporting: boolean) {
    this.#areClientsReporting = areClientsReporting;
    this.#areWorkersReporting = areWorkersReporting;
  }

  history(): History {
    return { events: this.#events.toSorted((a, b) => a.timestamp - b.timestamp), ends: this.#ends };
  }

  live(life: Life): void {
    let last = this.#now;
    for (let retries = 0; retries < life.retries; retries += 1) {
      this.#send(life, retries, last);
      const started = this.#start(life, retries, last);
      last = started + life.runs / 4;
      this.#tell(taskRetried, { hostname: life.hostname, at: last });
    }
    this.#send(life, life.retries, last);
    const end = this.#lastAttempt(life, last);
    const copied = life.copy === undefined ? end : this.#copy(life, life.copy, { sent: last, end });
    // The wait for an incomplete task is counted once, so the next life must not begin before it is over.
    const isWaitedFor = /exits|is terminated|is rejected|before it starts/.test(life.ending);
    this.#now = Math.max(end, copied) + life.pause / 4 + (isWaitedFor ? 75 : 0);
  }

  #lastAttempt(life: Life, sent: number): number {
    const { ending, hostname, retries } = life;
    const at = sent + life.queued / 4;
    if (ending === "is revoked at once" || ending === "is revoked") {
      if (ending === "is revoked") this.#receive(life, retries, { hostname, at });
      return this.#end("REVOKED", taskRevoked, { hostname, at: at + 0.125, terminated: false });
    }
    // Without a `task-sent`, no other event would carry its name.
    if (ending === "fails before it starts") return this.#isReported(retries) ? this.#end("FAILURE", taskFailed, { hostname, at }) : at;
    const started = this.#start(life, retries, sent);
    const end = started + life.runs / 4;
    const cleanedUp = end + life.cleansUp / 4;
    const terminate = (): number => this.#tell(taskRevoked, { hostname, at: end, terminated: true });
    switch (ending) {
      case "succeeds":
        return this.#succeed(hostname, started, end);
      case "fails":
        return this.#end("FAILURE", taskFailed, { hostname, at: end });
      case "fails twice":
        this.#tell(taskFailed, { hostname, at: end + 0.002 });
        return this.#end("FAILURE", taskFailed, { hostname, at: end });
      case "is rejected":
        return this.#end("REJECTED", taskRejected, { hostname, at: end });
      case "is rejected and fails":
        this.#tell(taskRejected, { hostname, at: end });
        return this.#end("FAILURE", taskFailed, { hostname, at: end + 0.002 });
      case "exits":
        return this.#end("FAILURE", taskFailed, { hostname, at: end, ...EXIT });
      case "is terminated":
        return this.#end("REVOKED", taskRevoked, { hostname, at: end, terminated: true });
      case "is terminated and exits":
        terminate();
        this.#end("REVOKED", taskFailed, { hostname, at: cleanedUp, ...EXIT });
        return cleanedUp;
      case "is terminated and succeeds":
        terminate();
        return this.#succeed(hostname, started, cleanedUp);
      case "is terminated and fails":
        terminate();
        return this.#end("FAILURE", taskFailed, { hostname, at: cleanedUp });
      case "is terminated and succeeds much later":
        this.#ends.push("REVOKED");
        terminate();
        return this.#succeed(hostname, started, cleanedUp + 60);
      case "is lost":
        return end;
      default:
        return ending satisfies never;
    }
  }

  /** @returns the end of the later of the two. */
  #copy(life: Life, copy: NonNullable<Life["copy"]>, { sent, end }: { readonly sent: number; readonly end: number }): number {
    // Not at the same time as any event of the run itself.
    const at = sent + life.queued / 4 + copy.after / 4 + 0.0625;
    // If two runs are on one worker, no event shows which of them was terminated.
    const hostname = copy.is === "run" && life.ending.includes("terminated") ? 1 - life.hostname : copy.hostname;
    this.#receive(life, life.retries, { hostname, at });
    if (copy.is !== "run") {
      return this.#end("REVOKED", taskRevoked, { hostname, at: at + 0.03125, terminated: false, expired: copy.is === "expired" });
    }
    this.#tell(taskStarted, { hostname, at: at + 0.015625 });
    const done = Math.max(end, at) + 20.03125;
    return copy.fails ? this.#end("FAILURE", taskFailed, { hostname, at: done }) : this.#succeed(hostname, at + 0.015625, done);
  }

  #send({ queue }: Life, retries: number, at: number): void {
    const name = QUEUES[(queue + retries) % QUEUES.length] ?? QUEUES[0];
    if (this.#isReported(retries)) this.#events.push(taskSent({ uuid: ID, timestamp: at, retries, queue: name }));
  }

  #isReported(retries: number): boolean {
    return retries === 0 ? this.#areClientsReporting : this.#areWorkersReporting;
  }

  #receive({ shadowed }: Life, retries: number, where: Where): void {
    this.#tell(taskReceived, { ...where, retries, ...(shadowed === retries && { name: "My Report" }) });
  }

  #start(life: Life, retries: number, sent: number): number {
    const { queued, hostname } = life;
    const at = sent + queued / 4;
    this.#receive(life, retries, { hostname, at });
    this.#tell(taskStarted, { hostname, at: at + 0.125 });
    return at + 0.125;
  }

  #succeed(hostname: number, started: number, at: number): number {
    return this.#end("SUCCESS", taskSucceeded, { hostname, at, runtime: at - started - 0.001 });
  }

  #end<F>(state: FinalState, build: (fields: F) => TaskEvent, fields: Where): number {
    this.#ends.push(state);
    return this.#tell(build, fields);
  }

  #tell<F>(build: (fields: F) => TaskEvent, { hostname, at, ...fields }: Where): number {
    this.#events.push(build({ uuid: ID, hostname: HOSTNAMES[hostname], timestamp: at, ...fields } as F));
    return at;
  }
}
