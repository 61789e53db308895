/**
 * Sends series to the agent, at a pace its receive buffer can take.
 *
 * One sending at a time: what is asked for meanwhile is gathered, merged by metric and tags, and goes out together as the next one. So the
 * busier it gets, the better the packets are filled. What would make a sending too long goes into another one after it: a sending that has
 * begun is never cut off, because nobody could say whose values were in the packets that are out already.
 */
import { type ComponentHealth, type Metrics, UnavailableError, toError } from "@celery-metrics-exporter/runtime";
import { type AgentAddress, describeAddress } from "./agent-address.ts";
import { type DatagramTransport, UdpTransport, UnixTransport, loadUnixDatagrams } from "./transports.ts";
import { DogstatsdPackets } from "./dogstatsd-packets.ts";
import { type Series, SeriesCollector } from "../metrics/series.ts";
import { setTimeout as sleep } from "node:timers/promises";

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

/** How long a sending may take over UDP, about: the end of a process waits for it. */
const LONGEST_SENDING_SECONDS = 0.5;
/** A Unix domain socket has no pace: about 100,000 values. */
const LONGEST_SENDING_PACKETS = 150;

interface Request {
  readonly series: readonly Series[];
  readonly signal: AbortSignal | undefined;
  /** Whether it is part of what was sent. One that is aborted first is left out. */
  isTaken: boolean;
}

/** What goes out together, for all who wait for it. */
interface Sending {
  readonly requests: Request[];
  /** Estimated. */
  packets: number;
  readonly done: Promise<void>;
}

/**
 * There is no acknowledgement in DogStatsD: sent means handed to the kernel, and not refused by it.
 *
 * Its counters follow that. `datadog_packets_sent_total` counts a packet over UDP once the whole sending is out and no refusal has come within
 * 10 ms; over a Unix domain socket as soon as it is in the agent's buffer. A refusal over UDP does not say which packet it is about, so then all
 * packets of the sending up to there count in `datadog_packets_failed_total`, and all of them are sent again: some may have arrived. What the
 * counters cannot know: whether an agent on another machine got a packet, or lost it for want of buffer, and whose packet a refusal was about
 * that came too late.
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
  /** The last one that takes requests. */
  #next: Sending | undefined;

  /** Opens nothing yet. @throws {ConfigError} for a Unix domain socket where the package for it cannot be loaded. */
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
      "DogStatsD packets handed to the kernel and not refused, as far as it tells.",
    );
    this.#bytes = metrics.counter("datadog_bytes_sent_total", "Bytes of the packets in datadog_packets_sent_total.");
    this.#packetsFailed = metrics.counter(
      "datadog_packets_failed_total",
      "DogStatsD packets whose sending failed; they are sent again, and some may have arrived.",
    );
    this.#failures = metrics.counter("datadog_send_failures_total", "Attempts to send that the agent or the kernel refused.");
  }

  /**
   * Resolves when the kernel has taken all of it and refused none.
   *
   * @param signal drops what has not begun to be sent, and only that: then nothing of it was sent.
   * @throws {UnavailableError} when the agent is not there. Some of it may have been taken.
   * @throws the signal's reason when it was dropped.
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

  /** Whether it is soon sent: within about half a second, from when it is its turn. */
  fitsOneSending(series: readonly Series[]): boolean {
    return this.#encoder.estimate(series) <= this.#longestSending;
  }

  /** Lets what is being sent finish, and closes the socket. */
  async close(): Promise<void> {
    await this.#current;
    this.#transport.close();
  }

  /** The sending that so many packets go out with: the last one that has not begun, or a new one after it. */
  #openFor(packets: number): Sending {
    if (this.#next === undefined || this.#next.packets + packets > this.#longestSending) this.#next = this.#begin();
    this.#next.packets += packets;
    return this.#next;
  }

  /** Opens another sending; it closes for what comes later, and starts, when those before it are over. */
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
      const message = `No Datadog agent takes DogStatsD at ${describeAddress(this.#address)} (${error.message}). Start the agent, set DD_AGENT_HOST or DD_DOGSTATSD_URL, or leave datadog out of EXPORTERS.`;
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

// Evens out bursts.

/** How many may go at once after a pause. */
const BURST = 8;

/** Lets so many through per second, a few of them at once. For one caller at a time. */
export class Pace {
  readonly #intervalMs: number;
  /** When the next would be due if all so far had been evenly spaced. */
  #dueAt = 0;

  constructor(perSecond: number) {
    this.#intervalMs = 1_000 / perSecond;
  }

  /** Resolves when one more may go. */
  async take(): Promise<void> {
    const aheadMs = this.#dueAt - BURST * this.#intervalMs - performance.now();
    if (aheadMs > 0) await sleep(Math.ceil(aheadMs));
    this.#dueAt = Math.max(this.#dueAt, performance.now()) + this.#intervalMs;
  }
}
