/** One of several receivers that get the same messages: either active, by its leadership in Redis, or on standby with the messages of the last seconds. */
import type { Broadcast } from "@celery-metrics-exporter/broker";
import type { LeadershipAnswer, Leadership } from "@celery-metrics-exporter/pipeline";
import { type ComponentHealth, type Logger, type Metrics, Repeat, toError } from "@celery-metrics-exporter/runtime";

export interface HotStandbyOptions {
  readonly broadcast: Broadcast;
  readonly leadership: Leadership;
  readonly metrics: Metrics;
  /** Up as `active`, or as `standby: ` and the reason. */
  readonly health: ComponentHealth;
  readonly logger: Logger;
}

const ANOTHER = "another receiver is active";
const TURN_MS = 1_000;
/** Extra time for which a standby keeps messages: a broker with several nodes may answer a probe on another route than its messages take. */
const MARGIN_MS = 2_000;

/**
 * Requests the leadership every second. The leader hands over its messages. The others keep theirs, and drop those that the leadership
 * holder reports as safe. A receiver that has missed messages gives the leadership up, because another may have received them.
 */
export class HotStandby {
  readonly #options: HotStandbyOptions;
  readonly #takeovers;
  /** While active: its `completeSince`, the time since which it has missed nothing, at the moment it became active. */
  #activeSince: number | undefined;
  #heldUntil = Number.NEGATIVE_INFINITY;
  /** Why it is on standby; undefined while it is active, and before it knows. */
  #standsBy: string | undefined;
  #turns: Repeat | undefined;
  #draining = false;

  constructor(options: HotStandbyOptions) {
    this.#options = options;
    const { broadcast, metrics } = options;
    this.#takeovers = metrics.counter(
      "receiver_takeovers_total",
      "Times this receiver took over from another; covered=no if some events may have reached neither.",
      { covered: ["yes", "no"] },
    );
    const active = metrics.gauge("receiver_active", "1 while this receiver enqueues events, 0 while it is on standby.");
    Object.assign(active, { collect: () => active.set(this.isActive ? 1 : 0) });
    broadcast.keep();
  }

  /** Call once the source has started. Resolves after the first request for the leadership. */
  async start(): Promise<void> {
    this.#options.health.up("standby: it is not known yet which receiver is active");
    this.#turns = new Repeat(() => this.#turn(), {
      everyMs: TURN_MS,
      first: "now",
      // Nothing can be enqueued either, and the health component of Redis is down.
      onError: (err) => this.#options.logger.debug({ err }, "cannot request the leadership for now"),
    });
    await this.#turns.firstRun;
  }

  /** Call before the source is drained: then a standby no longer becomes active, and an active receiver stays active until `stop`. */
  drain(): void {
    this.#draining = true;
  }

  /** Call when everything taken is safe: lets another receiver take over at once. Safe without `start`. */
  async stop(): Promise<void> {
    const { broadcast, leadership } = this.#options;
    await this.#turns?.stop();
    if (this.#activeSince === undefined) return;
    try {
      await leadership.release(broadcast.completeSince === this.#activeSince ? broadcast.safeUntil : undefined);
    } catch (thrown) {
      this.#options.logger.debug({ err: toError(thrown) }, "lease not released: it will expire");
    }
  }

  get isActive(): boolean {
    return this.#activeSince !== undefined && performance.now() <= this.#heldUntil;
  }

  async #turn(): Promise<void> {
    const { broadcast, leadership } = this.#options;
    const { completeSince, safeUntil } = broadcast;
    const wasActive = this.#activeSince !== undefined;
    if (this.#draining && !wasActive) return;
    // What is safe now says nothing about what was missed, so the leadership must keep the last reported value.
    if (completeSince === undefined || (wasActive && completeSince !== this.#activeSince)) {
      if (wasActive) await this.#giveUp();
      return;
    }
    const answer = await leadership.claim(wasActive ? { completeSince, safeUntil } : { completeSince });
    if (answer.held) this.#lead(answer, completeSince);
    else this.#standBy(answer);
  }

  #lead({ heldUntil, safeUntil, takeover }: LeadershipAnswer, completeSince: number): void {
    const { broadcast, health, logger } = this.#options;
    if (this.#activeSince === undefined) {
      this.#forget(safeUntil);
      this.#standsBy = undefined;
      health.up("active");
      const covered = takeover?.covered === false ? "no" : "yes";
      if (takeover !== undefined) this.#takeovers.inc({ covered });
      logger.info(takeover === undefined ? {} : { covered: covered === "yes" }, "active: enqueuing events");
    }
    this.#activeSince = completeSince;
    this.#heldUntil = heldUntil;
    broadcast.handOverUntil(heldUntil);
  }

  #standBy({ safeUntil }: LeadershipAnswer): void {
    this.#becomeStandby(ANOTHER);
    this.#activeSince = undefined;
    this.#forget(safeUntil);
  }

  async #giveUp(): Promise<void> {
    this.#becomeStandby("the broker's messages were interrupted");
    await this.#options.leadership.release();
    this.#activeSince = undefined;
  }

  #becomeStandby(reason: string): void {
    const { broadcast, health, logger } = this.#options;
    broadcast.keep();
    this.#heldUntil = Number.NEGATIVE_INFINITY;
    if (this.#standsBy === reason) return;
    this.#standsBy = reason;
    health.up(`standby: ${reason}`);
    logger.info({ reason }, "on standby: keeping the last seconds of events, to take over if the active receiver fails");
  }

  #forget(safeUntil: number | undefined): void {
    if (safeUntil !== undefined) this.#options.broadcast.forget(safeUntil - MARGIN_MS);
  }
}
