/** Knows, over all sessions, whether events may have passed our queue by: counts and logs each such gap once. */
import type { Logger } from "@celery-metrics-exporter/runtime";
import type { Arrival } from "../source/arrival.ts";
import { QueueLostError, type Binding, type RabbitmqTopology } from "./topology.ts";

export interface ContinuityOptions {
  readonly topology: RabbitmqTopology;
  readonly arrival: Arrival;
  /** Counts a gap. */
  readonly gap: () => void;
  readonly logger: Logger;
}

export class Continuity {
  readonly #options: ContinuityOptions;
  #hadQueue = false;
  #queueLost = false;
  #wasBound = false;
  /** Why the queue could not be bound last time, if it could not. */
  #unbound: string | undefined;
  #exchangeMissing = false;

  constructor(options: ContinuityOptions) {
    this.#options = options;
  }

  /** A message came. Called for each one. */
  heard(): void {
    this.#options.arrival.heard();
  }

  sessionLost(reason: Error): void {
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
  bound({ exchangeCreated, missingSince }: Binding): void {
    const { arrival, logger, topology } = this.#options;
    const lost = this.#wasBound && (exchangeCreated || this.#exchangeMissing);
    if (lost) this.#gap({}, "the exchange was deleted: our queue is bound again, and events published meanwhile are missing");
    else if (missingSince !== undefined && this.#expectedMessages(missingSince)) this.#bindingLost(missingSince);
    else if (this.#unbound !== undefined)
      logger.info({ exchange: topology.exchange, queue: topology.queue }, "our queue is bound to the exchange");
    this.#wasBound = true;
    this.#unbound = undefined;
    this.#exchangeMissing = false;
    arrival.unblock();
  }

  /** The queue cannot be bound, for this reason. One that was bound before may still be, if it is a permission that is missing. */
  unbound(reason: string, exchangeMissing: boolean): void {
    const { arrival, logger, topology } = this.#options;
    this.#exchangeMissing ||= exchangeMissing;
    arrival.block(reason);
    if (this.#unbound !== reason)
      logger.warn(
        { exchange: topology.exchange, queue: topology.queue, reason },
        "our queue cannot be bound to the exchange; trying again",
      );
    this.#unbound = reason;
  }

  /** While we hold back, other receivers of the queue take what comes. */
  #expectedMessages(since: number): boolean {
    const { expectedSince } = this.#options.arrival;
    return expectedSince !== undefined && expectedSince <= since;
  }

  #bindingLost(missingSince: number): void {
    const since = new Date(Date.now() - (performance.now() - missingSince)).toISOString();
    this.#gap({ since }, "our queue had lost its binding to the exchange: bound again, and events published since may be missing");
  }

  #gap(fields: object, message: string): void {
    const { gap, logger, topology } = this.#options;
    gap();
    logger.warn({ exchange: topology.exchange, queue: topology.queue, ...fields }, message);
  }
}
