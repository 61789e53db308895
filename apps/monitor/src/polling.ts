/** One kind of periodic work of the active monitor: its schedule, its metrics, and what is said while it fails. */
import { DeniedError } from "@celery-metrics-exporter/broker";
import { type ComponentHealth, type Logger, type Metrics, Outage, Repeat, abortable, toError } from "@celery-metrics-exporter/runtime";

export interface PollingOptions {
  /** Label of the metrics. */
  readonly kind: "queues" | "workers";
  /** What it does, for people: "count the queues". */
  readonly what: string;
  readonly everyMs: number;
  readonly isActive: () => boolean;
  /** Whether something has changed since the last call, so that it is worth looking before the interval is over. Called every second. */
  readonly isWantedSoon?: () => Promise<boolean>;
  /** Must not outlast the signal's abort by much. */
  readonly poll: (signal: AbortSignal) => Promise<void>;
  readonly metrics: Metrics;
  readonly health: ComponentHealth;
  readonly logger: Logger;
}

/** How often it is checked whether a poll is due: a monitor that becomes active polls at once. */
const TICK_MS = 1_000;
const TIMEOUT_MS = 30_000;
/** A worker says that it is online a moment before it listens to questions. */
const SOON_MS = 500;
/** If it looks for other workers first, or its machine is busy, that takes some seconds. So a poll that was wanted is repeated. */
const AGAIN_MS = 8_000;
/** From one poll to the next, however many are wanted. */
const SHORTEST_MS = 5_000;
/** Failures in a row until not ready. A single one, such as a reconnect, is no outage. */
const TOLERATED = 2;

export class Polling {
  readonly #options: PollingOptions;
  readonly #polls;
  readonly #lastSuccess;
  readonly #outage: Outage;
  #ticks: Repeat | undefined;
  #polledAt = Number.NEGATIVE_INFINITY;
  #dueAt = 0;
  /** Whether the next poll comes early, and is to be repeated. */
  #isEarly = false;
  #failures = 0;

  constructor(options: PollingOptions) {
    this.#options = options;
    const { kind, what, metrics, health, logger } = options;
    this.#polls = metrics.counter("monitor_polls_total", "Times the monitor looked, by what it looked at and how that ended.", {
      kind: [kind],
      outcome: ["ok", "failed", "denied"],
    });
    this.#lastSuccess = metrics.gauge(
      "monitor_last_success_timestamp_seconds",
      "When the monitor last looked successfully; 0 before the first time.",
      ["kind"],
    );
    this.#lastSuccess.set({ kind }, 0);
    this.#outage = new Outage({ logger, began: `cannot ${what}, retrying`, lasts: `still cannot ${what}`, ended: `can ${what} again` });
    health.up();
  }

  start(): void {
    this.#ticks = new Repeat((signal) => this.#tick(signal), { everyMs: TICK_MS, first: "now" });
  }

  /** Resolves when nothing runs any more. Safe without `start`. */
  async stop(): Promise<void> {
    await this.#ticks?.stop();
  }

  async #tick(stopped: AbortSignal): Promise<void> {
    const { isActive, everyMs, poll, isWantedSoon } = this.#options;
    if (!isActive()) {
      this.#standBy();
      return;
    }
    // Without Redis, the poll would fail too.
    if (await isWantedSoon?.().catch(() => false)) {
      this.#isEarly = true;
      this.#dueAt = Math.min(this.#dueAt, Math.max(performance.now() + SOON_MS, this.#polledAt + SHORTEST_MS));
    }
    const now = performance.now();
    if (now < this.#dueAt) return;
    this.#polledAt = now;
    this.#dueAt = now + (this.#isEarly ? Math.min(AGAIN_MS, everyMs) : everyMs) - TICK_MS / 2;
    this.#isEarly = false;
    const signal = AbortSignal.any([stopped, AbortSignal.timeout(TIMEOUT_MS)]);
    try {
      await abortable(poll(signal), signal);
      this.#succeeded();
    } catch (thrown) {
      if (!stopped.aborted) this.#failed(toError(thrown));
    }
  }

  #standBy(): void {
    this.#dueAt = 0;
    this.#failures = 0;
    this.#options.health.up();
  }

  #succeeded(): void {
    const { kind, health } = this.#options;
    this.#failures = 0;
    this.#polls.inc({ kind, outcome: "ok" });
    this.#lastSuccess.set({ kind }, Date.now() / 1_000);
    this.#outage.served();
    health.up();
  }

  #failed(error: Error): void {
    const { kind, health } = this.#options;
    const isDenied = error instanceof DeniedError;
    this.#polls.inc({ kind, outcome: isDenied ? "denied" : "failed" });
    this.#outage.failed({ reason: error.message });
    this.#failures += 1;
    // Without the permission the rest works as well as before: whoever wants that need not be woken.
    if (isDenied) health.up(`not permitted: ${error.message}`);
    else if (this.#failures > TOLERATED) health.down(error.message);
  }
}
