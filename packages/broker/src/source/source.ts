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
  /** Returns its events and the parts that could not be decoded. Call once: it releases the body, because many messages wait for their acknowledgement. Never throws. */
  decode(): Decoded;
  /**
   * Acknowledges the message: all its events are safe. Returns at once and never throws. Messages may be acknowledged in any order. Does nothing
   * if the connection is gone (the broker then redelivers the message) or if the broker does not store messages.
   */
  ack(): void;
}

export type OnMessage = (message: RawMessage) => void;

/**
 * For a broker that sends every message to every receiver. Only one receiver, the active one, hands messages over. The others keep them in case it
 * fails. Times are `performance.now()`, in milliseconds.
 */
export interface Broadcast {
  /** Name of the stream: equal for all receivers of the same messages. Contains no secret. */
  readonly stream: string;
  /** Time since which every published message has arrived without interruption; undefined while disconnected. */
  readonly completeSince: number | undefined;
  /** All messages published before this time have arrived at this receiver and are acknowledged or dropped. */
  readonly safeUntil: number;
  /** Hands over the kept messages and those that arrive until this time. Keeps later ones until the next call. `drain` hands over everything. */
  handOverUntil(moment: number): void;
  /** From now on keeps the newest messages, as many as fit, instead of handing them over. */
  keep(): void;
  /** Drops kept messages that arrived before this time. */
  forget(before: number): void;
}

/** A broker's stream of Celery events. Created once per process. Call `start`, then `drain`, then `stop`, each once. */
export interface EventSource {
  readonly broker: Broker;

  /** Whether the broker redelivers a message that was never acknowledged. If not, messages that the process drops or loses are gone. */
  readonly redelivers: boolean;

  /**
   * Time since which no published message has missed us (`performance.now()`, in milliseconds); undefined while messages could, because we are disconnected or
   * our queue is not bound.
   */
  readonly listeningSince: number | undefined;

  /** When the oldest message that is not handed over yet arrived (`performance.now()`, in milliseconds); undefined if there is none. */
  readonly waitingSince: number | undefined;

  /** Set if every receiver gets every message. By default it hands messages over, as if it were the only receiver. */
  readonly broadcast?: Broadcast;

  /** Set if consumers share a queue: returns their number, including ours; undefined if it is unknown. Never throws. */
  consumers?(): Promise<number | undefined>;

  /**
   * Connects, then hands over messages until `drain`, one at a time and never synchronously within this call. Reconnects indefinitely.
   * `onMessage` must not throw.
   *
   * @throws {UnavailableError} if no server of the broker URL accepts us within the startup timeout; at once if all of them refuse access.
   * @throws {ConfigError} if a certificate file of the URL cannot be read.
   */
  start(onMessage: OnMessage): Promise<void>;

  /**
   * Stops handing over messages. Idempotent. RabbitMQ keeps the backlog: a short pause costs nothing, and after a longer one the source returns
   * the messages it has not handed over. Redis pub/sub keeps sending: the source keeps messages that fit its buffer, and drops and counts the rest.
   */
  pause(): void;

  /** Resumes handing over. Idempotent. */
  resume(): void;

  /**
   * Stops accepting messages from the broker. Resolves when all accepted messages are handed over or returned. On Redis, the receiver must keep
   * up, or call `resume`. Acknowledging still works afterwards.
   */
  drain(): Promise<void>;

  /** Sends the pending acknowledgements and disconnects. Safe without `start` or `drain`. Idempotent. */
  stop(): Promise<void>;
}

export interface SourceContext {
  readonly logger: Logger;
  /** The source adds a component named `broker`. */
  readonly health: Health;
  readonly metrics: Metrics;
  /** Time limit of `start`. */
  readonly startupTimeoutMs: number;
}

const LOOPBACK = /^(localhost|127\.[\d.]+|::1)$/;

/**
 * Describes the source of events, identically in every receiver of it. Contains no credentials. Ignores the order of a failover list. Adds the
 * machine if the broker is local, because another machine's local broker is a different one.
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

/** Describes the broker alone, by the same rules. */
export function describeBroker(url: BrokerUrl, machine = hostname()): string {
  return `${listed(url.broker === "rabbitmq" ? url.servers.map(rabbitmqLabel) : url.servers.map(redisLabel))}${on(url.servers, machine)}`;
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
  /** Messages not acknowledged yet. */
  readonly unacked: () => number;
}

export interface SourceMetrics {
  reconnected(): void;
  /** An unknown number of events may have been missed. */
  gap(): void;
  dropped(): void;
  redelivered(): void;
}

export function sourceMetrics(metrics: Metrics, broker: Broker, state: SourceState): SourceMetrics {
  const labels = { broker };
  const known = { broker: [broker] };
  const reconnects = metrics.counter("broker_reconnects_total", "Lost connections to the broker.", known);
  const gaps = metrics.counter("broker_gaps_total", "Interruptions in which events may have been missed.", known);
  const dropped = metrics.counter("messages_dropped_total", "Messages dropped because the buffer was full.", known);
  const again = metrics.counter("messages_redelivered_total", "Messages that RabbitMQ had already delivered before.", known);
  const buffered = metrics.gauge("broker_buffer_bytes", "Bytes received and not processed yet.", ["broker"]);
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

/** Thrown when a broker refuses access: wrong user, password, virtual host or database, or a missing permission. */
export class DeniedError extends Error {
  override readonly name = "DeniedError";
  /** The setting to check. */
  readonly setting: string;

  constructor(message: string, { setting = "CELERY_BROKER_URL", ...options }: ErrorOptions & { readonly setting?: string } = {}) {
    super(message, options);
    this.setting = setting;
  }
}

/** Thrown when a different kind of server answers. */
export class OtherServerError extends DeniedError {
  constructor(name: string, options: ErrorOptions = {}) {
    super(`a server other than ${name} listens there`, options);
  }
}
