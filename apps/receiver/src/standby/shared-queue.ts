/** Notices that others read our queue on RabbitMQ: each consumer gets only a part of the events, and nobody reports an error. */
import type { ReceiverRegister } from "@celery-metrics-exporter/pipeline";
import { type Logger, Outage, Repeat } from "@celery-metrics-exporter/runtime";

export interface SharedQueueOptions {
  /** How many consumers the queue has; undefined where that is not known now. */
  readonly consumers: () => Promise<number | undefined>;
  /** Counts the receivers that put events into the same Redis. */
  readonly register: Pick<ReceiverRegister, "signIn" | "signOut">;
  /** The queue's name. */
  readonly queue: string;
  readonly logger: Logger;
  readonly everyMs?: number;
}

const EVERY_MS = 30_000;
/** So often in a row there must be strangers: a consumer whose connection broke is counted for some seconds more. */
const PATIENCE = 4;
const MESSAGES = {
  began:
    "others read our queue and take a part of the events: give each deployment its own RABBITMQ_QUEUE (other REDIS_URL or QUEUE_PREFIX, same queue); consumer tags name them",
  ended: "nobody else reads our queue any more",
};

export class SharedQueueWatch {
  readonly #options: SharedQueueOptions;
  #repeat: Repeat | undefined;
  /** Times in a row that there were strangers. */
  #seen = 0;
  readonly #log: Outage;

  constructor(options: SharedQueueOptions) {
    this.#options = options;
    this.#log = new Outage({ logger: options.logger, ...MESSAGES });
  }

  /** Signs in and looks from time to time, until `stop`. Never throws. */
  start(): void {
    const { logger, everyMs = EVERY_MS } = this.#options;
    // Redis is away, which its own component says, or does not let us.
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
