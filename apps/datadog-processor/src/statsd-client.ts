/**
 * Sends series to the agent, at a pace its receive buffer can take.
 *
 * One sending at a time: what is asked for meanwhile is gathered, merged by metric and tags, and goes out together as the next one. So the
 * busier it gets, the better the packets are filled.
 */
import { UnavailableError, toError, type ComponentHealth, type Metrics } from "@celery-metrics-exporter/runtime";
import { describeAddress, type AgentAddress } from "./agent-address.ts";
import type { DatagramTransport } from "./datagram-transport.ts";
import { DogstatsdPackets } from "./dogstatsd-packets.ts";
import { Pace } from "./pace.ts";
import { SeriesCollector, type Series } from "./series.ts";
import { UdpTransport } from "./udp-transport.ts";
import { loadUnixDatagrams } from "./unix-dgram.ts";
import { UnixTransport } from "./unix-transport.ts";

export interface StatsdClientOptions {
  readonly address: AgentAddress;
  /** 0: what the transport advises. */
  readonly maxPacketBytes: number;
  /** Over UDP; a Unix domain socket has back-pressure instead. */
  readonly maxPacketsPerSecond: number;
  readonly metrics: Metrics;
  /** Whether the agent takes what is sent. Taken to be up until it refuses. */
  readonly health: ComponentHealth;
}

/** What is to be sent next, for all who wait for it. */
interface Sending {
  readonly series: SeriesCollector;
  readonly done: Promise<void>;
}

/** There is no acknowledgement in DogStatsD: sent means handed to the kernel, and not refused by it. */
export class StatsdClient {
  readonly #address: AgentAddress;
  readonly #transport: DatagramTransport;
  readonly #encoder: DogstatsdPackets;
  readonly #pace: Pace;
  readonly #packets;
  readonly #bytes;
  readonly #failures;
  readonly #health: ComponentHealth;
  #current: Promise<void> = Promise.resolve();
  #next: Sending | undefined;

  /** Opens nothing yet. @throws {ConfigError} for a Unix domain socket where the package for it cannot be loaded. */
  constructor({ address, maxPacketBytes, maxPacketsPerSecond, metrics, health }: StatsdClientOptions) {
    this.#address = address;
    this.#health = health;
    health.up();
    this.#transport =
      address.kind === "udp" ? new UdpTransport(address) : new UnixTransport({ path: address.path, createSocket: loadUnixDatagrams() });
    this.#pace = new Pace(address.kind === "udp" ? maxPacketsPerSecond : Number.POSITIVE_INFINITY);
    this.#encoder = new DogstatsdPackets(maxPacketBytes === 0 ? this.#transport.maxPacketBytes : maxPacketBytes);
    this.#packets = metrics.counter("datadog_packets_sent_total", "DogStatsD packets handed to the kernel.");
    this.#bytes = metrics.counter("datadog_bytes_sent_total", "Bytes of DogStatsD packets handed to the kernel.");
    this.#failures = metrics.counter("datadog_send_failures_total", "Attempts to send that the agent or the kernel refused.");
  }

  /**
   * Resolves when the kernel has taken all of it and refused none.
   *
   * @throws {UnavailableError} when the agent is not there. Some of it may have been taken.
   */
  async send(series: readonly Series[]): Promise<void> {
    if (series.length === 0) return;
    this.#next ??= this.#begin();
    for (const each of series) this.#next.series.addAll(each);
    await this.#next.done;
  }

  /** Lets what is being sent finish, and closes the socket. */
  async close(): Promise<void> {
    await (this.#next?.done ?? this.#current).catch(() => {});
    this.#transport.close();
  }

  /** Opens the next sending; it closes for what comes later, and starts, when the current one is over. */
  #begin(): Sending {
    const series = new SeriesCollector();
    const done = this.#current.then(() => {
      this.#next = undefined;
      return this.#sendAll(this.#encoder.encode(series.all()));
    });
    this.#current = done.catch(() => {});
    return { series, done };
  }

  async #sendAll(packets: readonly Buffer[]): Promise<void> {
    try {
      for (const packet of packets) {
        await this.#pace.take();
        await this.#transport.send(packet);
        this.#packets.inc();
        this.#bytes.inc(packet.length);
      }
      await this.#transport.confirm();
      this.#health.up();
    } catch (thrown) {
      const error = toError(thrown);
      this.#transport.close();
      this.#failures.inc();
      const message = `No Datadog agent takes DogStatsD at ${describeAddress(this.#address)} (${error.message}).`;
      this.#health.down(message);
      throw new UnavailableError(message, { cause: error });
    }
  }
}
