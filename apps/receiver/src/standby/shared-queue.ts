/** Notices other consumers on our RabbitMQ queue. Each then gets only a part of the events, and no error is reported. */
import type { ReceiverRegister } from "@celery-metrics-exporter/pipeline";
import { type Logger, Outage, Repeat } from "@celery-metrics-exporter/runtime";

export interface SharedQueueOptions {
  /** Number of the queue's consumers; undefined if it is not known at the moment. */
  readonly consumers: () => Promise<number | undefined>;
  /** Counts the receivers that feed the same exporter queues. */
  readonly register: Pick<ReceiverRegister, "signIn" | "signOut">;
  /** The queue's name. */
  readonly queue: string;
  readonly logger: Logger;
  readonly everyMs?: number;
}

const EVERY_MS = 30_000;
/** Number of checks in a row with other consumers before it warns: a consumer whose connection broke is still counted for some seconds. */
const PATIENCE = 4;
const MESSAGES = {
  began:
    "other consumers get some of the events from this RabbitMQ queue: give each deployment its own RABBITMQ_QUEUE (their REDIS_URL or QUEUE_PREFIX differs from ours, and their consumer tags name them)",
  ended: "no other consumer reads this queue any more",
};

export class SharedQueueWatch {
  readonly #options: SharedQueueOptions;
  #repeat: Repeat | undefined;
  /** Number of checks in a row with other consumers. */
  #seen = 0;
  readonly #log: Outage;

  constructor(options: SharedQueueOptions) {
    this.#options = options;
    this.#log = new Outage({ logger: options.logger, ...MESSAGES });
  }

  /** Registers this receiver and checks at intervals, until `stop`. Never throws. */
  start(): void {
    const { logger, everyMs = EVERY_MS } = this.#options;
    // Redis is away, which its health component reports, or refuses the command.
    const onError = (err: Error): void => logger.debug({ err }, "consumers of the queue not counted");
    this.#repeat = new Repeat(() => this.#look(), { everyMs, first: "now", onError });
  }

  async stop(): Promise<void> {
    await this.#repeat?.stop();
    await this.#options.register.signOut().catch(() => {});
  }

  async #look(): Promise<void> {
    const { consumers: count, register, queue } = this.#options;
    const receivers = await register.signIn();
    const consumers = await count();
    if (consumers === undefined) return;
    this.#seen = consumers <= receivers ? 0 : this.#seen + 1;
    if (this.#seen === 0) this.#log.served({ queue });
    else if (this.#seen >= PATIENCE) this.#log.failed({ queue, consumers, receivers });
  }
}
