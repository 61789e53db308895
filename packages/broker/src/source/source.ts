/** The contract between a broker's event source and the receiver. */
import type { Decoded } from "@celery-metrics-exporter/celery";
import type { Health, Logger, Metrics } from "@celery-metrics-exporter/runtime";
import { hostname } from "node:os";
import { type BrokerUrl, rabbitmqLabel, redisLabel } from "../url/broker-url.ts";
import type { SourceOptions } from "./sources.ts";

export type Broker = "rabbitmq" | "redis";

/** One message of the broker: one event, or the list of events that a worker collected. */
export interface RawMessage {
  /** Size on the wire. */
  readonly bytes: number;
  /** Its events, and what could not be read. To be called once: the body is let go of, as many messages wait for their acknowledgement. Never throws. */
  decode(): Decoded;
  /**
   * Tells the broker that every event of the message is safe. Returns at once and never throws; messages may be acknowledged in any order.
   * Does nothing for a message whose connection is gone (the broker delivers that one again) and for a broker that keeps nothing.
   */
  ack(): void;
}

export type OnMessage = (message: RawMessage) => void;

/**
 * For a broker that sends every message to every receiver: only one of them, the active one, is to hand over, and the others keep what they hear
 * in case it fails. Moments are `performance.now()`, in milliseconds.
 */
export interface Broadcast {
  /** Names what is heard: the same for all receivers that hear the same. No secret in it. */
  readonly stream: string;
  /** Since when everything that is published has come, without interruption; undefined while disconnected. */
  readonly completeSince: number | undefined;
  /** Everything published before this moment has come to this receiver, and has been acknowledged or dropped. */
  readonly safeUntil: number;
  /** Hands over what was kept, and what comes until this moment. What comes later is kept until the next call. `drain` ends all keeping. */
  handOverUntil(moment: number): void;
  /** From now on keeps the newest of what comes, as much as fits, instead of handing it over. */
  keep(): void;
  /** Lets go of what came before this moment and was only kept. */
  forget(before: number): void;
}

/** A broker's stream of Celery events. Created once per process; `start`, then `drain`, then `stop`, each once. */
export interface EventSource {
  readonly broker: Broker;

  /** Whether a message that is never acknowledged comes again. Where not, what the process drops or loses is gone. */
  readonly redelivers: boolean;

  /** Where every receiver hears every message. Without a word from the receiver it hands over, as if it were alone. */
  readonly broadcast?: Broadcast;

  /** Where consumers share a queue: how many it has, ours included; undefined while that cannot be asked. Never throws. */
  consumers?(): Promise<number | undefined>;

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

// What a source is given by the process.

export interface SourceContext {
  readonly logger: Logger;
  /** Gets a component named `broker`. */
  readonly health: Health;
  readonly metrics: Metrics;
  /** How long `start` tries. */
  readonly startupTimeoutMs: number;
}

// What a receiver reads its events from, in words that are the same in every receiver of it.

const LOOPBACK = /^(localhost|127\.[\d.]+|::1)$/;

/**
 * Without credentials. The order of a failover list does not matter. A broker on the machine itself is not the one of another machine.
 *
 * @param machine as in `os.hostname()`.
 */
export function describeSource(
  url: BrokerUrl,
  { rabbitmq, redis }: Pick<SourceOptions, "rabbitmq" | "redis">,
  machine = hostname(),
): string {
  if (url.broker === "rabbitmq") {
    const servers = url.servers.map(rabbitmqLabel);
    return `${listed(servers)}, queue ${rabbitmq.queue}, exchange ${rabbitmq.exchange}${on(url.servers, machine)}`;
  }
  const prefix = redis.globalKeyprefix === "" ? "" : `, prefix ${redis.globalKeyprefix}`;
  return `${listed(url.servers.map(redisLabel))}, exchange ${redis.exchange}${prefix}${on(url.servers, machine)}`;
}

function listed(servers: readonly string[]): string {
  return servers.toSorted().join(";");
}

function on(servers: readonly { readonly host: string; readonly socketPath?: string | undefined }[], machine: string): string {
  return servers.some(({ host, socketPath }) => socketPath !== undefined || LOOPBACK.test(host)) ? ` (on ${machine})` : "";
}

// Metrics that every source keeps.

export interface SourceState {
  /** Bytes received and not handed over yet. */
  readonly bufferBytes: () => number;
  /** Messages the broker waits to hear of. */
  readonly unacked: () => number;
}

export interface SourceMetrics {
  reconnected(): void;
  /** Events may have been missed, and nobody can know how many. */
  gap(): void;
  dropped(): void;
  redelivered(): void;
}

export function sourceMetrics(metrics: Metrics, broker: Broker, state: SourceState): SourceMetrics {
  const labels = { broker };
  const reconnects = metrics.counter("broker_reconnects_total", "Connections to the broker that were lost.", ["broker"]);
  const gaps = metrics.counter("broker_gaps_total", "Interruptions in which events may have been missed.", ["broker"]);
  const dropped = metrics.counter("messages_dropped_total", "Messages dropped because the buffer was full.", ["broker"]);
  const again = metrics.counter("messages_redelivered_total", "Messages that RabbitMQ had sent to somebody before.", ["broker"]);
  for (const counter of [reconnects, gaps, dropped, again]) counter.inc(labels, 0);
  const buffered = metrics.gauge("broker_buffer_bytes", "Bytes received and not worked on yet.", ["broker"]);
  const unacked = metrics.gauge("broker_unacked_messages", "Messages received and not acknowledged yet.", ["broker"]);
  Object.assign(buffered, { collect: () => buffered.set(labels, state.bufferBytes()) });
  Object.assign(unacked, { collect: () => unacked.set(labels, state.unacked()) });
  return {
    reconnected: () => reconnects.inc(labels),
    gap: () => gaps.inc(labels),
    dropped: () => dropped.inc(labels),
    redelivered: () => again.inc(labels),
  };
}

/** Thrown when a broker answers and does not want us: wrong user, password, virtual host, database, or a missing permission. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  /** The setting to look at. */
  readonly setting: string;

  constructor(message: string, { setting = "CELERY_BROKER_URL", ...options }: ErrorOptions & { readonly setting?: string } = {}) {
    super(message, options);
    this.setting = setting;
  }
}

/** Thrown when what listens there is no such broker. */
export class OtherServerError extends RefusedError {
  constructor(name: string, options: ErrorOptions = {}) {
    super(`something else than ${name} listens there`, options);
  }
}
