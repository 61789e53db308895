/** Repeats the binding of our queue during a session: a deleted exchange removes the binding, and RabbitMQ does not notify us. */
import { type Logger, Repeat, backoffMs, toError } from "@celery-metrics-exporter/runtime";
import type { Channel, ChannelModel } from "amqplib";
import { countQueue } from "./advice.ts";
import {
  ACCESS_REFUSED,
  type AmqpError,
  type Binding,
  type RabbitmqTopology,
  attempt,
  bindQueue,
  QueueLostError,
  QueueRefusedError,
} from "./topology.ts";
import { DeniedError } from "../source/source.ts";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Arrival } from "../source/arrival.ts";

/** Silence after which the binding is repeated. A binding that carries messages is checked after twice as long. */
export const QUIET_MS = 8_000;
const TICKS = 4;
/** Length of a probe before the binding is repeated, as a fraction of the silence. Workers send a heartbeat every 2 s. */
const PROBE = 0.75;
/** Limit on the time without repetition while messages prove the binding, as a multiple of the silence. */
const TRUSTED = 20;
/**
 * Delays while the exchange is missing. Short at first, because messages published between its creation and our binding are lost. Then longer,
 * because each attempt adds a line to RabbitMQ's log.
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
  /** The queue cannot be bound, for this reason. Retried until it can. */
  readonly onUnbound: (reason: string, exchangeMissing: boolean) => void;
  /** Our queue is missing, or the connection is gone. */
  readonly onLost: (reason: Error) => void;
}

export class BindingKeeper {
  readonly #options: BindingKeeperOptions;
  readonly #checks: Repeat;
  #repeatedAt = performance.now();
  /** When the binding was last repeated or proven. */
  #knownAt = performance.now();
  #heard = false;
  #heardAt = this.#repeatedAt;
  /** Whether the broker refuses probes. */
  #probeRefused = false;
  /** Failed attempts since the queue was last bound. */
  #failures: number;

  constructor(options: BindingKeeperOptions, binding: Binding) {
    this.#options = options;
    this.#failures = binding.missing === undefined ? 0 : 1;
    const everyMs = (): number => this.#waitMs();
    this.#checks = new Repeat((signal) => this.#check(signal), { everyMs, onError: options.onLost });
  }

