/** Knows, over all sessions, whether events may have passed our queue by: counts and logs each such gap once. */
import type { Logger } from "@celery-metrics-exporter/runtime";
import type { Arrival } from "./arrival.ts";
import { HeartbeatRhythm } from "./rabbitmq-rhythm.ts";
import { QueueLostError, type Binding, type RabbitmqTopology } from "./rabbitmq-topology.ts";

export interface ContinuityOptions {
  readonly topology: RabbitmqTopology;
  readonly arrival: Arrival;
  /** How long a binding may bring nothing before it is repeated. */
  readonly quietMs: number;
  /** Counts a gap. */
  readonly gap: () => void;
  readonly logger: Logger;
}

export class Continuity {
  readonly #options: ContinuityOptions;
  readonly #rhythm: HeartbeatRhythm;
  #hadQueue = false;
  #queueLost = false;
  #wasBound = false;
  /** Why the queue could not be bound last time, if it could not. */
  #unbound: string | undefined;
  #exchangeMissing = false;

  constructor(options: ContinuityOptions) {
    this.#options = options;
    // Less, because a message that came just before a tick counts as of that tick.
    this.#rhythm = new HeartbeatRhythm(options.quietMs * 0.75);
  }

  /** A message came. Called for each one. */
  heard(routingKey: string): void {
    this.#options.arrival.heard();
    if (!routingKey.startsWith("worker.")) return;
    const lastAt = this.#rhythm.heard(routingKey, performance.now());
    if (lastAt === undefined) return;
    const since = new Date(Date.now() - (performance.now() - lastAt)).toISOString();
    this.#gap({ since }, "our queue had lost its binding to the exchange: bound again, and events published since are missing");
  }

  /** Nothing was to be heard for a while. */
  paused(): void {
    this.#rhythm.interrupted();
  }

  sessionLost(reason: Error): void {
    this.#rhythm.interrupted();
    if (reason instanceof QueueLostError) this.#queueLost = true;
  }

  /** @param created whether it was missing. */
  queueDeclared(created: boolean): void {
    const lost = this.#hadQueue && (created || this.#queueLost);
    this.#hadQueue = true;
    this.#queueLost = false;
    if (!lost) return;
    this.#wasBound = false;
    this.#gap({}, "our queue was deleted: it is there again, and the events it held, or that were published meanwhile, are missing");
  }

  /** The queue is bound, now or still. */
  bound({ exchangeCreated }: Binding): void {
    const { arrival, logger, topology } = this.#options;
    const lost = this.#wasBound && (exchangeCreated || this.#exchangeMissing);
    if (lost) this.#gap({}, "the exchange was deleted: our queue is bound again, and events published meanwhile are missing");
    else if (this.#unbound !== undefined)
      logger.info({ exchange: topology.exchange, queue: topology.queue }, "our queue is bound to the exchange");
    this.#wasBound = true;
    this.#unbound = undefined;
    this.#exchangeMissing = false;
    arrival.unblock();
    // A gap that is known is not to be found again by the heartbeats that follow.
    if (lost) this.#rhythm.interrupted();
    else this.#rhythm.repeated(performance.now());
  }

  /** The queue cannot be bound, for this reason. One that was bound before may still be, if it is a permission that is missing. */
  unbound(reason: string, exchangeMissing: boolean): void {
    const { arrival, logger, topology } = this.#options;
    this.#exchangeMissing ||= exchangeMissing;
    this.#rhythm.interrupted();
    arrival.block(reason);
    if (this.#unbound !== reason)
      logger.warn(
        { exchange: topology.exchange, queue: topology.queue, reason },
        "our queue cannot be bound to the exchange; trying again",
      );
    this.#unbound = reason;
  }

  #gap(fields: object, message: string): void {
    const { gap, logger, topology } = this.#options;
    gap();
    logger.warn({ exchange: topology.exchange, queue: topology.queue, ...fields }, message);
  }
}
