/** Repeats the binding of our queue for as long as a session lasts: an exchange that is deleted takes it away, and nobody is told. */
import { type Logger, backoffMs, toError } from "@celery-metrics-exporter/runtime";
import type { Channel, ChannelModel } from "amqplib";
import { countQueue } from "./advice.ts";
import { ACCESS_REFUSED, type AmqpError, type Binding, type RabbitmqTopology, attempt, bindQueue } from "./topology.ts";
import { RefusedError } from "../source/source.ts";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

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

// Finds out whether our queue is bound: RabbitMQ answers a repeated binding alike whether it was there or not.

export interface ProbeOptions {
  readonly connection: ChannelModel;
  readonly topology: RabbitmqTopology;
  /** Whether our queue has brought a message of the exchange since the probe began. */
  readonly heard: () => boolean;
  /** How long to listen at most. */
  readonly listenMs: number;
}

/** What is published while consumers take turns reaches each of them within so many messages. */
const TURNS = 2;
/** So long a message may take longer through our queue, which is written to disk, than through the probe. */
const GRACE_MS = 1_500;

/**
 * Listens to the exchange with a queue of its own, which the broker deletes with its consumer. What the probe hears and our queue does not get
 * has passed us by. Whatever else explains a silence (a worker that is busy with a task, an alarm that holds up publishers, nobody there)
 * silences the probe as well.
 *
 * @returns `missing` if our queue is certainly not bound; `unknown` where nothing shows that; `refused` where we may not listen. Never throws.
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
    // No more than that is sent, however much is published.
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