  /** A message arrived that was published to this exchange. Called for each one. */
  heard(exchange: string): void {
    if (exchange === this.#options.topology.exchange) this.#heard = true;
  }

  stop(): void {
    void this.#checks.stop();
  }

  #waitMs(): number {
    if (this.#failures === 0) return this.#options.quietMs / TICKS;
    return backoffMs(this.#failures - 1, { firstMs: FIRST_RETRY_MS, maxMs: MAX_RETRY_MS });
  }

  async #check(signal: AbortSignal): Promise<void> {
    const now = performance.now();
    if (this.#heard) this.#heardAt = now;
    this.#heard = false;
    const { quietMs } = this.#options;
    const isQuiet = now - this.#heardAt >= quietMs;
    const knownFor = now - this.#knownAt;
    if (this.#failures > 0 || (isQuiet ? knownFor >= quietMs : knownFor >= 2 * quietMs && !(await this.#works(now)))) {
      await this.#bind(isQuiet ? await this.#missingSince() : undefined, signal);
    }
  }

  /** Probes the binding once per silence. Returns the time since which it is missing, if it is. */
  async #missingSince(): Promise<number | undefined> {
    const { connection, topology, quietMs, logger } = this.#options;
    if (this.#failures > 0 || this.#probeRefused || this.#heardAt <= this.#repeatedAt) return undefined;
    // `#heardAt` is the time of a tick, up to one tick after the message.
    const since = this.#heardAt - quietMs / TICKS;
    const found = await probeBinding({ connection, topology, heard: () => this.#heard, listenMs: PROBE * quietMs });
    if (found === "refused") {
      this.#probeRefused = true;
      logger.info(
        { queue: topology.queue },
        "cannot detect a lost binding of our queue: that requires the permission to create queues with its name followed by .probe. and an id",
      );
    }
    return found === "missing" ? since : undefined;
  }

  /** Whether the binding is proven: messages that arrive while the queue is empty were published just now. */
  async #works(now: number): Promise<boolean> {
    const { connection, topology, quietMs } = this.#options;
    if (now - this.#repeatedAt >= TRUSTED * quietMs) return false;
    const { waiting } = await countQueue(connection, topology.queue).catch(() => ({ waiting: undefined }));
    const isEmpty = waiting === 0;
    if (isEmpty) this.#knownAt = now;
    return isEmpty;
  }

  async #bind(missingSince: number | undefined, signal: AbortSignal): Promise<void> {
    const { connection, topology, logger, onBound, onUnbound, onLost } = this.#options;
    if (signal.aborted) return;
    try {
      const binding = await bindQueue(connection, topology, logger);
      if (signal.aborted) return;
      this.#repeatedAt = performance.now();
      this.#knownAt = this.#repeatedAt;
      this.#failures = binding.missing === undefined ? 0 : this.#failures + 1;
      if (binding.missing === undefined) onBound(missingSince === undefined ? binding : { ...binding, missingSince });
      else onUnbound(binding.missing, true);
    } catch (thrown) {
      if (signal.aborted) return;
      this.#failures += 1;
      // A refused binding does not end the session: messages in the queue can still be read.
      if (thrown instanceof DeniedError) onUnbound(thrown.message, false);
      else onLost(toError(thrown));
    }
  }
}

// The probe checks whether our queue is bound. Repeating the binding does not show that: RabbitMQ's answer is the same in both cases.

export interface ProbeOptions {
  readonly connection: ChannelModel;
  readonly topology: RabbitmqTopology;
  /** Whether a message of the exchange arrived through our queue since the probe began. */
  readonly heard: () => boolean;
  /** Time limit for listening. */
  readonly listenMs: number;
}

/** Number of rounds to observe: consumers take turns, so each gets one of this many messages per consumer. */
const TURNS = 2;
/** Extra time for a message in our queue, which is written to disk, compared to the probe. */
const GRACE_MS = 1_500;

/**
 * Listens to the exchange through a separate queue, which the broker deletes with its consumer. A message that reaches the probe but not our queue
 * was lost to us. Every other cause of a silence (a worker busy with a task, an alarm that blocks publishers, no workers) silences the probe too.
 *
 * @returns `missing` if our queue is certainly not bound, `refused` if we may not listen, otherwise `unknown`. Never throws.
 */
export async function probeBinding({ connection, topology, heard, listenMs }: ProbeOptions): Promise<"missing" | "unknown" | "refused"> {
  const { exchange, queue } = topology;
  const { consumers = 1 } = await countQueue(connection, queue).catch(() => ({ consumers: undefined }));
  const enough = TURNS * Math.max(1, consumers);
  let overheard = 0;
  const listen = async (channel: Channel): Promise<void> => {
    const probe = `${queue}.probe.${randomUUID()}`;
    await channel.assertQueue(probe, { exclusive: true, autoDelete: true, durable: false });
    await channel.bindQueue(probe, exchange, "#");
    // Limits how many messages are sent to the probe.
    await channel.prefetch(enough, false);
    await channel.consume(probe, () => (overheard += 1));
    const until = performance.now() + listenMs;
    const isOver = (): boolean => overheard >= enough || heard() || performance.now() >= until;
    while (!isOver()) await sleep(listenMs / 50);
  };
  const failed = await attempt(connection, listen).catch((thrown: unknown): AmqpError => toError(thrown));
  if (failed?.code === ACCESS_REFUSED) return "refused";
  // The exchange is missing, or the connection has ended.
  if (failed !== undefined || overheard < enough) return "unknown";
  await sleep(GRACE_MS);
  const { waiting } = await countQueue(connection, queue).catch(() => ({ waiting: undefined }));
  return !heard() && waiting === 0 ? "missing" : "unknown";
}

// Detects gaps, across sessions: events that may have missed our queue. Counts and logs each gap once.

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

  /** A session ended or could not be opened, for this reason. */
  sessionFailed(reason: Error): void {
    if (reason instanceof QueueLostError || reason instanceof QueueRefusedError) this.#queueLost = true;
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
