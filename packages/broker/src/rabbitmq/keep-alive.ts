/** Keeps our queue from expiring while we are connected but not consuming: RabbitMQ considers a queue without a consumer unused. */
import { Repeat } from "@celery-metrics-exporter/runtime";
import type { Channel, ChannelModel } from "amqplib";
import { ACCESS_REFUSED, NOT_FOUND, QueueLostError, attempt, type RabbitmqTopology } from "./topology.ts";

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
  /** Limit on the interval of checks that the queue exists. */
  readonly maxCheckMs?: number;
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
    const { topology, onLost, maxCheckMs = MAX_CHECK_MS } = options;
    this.#useMs = Math.min(topology.queueExpiresMs / 3, MAX_USE_MS);
    this.#repeat = new Repeat(() => this.#renew(), { everyMs: Math.min(topology.queueExpiresMs / 3, maxCheckMs), onError: onLost });
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

  /**
   * RabbitMQ 4.2.6 and 4.3.0 refuse this without the permission to configure the queue. Then only the repeated binding (binding.ts) and the next use show
   * that the queue is missing.
   */
  async #check(): Promise<void> {
    await this.#attempt((channel, queue) => channel.checkQueue(queue), ACCESS_REFUSED);
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

  async #attempt(step: (channel: Channel, queue: string) => Promise<unknown>, tolerated?: number): Promise<void> {
    const { connection, topology } = this.#options;
    const failed = await attempt(connection, (channel) => step(channel, topology.queue));
    if (failed === undefined || (tolerated !== undefined && failed.code === tolerated)) return;
    throw failed.code === NOT_FOUND ? new QueueLostError("our queue is missing (was it deleted?)", { cause: failed }) : failed;
  }
}
