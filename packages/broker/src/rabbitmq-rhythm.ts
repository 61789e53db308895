/** Notices from the workers' heartbeats that a binding was missing: RabbitMQ answers a repeated binding alike whether it was there or not. */

/** A silence must be this many times longer than the usual pause between heartbeats. */
const UNUSUAL = 4;
/** Heartbeats must come back within this after the binding was repeated: workers send one every 2 s. */
const BACK_WITHIN_MS = 4_000;
/** So many heartbeats make a rhythm. */
const ENOUGH = 4;

const HEARTBEAT = "worker.heartbeat";
const ONLINE = "worker.online";

/**
 * Heartbeats that were regular, stopped, and came back right after the binding was repeated, without a worker having come online, show that
 * the binding had been missing. Moments are `performance.now()`.
 */
export class HeartbeatRhythm {
  readonly #minSilenceMs: number;
  #lastAt: number | undefined;
  #usualMs = 0;
  #count = 0;
  #repeatedAt: number | undefined;

  /** @param minSilenceMs shorter silences mean nothing. */
  constructor(minSilenceMs: number) {
    this.#minSilenceMs = minSilenceMs;
  }

  /** @returns when the last heartbeat had come before the binding was lost, if this message shows that it was; else undefined. */
  heard(routingKey: string, now: number): number | undefined {
    if (routingKey === ONLINE) this.interrupted();
    if (routingKey !== HEARTBEAT) return undefined;
    const lastAt = this.#lastAt;
    const repeatedAt = this.#repeatedAt;
    this.#lastAt = now;
    this.#repeatedAt = undefined;
    if (lastAt === undefined) return undefined;
    if (repeatedAt !== undefined && now - repeatedAt <= BACK_WITHIN_MS) return lastAt;
    this.#usualMs = Math.max(now - lastAt, this.#usualMs * 0.9);
    this.#count += 1;
    return undefined;
  }

  /** The binding was repeated just now. */
  repeated(now: number): void {
    if (this.#lastAt === undefined || this.#repeatedAt !== undefined || this.#count < ENOUGH) return;
    if (now - this.#lastAt >= Math.max(this.#minSilenceMs, UNUSUAL * this.#usualMs)) this.#repeatedAt = now;
  }

  /** Something else explains a silence: forget the rhythm. */
  interrupted(): void {
    this.#lastAt = undefined;
    this.#repeatedAt = undefined;
    this.#usualMs = 0;
    this.#count = 0;
  }
}
