/** The contract between a broker's event source and the receiver. */
import type { Decoded } from "@celery-metrics-exporter/events";

export type Broker = "rabbitmq" | "redis";

/** One message of the broker: one event, or the list of events that a worker collected. */
export interface RawMessage {
  /** Size on the wire. */
  readonly bytes: number;
  /** Its events, and what could not be read. Does the work each time it is called; never throws. */
  decode(): Decoded;
  /**
   * Tells the broker that every event of the message is safe. Returns at once and never throws; messages may be acknowledged in any order.
   * Does nothing for a message whose connection is gone (the broker delivers that one again) and for a broker that keeps nothing.
   */
  ack(): void;
}

export type OnMessage = (message: RawMessage) => void;

/** A broker's stream of Celery events. Created once per process; `start`, then `drain`, then `stop`, each once. */
export interface EventSource {
  readonly broker: Broker;

  /** Whether a message that is never acknowledged comes again. Where not, what the process drops or loses is gone. */
  readonly redelivers: boolean;

  /**
   * Connects, then hands over messages until `drain`, never two at once and never during this call's own first turn; reconnects for ever.
   * `onMessage` must not throw.
   *
   * @throws {UnavailableError} when no server of the broker URL takes us within the startup timeout; at once when all of them refuse us.
   * @throws {ConfigError} when a certificate file of the URL cannot be read.
   */
  start(onMessage: OnMessage): Promise<void>;

  /**
   * From now on hands nothing over. Safe twice. RabbitMQ goes on to hold the backlog: a short pause costs nothing, after a longer one the
   * source gives back what it has not handed over. Redis pub/sub goes on sending: the source keeps what fits its buffer, and drops and
   * counts the rest.
   */
  pause(): void;

  /** Hands over again. Safe twice. */
  resume(): void;

  /**
   * Takes nothing more from the broker. Resolves when all it had taken is handed over or given back; on Redis that needs the receiver to
   * keep up, or to `resume`. Acknowledging still works afterwards.
   */
  drain(): Promise<void>;

  /** Sends the acknowledgements given so far and disconnects. Safe without `start`, without `drain`, and twice. */
  stop(): Promise<void>;
}
