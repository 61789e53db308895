/** Detects gaps, across sessions: events that may have missed our queue. Counts and logs each gap once. */
import type { Logger } from "@celery-metrics-exporter/runtime";
import type { Arrival } from "../source/arrival.ts";
import { QueueLostError, type Binding, type RabbitmqTopology } from "./topology.ts";

export interface ContinuityOptions {
  readonly topology: RabbitmqTopology;
  readonly arrival: Arrival;
  /** Increments the gap counter. */
  readonly gap: () => void;
  readonly logger: Logger;
}

export class Continuity {
  readonly #options: ContinuityOptions;
  #hadQueue = false;
  #queueLost = false;
  #wasBound = false;
  /** The reason the last binding failed, if it did. */
  #unbound: string | undefined;
  #exchangeMissing = false;

  constructor(options: ContinuityOptions) {
    this.#options = options;
  }

  /** A message arrived. Called for each one. */
  heard(): void {
    this.#options.arrival.heard();
  }

  sessionLost(reason: Error): void {
    if (reason instanceof QueueLostError) this.#queueLost = true;
  }

  /** @param created whether the queue was missing. */
  queueDeclared(created: boolean): void {
    const lost = this.#hadQueue && (created || this.#queueLost);
    this.#hadQueue = true;
    this.#queueLost = false;
    if (!lost) return;
    this.#wasBound = false;
    this.#gap({}, "our queue was deleted and has been recreated; the events in it, and those published meanwhile, are lost");
  }

  /** The queue is bound, newly or still. */
  bound({ exchangeCreated, missingSince }: Binding): void {
    const { arrival, logger, topology } = this.#options;
    const lost = this.#wasBound && (exchangeCreated || this.#exchangeMissing);
    if (lost) this.#gap({}, "the exchange was deleted; our queue is bound again, but events published meanwhile are lost");
    else if (missingSince !== undefined && this.#expectedMessages(missingSince)) this.#bindingLost(missingSince);
    else if (this.#unbound !== undefined)
      logger.info({ exchange: topology.exchange, queue: topology.queue }, "our queue is bound to the exchange");
    this.#wasBound = true;
    this.#unbound = undefined;
    this.#exchangeMissing = false;
    arrival.unblock();
  }

  /** The queue cannot be bound, for this reason. If only a permission is missing, an earlier binding may still exist. */
  unbound(reason: string, exchangeMissing: boolean): void {
    const { arrival, logger, topology } = this.#options;
    this.#exchangeMissing ||= exchangeMissing;
    arrival.block(reason);
    if (this.#unbound !== reason)
      logger.warn({ exchange: topology.exchange, queue: topology.queue, reason }, "our queue cannot be bound to the exchange, retrying");
    this.#unbound = reason;
  }

  /** Whether we were consuming since then. While we are paused, other receivers of the queue get the messages. */
  #expectedMessages(since: number): boolean {
    const { expectedSince } = this.#options.arrival;
    return expectedSince !== undefined && expectedSince <= since;
  }

  #bindingLost(missingSince: number): void {
    const since = new Date(Date.now() - (performance.now() - missingSince)).toISOString();
    this.#gap({ since }, "our queue had lost its binding to the exchange; it is bound again, but events published since then may be lost");
  }

  #gap(fields: object, message: string): void {
    const { gap, logger, topology } = this.#options;
    gap();
    logger.warn({ exchange: topology.exchange, queue: topology.queue, ...fields }, message);
  }
}
