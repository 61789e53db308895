/** Keeps our queue from expiring while we are connected but not consuming: RabbitMQ considers a queue without a consumer unused. */
import { Repeat } from "@celery-metrics-exporter/runtime";
import type { Channel, ChannelModel } from "amqplib";
import { NOT_FOUND, QueueLostError, attempt, type RabbitmqTopology } from "./topology.ts";

/** Limit on the interval of checks that the queue exists. */
const MAX_CHECK_MS = 30_000;
/**
 * Limit on the interval of uses. Each use counts as a delivery of the first message, and RabbitMQ 4.0 to 4.2 drop a message after 20 deliveries from a
 * queue declared without our `x-delivery-limit`.
 */
const MAX_USE_MS = 3_600_000;

export interface KeepAliveOptions {
  readonly connection: ChannelModel;
  readonly topology: RabbitmqTopology;
  /** Whether there is a consumer, which keeps the queue in use. */
  readonly isConsuming: () => boolean;
  /** The queue is missing, or the broker refuses something else. */
  readonly onLost: (reason: Error) => void;
}

export class KeepAlive {
  readonly #options: KeepAliveOptions;
  readonly #useMs: number;
  readonly #repeat: Repeat;
  /** When the queue was last known to be in use. */
  #usedAt = 0;

  constructor(options: KeepAliveOptions) {
    this.#options = options;
    // A third of the expiry, so that one renewal may be late.
    const { queueExpiresMs } = options.topology;
    this.#useMs = Math.min(queueExpiresMs / 3, MAX_USE_MS);
    this.#repeat = new Repeat(() => this.#renew(), { everyMs: Math.min(queueExpiresMs / 3, MAX_CHECK_MS), onError: options.onLost });
  }

  stop(): void {
    void this.#repeat.stop();
  }

  async #renew(): Promise<void> {
    if (this.#options.isConsuming()) {
      this.#usedAt = Date.now();
      return;
    }
    // Timers may be early by a millisecond.
    if (Date.now() - this.#usedAt >= this.#useMs * 0.9) await this.#use();
    else await this.#check();
  }

  async #check(): Promise<void> {
    await this.#attempt((channel, queue) => channel.checkQueue(queue));
  }

  /**
   * Gets a message, if any, and returns it to its position. That restarts `x-expires` regardless of the queue's arguments. A declaration renews a
   * classic queue but not a quorum queue, and would recreate a missing queue without its binding. A passive declaration renews neither (measured with
   * RabbitMQ 3.10).
   */
  async #use(): Promise<void> {
    await this.#attempt(async (channel, queue) => {
      const message = await channel.get(queue);
      if (message !== false) channel.nack(message, false, true);
    });
    this.#usedAt = Date.now();
  }

  async #attempt(step: (channel: Channel, queue: string) => Promise<unknown>): Promise<void> {
    const { connection, topology } = this.#options;
    const failed = await attempt(connection, (channel) => step(channel, topology.queue));
    if (failed === undefined) return;
    throw failed.code === NOT_FOUND ? new QueueLostError("our queue is missing (was it deleted?)", { cause: failed }) : failed;
  }
}
