/** Detects silence: warns if no message arrives for a minute, and says what to check. */
import { type ComponentHealth, type Logger, Repeat, toError } from "@celery-metrics-exporter/runtime";

export interface ArrivalOptions {
  /** Inspects the broker and says what to check, in one or more sentences. Called only after a silence. May take some seconds. */
  readonly advise: () => Promise<string>;
  /** Up while events can arrive. During a silence it stays up, because perhaps no worker runs, but shows the advice. */
  readonly health: ComponentHealth;
  readonly logger: Logger;
  /** Silence before the first warning, in milliseconds. Default: one minute. Each worker sends a heartbeat every 2 s. */
  readonly silenceMs?: number;
}

const SILENCE_MS = 60_000;
/** Limit on the interval between warnings, which doubles each time. */
const MAX_INTERVAL_MS = 3_600_000;

interface Moment {
  /** `performance.now()` */
  readonly ms: number;
  readonly date: Date;
}

export class Arrival {
  readonly #options: ArrivalOptions;
  readonly #silenceMs: number;
  #repeat: Repeat | undefined;
  #heard = false;
  /** Time since which we are connected and accept messages (`performance.now()`); undefined otherwise. */
  #expectedSince: number | undefined;
  /** When the current silence began; undefined while no message can be expected. */
  #silentSince: Moment | undefined;
  #nextWarningMs: number;
  #warned = false;
  #looking = false;
  #blocked = false;

  constructor(options: ArrivalOptions) {
    this.#options = options;
    this.#silenceMs = options.silenceMs ?? SILENCE_MS;
    this.#nextWarningMs = this.#silenceMs;
  }

  /** A message arrived. Called for each one, so it must be cheap. */
  heard(): void {
    this.#heard = true;
  }

  /** Time since which we are connected and accept messages (`performance.now()`); undefined otherwise. */
  get expectedSince(): number | undefined {
    return this.#expectedSince;
  }

  /** Whether no event can arrive. */
  get isBlocked(): boolean {
    return this.#blocked;
  }

  /** From now on, messages can be expected unless they are blocked. Idempotent. */
  expect(): void {
    if (this.#expectedSince !== undefined) return;
    this.#expectedSince = performance.now();
    if (!this.#blocked) this.#listen();
  }

  /** From now on, silence is normal: we are disconnected or not consuming. */
  expectNothing(): void {
    this.#expectedSince = undefined;
    this.#silentSince = undefined;
  }

  /** No event can arrive, for this reason. Makes the component unready. */
  block(reason: string): void {
    this.#blocked = true;
    this.#warned = false;
    this.#silentSince = undefined;
    this.#options.health.down(reason);
  }

  /** Events can arrive again. Idempotent. */
  unblock(): void {
    if (!this.#blocked) return;
    this.#blocked = false;
    this.#options.health.up();
    if (this.#expectedSince !== undefined) this.#listen();
  }

  stop(): void {
    void this.#repeat?.stop();
    this.#repeat = undefined;
    this.expectNothing();
  }

  #listen(): void {
    this.#silentSince = now();
    if (!this.#warned) this.#options.health.up();
    this.#repeat ??= new Repeat(() => this.#look(), { everyMs: Math.min(1_000, this.#silenceMs / 4) });
  }

  #look(): void {
    if (this.#heard) {
      this.#heard = false;
      if (this.#warned) this.#options.logger.info("messages are arriving");
      this.#warned = false;
      if (this.#silentSince === undefined) return;
      this.#options.health.up();
      this.#silentSince = now();
      this.#nextWarningMs = this.#silenceMs;
      return;
    }
    if (this.#silentSince === undefined || this.#looking) return;
    if (performance.now() - this.#silentSince.ms >= this.#nextWarningMs) void this.#warn(this.#silentSince);
  }

  async #warn(silence: Moment): Promise<void> {
    const { advise, health, logger } = this.#options;
    this.#looking = true;
    const advice = await advise().catch((thrown: unknown) => `the broker could not be inspected: ${toError(thrown).message}`);
    this.#looking = false;
    // Meanwhile a message arrived or the connection was lost.
    if (this.#heard || this.#silentSince !== silence) return;
    this.#nextWarningMs += Math.min(this.#nextWarningMs, MAX_INTERVAL_MS);
    this.#warned = true;
    health.up(`up, but no message has arrived since ${silence.date.toISOString()}: ${advice}`);
    const seconds = Math.round((performance.now() - silence.ms) / 1_000);
    logger.warn({ seconds, advice }, "no message has arrived from Celery, not even a worker's heartbeat");
  }
}

function now(): Moment {
  return { ms: performance.now(), date: new Date() };
}
