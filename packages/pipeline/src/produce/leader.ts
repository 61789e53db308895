/** One of several processes of a role does its work, by the leadership in Redis. The others stand by. */
import { type ComponentHealth, type Logger, Repeat, toError } from "@celery-metrics-exporter/runtime";
import type { Leadership } from "./leadership.ts";

export interface LeaderOptions {
  readonly leadership: Leadership;
  /** Name of the role, for people. */
  readonly role: string;
  /** Up as `active` or `standby: …`. */
  readonly health: ComponentHealth;
  readonly logger: Logger;
  /** Whether this process can do the work now. If not, another one may. Default: always. */
  readonly isAble?: () => boolean;
  /** Interval of the requests for the leadership. Default 1 s. */
  readonly everyMs?: number;
}

const EVERY_MS = 1_000;
const NEVER = Number.NEGATIVE_INFINITY;

export class Leader {
  readonly #options: LeaderOptions;
  #heldUntil = NEVER;
  #activeSince = NEVER;
  #wasActive: boolean | undefined;
  #turns: Repeat | undefined;

  constructor(options: LeaderOptions) {
    this.#options = options;
  }

  /** Resolves after the first request for the leadership. Never throws. */
  async start(): Promise<void> {
    const { health, logger, everyMs = EVERY_MS } = this.#options;
    health.up("standby: it is not known yet which one is active");
    this.#turns = new Repeat(() => this.#turn(), {
      everyMs,
      first: "now",
      // The health component of Redis is down.
      onError: (err) => logger.debug({ err }, "cannot request the leadership for now"),
    });
    await this.#turns.firstRun;
  }

  /** Whether this process is to do the work now. False also if Redis has not confirmed it for some seconds. */
  get isActive(): boolean {
    return performance.now() <= this.#heldUntil;
  }

  /** Since when it is active without a gap, monotonic, in milliseconds. Before that, another process may have been. */
  get activeSince(): number {
    return this.#activeSince;
  }

  /** Whether this process was active until Redis stopped answering. Another one may be active by now, if Redis answers that one. */
  get isUncertain(): boolean {
    return this.#heldUntil !== NEVER && !this.isActive;
  }

  /** Lets another process take over at once. Safe without `start`. */
  async stop(): Promise<void> {
    await this.#turns?.stop();
    await this.#release();
  }

  async #release(): Promise<void> {
    const { isActive } = this;
    this.#heldUntil = NEVER;
    if (!isActive) return;
    try {
      await this.#options.leadership.release();
    } catch (thrown) {
      this.#options.logger.debug({ err: toError(thrown) }, "leadership not given up: it will expire");
    }
  }

  async #turn(): Promise<void> {
    const { leadership, role, health, logger, isAble = () => true } = this.#options;
    if (!isAble()) {
      await this.#release();
      health.up("standby: this process cannot do the work now");
      return;
    }
    const { held, heldUntil } = await leadership.claim({ completeSince: performance.now() });
    if (held && !this.isActive) this.#activeSince = performance.now();
    this.#heldUntil = held ? heldUntil : NEVER;
    health.up(held ? "active" : `standby: another ${role} is active`);
    if (held !== this.#wasActive) logger.info(held ? `active ${role}` : `on standby: another ${role} is active`);
    this.#wasActive = held;
  }
}
