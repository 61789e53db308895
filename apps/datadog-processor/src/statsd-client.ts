/** Sends packets to the agent: one caller's after the other's, at a pace its receive buffer can take. */
import { UnavailableError, toError, type Metrics } from "@celery-metrics-exporter/runtime";
import { describeAddress, type AgentAddress } from "./agent-address.ts";
import type { DatagramTransport } from "./datagram-transport.ts";
import { Pace } from "./pace.ts";
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
}

/** There is no acknowledgement in DogStatsD: sent means handed to the kernel, and not refused by it. */
export class StatsdClient {
  readonly maxPacketBytes: number;
  readonly #address: AgentAddress;
  readonly #transport: DatagramTransport;
  readonly #pace: Pace;
  readonly #packets;
  readonly #bytes;
  readonly #failures;
  #lastSend: Promise<void> = Promise.resolve();

  /** Opens nothing yet. @throws {ConfigError} for a Unix domain socket where the package for it cannot be loaded. */
  constructor({ address, maxPacketBytes, maxPacketsPerSecond, metrics }: StatsdClientOptions) {
    this.#address = address;
    this.#transport =
      address.kind === "udp" ? new UdpTransport(address) : new UnixTransport({ path: address.path, createSocket: loadUnixDatagrams() });
    this.#pace = new Pace(address.kind === "udp" ? maxPacketsPerSecond : Number.POSITIVE_INFINITY);
    this.maxPacketBytes = maxPacketBytes === 0 ? this.#transport.maxPacketBytes : maxPacketBytes;
    this.#packets = metrics.counter("datadog_packets_sent_total", "DogStatsD packets handed to the kernel.");
    this.#bytes = metrics.counter("datadog_bytes_sent_total", "Bytes of DogStatsD packets handed to the kernel.");
    this.#failures = metrics.counter("datadog_send_failures_total", "Attempts to send that the agent or the kernel refused.");
  }

  /**
   * Resolves when the kernel has taken all packets and none was refused.
   *
   * @throws {UnavailableError} when the agent is not there. Some packets may have been taken.
   */
  async send(packets: readonly Buffer[]): Promise<void> {
    if (packets.length === 0) return;
    const turn = this.#lastSend.then(() => this.#sendAll(packets));
    this.#lastSend = turn.catch(() => {});
    await turn;
  }

  /** Lets what is being sent finish, and closes the socket. */
  async close(): Promise<void> {
    await this.#lastSend;
    this.#transport.close();
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
    } catch (thrown) {
      const error = toError(thrown);
      this.#transport.close();
      this.#failures.inc();
      throw new UnavailableError(`No Datadog agent takes DogStatsD at ${describeAddress(this.#address)} (${error.message}).`, {
        cause: error,
      });
    }
  }
}
