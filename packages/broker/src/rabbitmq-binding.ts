/** Repeats the binding of our queue for as long as a session lasts: an exchange that is deleted takes it away, and nobody is told. */
import { backoffMs, toError, type Logger } from "@celery-metrics-exporter/runtime";
import type { ChannelModel } from "amqplib";
import { countQueue } from "./rabbitmq-advice.ts";
import { probeBinding } from "./rabbitmq-probe.ts";
import { bindQueue, type Binding, type RabbitmqTopology } from "./rabbitmq-topology.ts";
import { RefusedError } from "./refused-error.ts";

/** A binding that brings nothing is repeated after this long; any other is looked at after twice as long. */
export const QUIET_MS = 8_000;
const TICKS = 4;
/** Of the time after which a binding is repeated: so long a silence is looked into before. Workers send a heartbeat every 2 s. */
const PROBE = 0.75;
/** So many times as long a binding is not repeated while messages show that it is there. */
const TRUSTED = 20;
/**
 * Without the exchange: soon at first, because what is published between its making and our binding is missed; then less often, because each
 * try leaves a line in RabbitMQ's log.
 */
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 5_000;

export interface BindingKeeperOptions {
  readonly connection: ChannelModel;
  readonly topology: RabbitmqTopology;
  readonly logger: Logger;
  readonly quietMs: number;
  /** The queue is bound. */
  readonly onBound: (binding: Binding) => void;
  /** It cannot be bound for this reason; tried again until it can. */
  readonly onUnbound: (reason: string, exchangeMissing: boolean) => void;
  /** Our queue is missing, or the connection is gone. */
  readonly onLost: (reason: Error) => void;
}

export class BindingKeeper {
  readonly #options: BindingKeeperOptions;
  #timer: NodeJS.Timeout | undefined;
  #repeatedAt = performance.now();
  /** When the binding was repeated or seen to work. */
  #knownAt = performance.now();
  #heard = false;
  #heardAt = this.#repeatedAt;
  /** Whether the broker does not let us look into a silence. */
  #probeRefused = false;
  /** Tries in vain since the queue was bound. */
  #failures: number;
  #stopped = false;

  constructor(options: BindingKeeperOptions, binding: Binding) {
    this.#options = options;
    this.#failures = binding.missing === undefined ? 0 : 1;
    this.#schedule();
  }

  /** A message came that was published to this exchange. Called for each one. */
  heard(exchange: string): void {
    if (exchange === this.#options.topology.exchange) this.#heard = true;
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    if (this.#stopped) return;
    const waitMs =
      this.#failures === 0
        ? this.#options.quietMs / TICKS
        : backoffMs(this.#failures - 1, { firstMs: FIRST_RETRY_MS, maxMs: MAX_RETRY_MS });
    this.#timer = setTimeout(() => void this.#tick(), waitMs);
  }

  async #tick(): Promise<void> {
    const now = performance.now();
    if (this.#heard) this.#heardAt = now;
    this.#heard = false;
    const { quietMs } = this.#options;
    const isQuiet = now - this.#heardAt >= quietMs;
    const knownFor = now - this.#knownAt;
    if (this.#failures > 0 || (isQuiet ? knownFor >= quietMs : knownFor >= 2 * quietMs && !(await this.#works(now)))) {
      await this.#repeat(isQuiet ? await this.#missingSince() : undefined);
    }
    this.#schedule();
  }

  /** Looks once into a silence. */
  async #missingSince(): Promise<number | undefined> {
    const { connection, topology, quietMs, logger } = this.#options;
    if (this.#failures > 0 || this.#probeRefused || this.#heardAt <= this.#repeatedAt) return undefined;
    // A message that came just before a tick counts as of that tick.
    const since = this.#heardAt - quietMs / TICKS;
    const found = await probeBinding({ connection, topology, heard: () => this.#heard, listenMs: PROBE * quietMs });
    if (found === "refused") {
      this.#probeRefused = true;
      logger.info(
        { queue: topology.queue },
        "cannot tell whether our queue loses its binding: for that the broker would have to let us make queues named after it, with .probe. and more behind",
      );
    }
    return found === "missing" ? since : undefined;
  }

  /** Messages that come while none waits have just been published: the binding is there. */
  async #works(now: number): Promise<boolean> {
    const { connection, topology, quietMs } = this.#options;
    if (now - this.#repeatedAt >= TRUSTED * quietMs) return false;
    const { waiting } = await countQueue(connection, topology.queue).catch(() => ({ waiting: undefined }));
    const isEmpty = waiting === 0;
    if (isEmpty) this.#knownAt = now;
    return isEmpty;
  }

  async #repeat(missingSince: number | undefined): Promise<void> {
    const { connection, topology, logger, onBound, onUnbound, onLost } = this.#options;
    if (this.#stopped) return;
    try {
      const binding = await bindQueue(connection, topology, logger);
      if (this.#stopped) return;
      this.#repeatedAt = performance.now();
      this.#knownAt = this.#repeatedAt;
      this.#failures = binding.missing === undefined ? 0 : this.#failures + 1;
      if (binding.missing === undefined) onBound(missingSince === undefined ? binding : { ...binding, missingSince });
      else onUnbound(binding.missing, true);
    } catch (thrown) {
      if (this.#stopped) return;
      this.#failures += 1;
      // What is in the queue can still be read.
      if (thrown instanceof RefusedError) onUnbound(thrown.message, false);
      else onLost(toError(thrown));
    }
  }
}
