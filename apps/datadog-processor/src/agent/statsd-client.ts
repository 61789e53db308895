/**
 * Sends series to the agent, at a rate that its receive buffer can take.
 *
 * Only one send runs at a time. Requests that arrive meanwhile are collected, merged by metric and tags, and sent together next, so packets are
 * better filled under load. Requests that would make a send too long go into the one after it. A send that has begun is never cut off,
 * because nobody could tell whose values the packets already sent contained.
 */
import { type ComponentHealth, type Metrics, UnavailableError, toError } from "@celery-metrics-exporter/runtime";
import { type AgentAddress, describeAddress } from "./agent-address.ts";
import { type DatagramTransport, UdpTransport, UnixTransport, loadUnixDatagrams } from "./transports.ts";
import { DogstatsdPackets } from "./dogstatsd-packets.ts";
import { type Series, SeriesCollector } from "../metrics/metrics.ts";
import { setTimeout as sleep } from "node:timers/promises";

export interface StatsdClientOptions {
  readonly address: AgentAddress;
  /** 0 means the transport's default. */
  readonly maxPacketBytes: number;
  /** Applies to UDP; a Unix domain socket has back-pressure instead. */
  readonly maxPacketsPerSecond: number;
  readonly metrics: Metrics;
  /** Whether the agent accepts packets. Assumed to be up until it refuses one. */
  readonly health: ComponentHealth;
}

/** Approximate limit on the duration of a send over UDP: the process waits for it before it exits. */
const LONGEST_SENDING_SECONDS = 0.5;
/** Limit for a Unix domain socket, which is not paced: about 100,000 values. */
const LONGEST_SENDING_PACKETS = 150;

interface Request {
  readonly series: readonly Series[];
  readonly signal: AbortSignal | undefined;
  /** Whether it is part of what was sent. A request that is aborted before its send begins is left out. */
  isTaken: boolean;
}

/** Requests that are sent together. */
interface Sending {
  readonly requests: Request[];
  /** An estimate. */
  packets: number;
  readonly done: Promise<void>;
}

/**
 * DogStatsD has no acknowledgement: "sent" means that the kernel accepted the packet and reported no refusal.
 *
 * The counters follow that definition. `datadog_packets_sent_total` counts a packet over UDP once the whole send is out and no refusal has
 * arrived within 10 ms; over a Unix domain socket, as soon as it is in the agent's buffer. A refusal over UDP does not say which packet it
 * refers to. So all packets of the send up to that point count in `datadog_packets_failed_total`, and all of them are sent again; some may
 * have arrived. The counters cannot show whether an agent on another machine received a packet, whether it lost one because its buffer was
 * full, or which packet a late refusal referred to.
 */
export class StatsdClient {
  readonly #address: AgentAddress;
  readonly #transport: DatagramTransport;
  readonly #encoder: DogstatsdPackets;
  readonly #pace: Pace;
  readonly #packets;
  readonly #bytes;
  readonly #packetsFailed;
  readonly #failures;
  readonly #health: ComponentHealth;
  readonly #longestSending: number;
  #current: Promise<void> = Promise.resolve();
  /** The last send that still accepts requests. */
  #next: Sending | undefined;

