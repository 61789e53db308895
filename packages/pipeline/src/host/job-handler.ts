/** Handles a job of one stage: delivers its batch, or finds out whether the job kills processes. */
import type { Logger } from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";
import type { TakenJob } from "../queue/queue-worker.ts";
import { GivenBack, ONCE, tryUntilDecided, type Attempt } from "../deliver/tries.ts";
import type { Host } from "./host.ts";
import { JOB_NAMES } from "../queue/names.ts";
import { JobNotes, deathsOf, type Deaths, type Solitude } from "../hold/solitude.ts";
import { judge, judgeSuspect } from "../deliver/evidence.ts";
import { withRedis } from "../queue/redis-errors.ts";
import type { HeldBatch, Stage } from "./stage.ts";

export interface JobHandlerOptions<P> {
  readonly stage: Stage<P>;
  readonly host: Host;
  /** The stage's queue, to add suspects. */
  readonly queue: Queue;
  /** Shared by everything that runs in the process. */
  readonly solitude: Solitude;
  readonly logger: Logger;
}

/** The result of handling a job. */
export interface Outcome {
  /** What is left; undefined if the whole job is done. */
  readonly rest?: HeldBatch | undefined;
  /** How often the sink was tried. */
  readonly tries: number;
}

const NOT_ASKED: Outcome = { tries: 0 };

export class JobHandler<P> {
  readonly #options: JobHandlerOptions<P>;

  constructor(options: JobHandlerOptions<P>) {
    this.#options = options;
  }

  /** @throws {LetGo} if the job has to stay as it is. */
  async handle(job: TakenJob): Promise<Outcome> {
    const { host, logger, stage } = this.#options;
    if (host.rules.drain.begun.aborted) throw new GivenBack();
    const suspect = job.name === JOB_NAMES.suspect;
    switch (judge({ suspect, stalls: job.stalls, deaths: deathsOf(job).proven })) {
      case "run":
        return suspect ? this.#runSuspect(job) : this.#run(job, (task) => this.#options.solitude.beside(task));
      case "suspect":
        logger.warn({ queue: stage.queueName, job: job.id }, "the process died several times with this job: it will run alone");
        await this.#addSuspects([job.payload], job.timestamp);
        return NOT_ASKED;
      case "bury":
        await this.#buryPayload(job, "crash", "the process died each time it ran this alone, even when it only split it");
        return NOT_ASKED;
    }
  }

  async #run(job: TakenJob, step: Attempt, isDoneWith?: (batch: P) => Promise<boolean>): Promise<Outcome> {
    const { stage, host } = this.#options;
    let batch: P | undefined;
    const failure = await tryUntilDecided(() => step(async () => void (batch = stage.decode(job.payload))), host.rules, ONCE);
    if (failure?.reason === "refused") await this.#buryPayload(job, "payload", failure.error.message);
    if (failure?.reason === "failed") return { tries: 0, rest: unread(job.payload, failure.error) };
    if (batch === undefined || (await isDoneWith?.(batch)) === true) return NOT_ASKED;
    let tries = 0;
    const attempt: Attempt = (task) => {
      tries += 1;
      return step(task);
    };
    const rest = await stage.run(batch, { id: job.id, payload: job.payload, begun: timesBegun(job), attempt, step });
    if (rest === undefined) return { tries };
    const payload = await this.#read(step, () => rest.rest());
    return { tries, rest: { ...rest, rest: () => payload } };
  }

  /** Handles the contents of a batch as a step, because that may kill the process. */
  async #read<T>(step: Attempt, task: () => T): Promise<T> {
    const results: T[] = [];
    const failure = await tryUntilDecided(() => step(async () => void results.push(task())), this.#options.host.rules, ONCE);
    if (failure !== undefined) throw failure.error;
    return results[0] as T;
  }

  async #runSuspect(job: TakenJob): Promise<Outcome> {
    const { solitude, host } = this.#options;
    const { rules } = host;
    const deaths = deathsOf(job);
    const notes = new JobNotes(job, deaths, rules);
    const step: Attempt = (task) => solitude.suspect({ task, unprovenDeaths: deaths.unproven, notes, ending: rules.drain.begun });
    const stopWatching = notes.takeBackAtEnd();
    try {
      return await this.#run(job, step, (batch) => this.#isDoneWith(batch, job, deaths, step));
    } finally {
      stopWatching();
    }
  }

  /** Splits or buries a suspect that is to blame. */
  async #isDoneWith(batch: P, { id, timestamp }: TakenJob, { proven }: Deaths, step: Attempt): Promise<boolean> {
    const { stage, host, logger } = this.#options;
    const size = stage.size(batch);
    switch (judgeSuspect(proven, size)) {
      case "run":
        return false;
      case "split":
        logger.warn({ queue: stage.queueName, job: id, size }, "the process died while this job ran alone: its halves will run alone");
        await this.#addSuspects(await this.#read(step, () => stage.split(batch)), timestamp);
        host.rules.onSplit();
        return true;
      case "bury":
        await tryUntilDecided(() => stage.bury(batch, "crash", "the process died each time it ran this alone"), host.rules);
        return true;
    }
  }

  /** Stores suspects before the job that they come from completes. A kill in between repeats them, and loses nothing. */
  async #addSuspects(payloads: readonly unknown[], timestamp: number): Promise<void> {
    const { host, queue } = this.#options;
    const jobs = payloads.map((data) => ({ name: JOB_NAMES.suspect, data, opts: { timestamp } }));
    await tryUntilDecided(() => withRedis("adding suspects", async () => void (await queue.addBulk(jobs))), host.rules);
  }

  /** Buries a payload that cannot be read, as a whole. */
  async #buryPayload(job: TakenJob, reason: string, detail: string): Promise<void> {
    const { host } = this.#options;
    const letter = { source: host.name, reason, detail, payload: job.payload };
    await tryUntilDecided(() => host.deadLetters.add([letter]), host.rules);
  }
}

/** How often the contents of a job have been begun. A suspect is part of a job that was begun before. */
export function timesBegun({ name, starts }: Pick<TakenJob, "name" | "starts">): number {
  return starts + (name === JOB_NAMES.suspect ? 1 : 0);
}

function unread(payload: unknown, error: Error): HeldBatch {
  return { rest: () => payload, hasWorkers: true, tookSome: false, as: "refused", because: "a payload cannot be read", error };
}
