/** Warns about events that Celery is not configured to send: users would only see that there are no tasks. */
import { ownText, type CeleryEvent, type WorkerEvent } from "@celery-metrics-exporter/celery";
import type { Logger } from "@celery-metrics-exporter/runtime";

const WINDOW_SECONDS = 60;
/** Minimum number of tasks for a warning: receivers share a queue, so each sees only some events, and a few missing ones mean nothing. */
const ENOUGH_TASKS = 10;
/** Limit on the workers to remember, because a sender may use a new hostname for each heartbeat. */
const MAX_WORKERS = 1_000;

/** How many tasks a worker reports to have run: `counted` of them have been counted here. */
interface Processed {
  counted: number;
  last: number;
  /** Whether it sent a heartbeat in this window. */
  heard: boolean;
}

/**
 * Gives each warning once:
 *
 * - Heartbeats show that workers have run tasks (`processed` grows), but no task event has arrived: the workers were started without `-E`.
 *   Tasks are added up until the first task event, so that even a few tasks a day are noticed. After the first one, the count restarts every
 *   minute.
 * - Workers receive tasks, but no client has ever reported that it sent one: `task_send_sent_event` is off.
 */
export class EventAdvice {
  readonly #logger: Logger;
  readonly #now: () => number;
  #windowEnd: number;
  /** When adding up began. */
  #since: number;
  #done = 0;
  #taskEvents = 0;
  #everTaskEvent = false;
  #received = 0;
  #sent = 0;
  /** The last report of each worker. */
  readonly #processed = new Map<string, Processed>();
  #saidEventsOff = false;
  #saidSentOff = false;

  /** @param now Unix time in seconds. */
  constructor(logger: Logger, now: () => number = () => Date.now() / 1_000) {
    this.#logger = logger;
    this.#now = now;
    this.#since = now();
    this.#windowEnd = this.#since + WINDOW_SECONDS;
  }

  observe(events: readonly CeleryEvent[]): void {
    for (const event of events) {
      if (event.type === "task-sent") this.#sent += 1;
      else if (event.type === "task-received") this.#received += 1;
      if (event.type === "worker-heartbeat") this.#heartbeat(event as WorkerEvent);
      else if (event.type.startsWith("task-") && event.type !== "task-sent") this.#taskEvents += 1;
    }
    if (this.#now() >= this.#windowEnd) this.#closeWindow();
  }

  #heartbeat({ hostname, processed }: WorkerEvent): void {
    // The answer to a broadcast has no `processed` (celery/worker/control.py, `heartbeat`).
    if (processed === undefined) return;
    const known = this.#processed.get(hostname);
    if (known !== undefined) Object.assign(known, { last: processed, heard: true });
    else if (this.#processed.size < MAX_WORKERS)
      this.#processed.set(ownText(hostname), { counted: processed, last: processed, heard: true });
  }

  #closeWindow(): void {
    this.#count();
    if (this.#taskEvents === 0 && this.#done >= ENOUGH_TASKS && !this.#saidEventsOff) {
      this.#saidEventsOff = true;
      this.#logger.warn(
        { tasksDone: this.#done, seconds: Math.round(this.#now() - this.#since) },
        "workers run tasks but send no task events: start them with -E, or set worker_send_task_events = True, or let the monitor switch them on (CELERY_ENABLE_EVENTS=true)",
      );
    }
    if (this.#sent === 0 && this.#received >= ENOUGH_TASKS && !this.#saidSentOff) {
      this.#saidSentOff = true;
      this.#logger.warn(
        "no task-sent event has arrived, so queues and send times are unknown: set task_send_sent_event = True in the clients",
      );
    }
    this.#windowEnd = this.#now() + WINDOW_SECONDS;
    this.#everTaskEvent ||= this.#taskEvents > 0;
    this.#taskEvents = 0;
    if (!this.#everTaskEvent) return;
    this.#since = this.#now();
    this.#done = 0;
  }

  #count(): void {
    const isFull = this.#processed.size >= MAX_WORKERS;
    for (const [hostname, worker] of this.#processed) {
      this.#done += Math.max(0, worker.last - worker.counted);
      // A busy worker may be silent for many windows.
      if (isFull && !worker.heard) this.#processed.delete(hostname);
      Object.assign(worker, { counted: worker.last, heard: false });
    }
  }
}