  /** Opens nothing yet. @throws {ConfigError} for a Unix domain socket if the package for it cannot be loaded. */
  constructor({ address, maxPacketBytes, maxPacketsPerSecond, metrics, health }: StatsdClientOptions) {
    this.#address = address;
    this.#health = health;
    health.up();
    this.#transport =
      address.kind === "udp" ? new UdpTransport(address) : new UnixTransport({ path: address.path, createSocket: loadUnixDatagrams() });
    this.#pace = new Pace(address.kind === "udp" ? maxPacketsPerSecond : Number.POSITIVE_INFINITY);
    this.#longestSending = address.kind === "udp" ? Math.max(1, maxPacketsPerSecond * LONGEST_SENDING_SECONDS) : LONGEST_SENDING_PACKETS;
    this.#encoder = new DogstatsdPackets(maxPacketBytes === 0 ? this.#transport.maxPacketBytes : maxPacketBytes);
    this.#packets = metrics.counter(
      "datadog_packets_sent_total",
      "DogStatsD packets that the kernel accepted without reporting a refusal.",
    );
    this.#bytes = metrics.counter("datadog_bytes_sent_total", "Bytes of the packets in datadog_packets_sent_total.");
    this.#packetsFailed = metrics.counter(
      "datadog_packets_failed_total",
      "DogStatsD packets that could not be sent; they are sent again, and some may have arrived.",
    );
    this.#failures = metrics.counter("datadog_send_failures_total", "Attempts to send that the agent or the kernel refused.");
  }

  /**
   * Resolves when the kernel has accepted every packet and reported no refusal.
   *
   * @param signal cancels the request if its send has not begun; then nothing of it was sent.
   * @throws {UnavailableError} if the agent is not there. Some packets may have been accepted.
   * @throws the signal's reason if the request was cancelled.
   */
  async send(series: readonly Series[], signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (series.length === 0) return;
    const request: Request = { series, signal, isTaken: false };
    const sending = this.#openFor(this.#encoder.estimate(series));
    sending.requests.push(request);
    await sending.done;
    if (!request.isTaken) signal?.throwIfAborted();
  }

  /** Whether the series can be sent within about half a second once their send begins. */
  fitsOneSending(series: readonly Series[]): boolean {
    return this.#encoder.estimate(series) <= this.#longestSending;
  }

  /** Waits for the current send, then closes the socket. */
  async close(): Promise<void> {
    await this.#current;
    this.#transport.close();
  }

  /** The send for this many packets: the last one that has not begun, or a new one after it. */
  #openFor(packets: number): Sending {
    if (this.#next === undefined || this.#next.packets + packets > this.#longestSending) this.#next = this.#begin();
    this.#next.packets += packets;
    return this.#next;
  }

  /** Queues another send. When the earlier ones are done, it accepts no more requests and begins. */
  #begin(): Sending {
    const sending: Sending = {
      requests: [],
      packets: 0,
      done: this.#current.then(() => {
        if (this.#next === sending) this.#next = undefined;
        return this.#sendAll(this.#encoder.encode(merge(sending.requests)));
      }),
    };
    this.#current = sending.done.catch(() => {});
    return sending;
  }

  async #sendAll(packets: readonly Buffer[]): Promise<void> {
    if (packets.length === 0) return;
    let unsure: Buffer[] = [];
    try {
      for (const packet of packets) {
        await this.#pace.take();
        unsure.push(packet);
        await this.#transport.send(packet);
        if (this.#transport.refusesLate) continue;
        this.#sent(unsure);
        unsure = [];
      }
      await this.#transport.confirm();
      this.#sent(unsure);
      this.#health.up();
    } catch (thrown) {
      const error = toError(thrown);
      this.#transport.close();
      this.#failures.inc();
      this.#packetsFailed.inc(unsure.length);
      const message = `No Datadog agent accepts DogStatsD at ${describeAddress(this.#address)} (${error.message}). Start the agent, set DD_AGENT_HOST or DD_DOGSTATSD_URL, or leave datadog out of EXPORTERS.`;
      this.#health.down(message);
      throw new UnavailableError(message, { cause: error });
    }
  }

  #sent(packets: readonly Buffer[]): void {
    this.#packets.inc(packets.length);
    this.#bytes.inc(packets.reduce((sum, { length }) => sum + length, 0));
  }
}

/** The series of all requests that were not aborted. */
function merge(requests: readonly Request[]): Series[] {
  const series = new SeriesCollector();
  for (const request of requests) {
    if (request.signal?.aborted === true) continue;
    request.isTaken = true;
    for (const each of request.series) series.addAll(each);
  }
  return series.all();
}

/** Maximum number of packets sent at once after a pause. */
const BURST = 8;

/** Limits the number of packets per second, and evens out bursts. Not safe for concurrent calls. */
export class Pace {
  readonly #intervalMs: number;
  /** When the next packet would be due if all earlier ones had been evenly spaced. */
  #dueAt = 0;

  constructor(perSecond: number) {
    this.#intervalMs = 1_000 / perSecond;
  }

  /** Resolves when another packet may be sent. */
  async take(): Promise<void> {
    const aheadMs = this.#dueAt - BURST * this.#intervalMs - performance.now();
    if (aheadMs > 0) await sleep(Math.ceil(aheadMs));
    this.#dueAt = Math.max(this.#dueAt, performance.now()) + this.#intervalMs;
  }
}
