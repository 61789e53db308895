/**
 * Writes series as DogStatsD packets (docs.datadoghq.com/developers/dogstatsd/datagram_shell, protocol 1.1).
 *
 * hot-shots writes the lines and fills the packets. This file packs several values of a series into one line, and the packets leave through
 * our own transport (see `docs/adr/0006-dogstatsd-transport.md`).
 */
import { Writable } from "node:stream";
import { StatsD } from "hot-shots";
import type { MetricType, Series } from "../metrics/metrics.ts";

/** Maximum number of decimals of a value: nanoseconds. */
const DECIMALS = 9;

/** The longest possible timer interval, because packets are flushed explicitly. */
const NEVER_MS = 2 ** 31 - 1;

type Client = InstanceType<typeof StatsD>;

/** The hot-shots calls that pass a text on as the value, so that it can contain several packed values. */
type WriteLine = (name: string, values: string, tags: string[]) => void;

/** Maximum size of a value in a line, including its colon: 9 decimals, and 5 digits before them. */
const VALUE_BYTES = 16;
/** Size of the rest of a line besides name, tags and values: `|ms|#` and the line end. */
const LINE_BYTES = 8;

/** Not safe for concurrent calls. */
export class DogstatsdPackets {
  readonly #maxPacketBytes: number;
  readonly #client: Client;
  readonly #write: Readonly<Record<Exclude<MetricType, "c">, WriteLine>>;
  #packets: Buffer[] = [];

  constructor(maxPacketBytes: number) {
    this.#maxPacketBytes = maxPacketBytes;
    this.#client = this.#createClient();
    this.#write = {
      d: this.#client.distribution.bind(this.#client) as unknown as WriteLine,
      h: this.#client.histogram.bind(this.#client) as unknown as WriteLine,
      g: this.#client.gauge.bind(this.#client) as unknown as WriteLine,
      ms: this.#client.timing.bind(this.#client) as unknown as WriteLine,
    };
  }

  /**
   * Packets of at most `maxPacketBytes`. A line that is longer even with a single value gets a packet of its own; the agent's buffer
   * (8,192 bytes) still accepts it.
   */
  encode(series: readonly Series[]): Buffer[] {
    for (const each of series) this.#writeSeries(each);
    this.#client.flush();
    const packets = this.#packets;
    this.#packets = [];
    return packets;
  }

  /** An upper estimate of the packets that `encode` would fill, in fractions of a packet so that estimates can be added up. */
  estimate(series: readonly Series[]): number {
    let packets = 0;
    for (const { name, tags, values } of series) {
      const frameBytes = Buffer.byteLength(name) + Buffer.byteLength(tags) + LINE_BYTES;
      const roomBytes = this.#maxPacketBytes - frameBytes;
      const full = roomBytes < VALUE_BYTES ? values.length : (values.length * VALUE_BYTES) / roomBytes;
      packets += Math.min(values.length, full + frameBytes / this.#maxPacketBytes);
    }
    return packets;
  }

  #writeSeries({ name, type, tags, values }: Series): void {
    const tagList = tags === "" ? [] : tags.split(",");
    if (type === "c") {
      for (const value of values) this.#client.increment(name, value, tagList);
      return;
    }
    const frameBytes = Buffer.byteLength(`${name}|${type}${tags === "" ? "" : `|#${tags}`}`);
    for (const packed of packValues(values, this.#maxPacketBytes - frameBytes)) this.#write[type](name, packed, tagList);
  }

  /** Keeps this process's own `DD_*` environment out of the metrics of Celery's tasks. */
  #createClient(): Client {
    return new StatsD({
      protocol: "stream",
      stream: this.#collector(),
      maxBufferSize: this.#maxPacketBytes,
      bufferFlushInterval: NEVER_MS,
      datadog: false,
      includeDataDogTags: false,
      includeDatadogTelemetry: false,
      originDetection: false,
      telegraf: false,
      prefix: "",
      suffix: "",
      globalTags: [],
      sampleRate: 1,
    });
  }

  /** Stores each packet. hot-shots ends packets with a line break, which a datagram does not need. */
  #collector(): Writable {
    return new Writable({
      write: (packet: Buffer, _encoding, written) => {
        this.#packets.push(packet.subarray(0, -1));
        written();
      },
    });
  }
}

/** Texts such as `1:2:3`, of at most `maxBytes` each, or with a single value if that value is longer. */
function packValues(values: readonly number[], maxBytes: number): string[] {
  const lines: string[] = [];
  let packed = "";
  for (const value of values) {
    const text = formatNumber(value);
    // One colon before the first value, and one before this value.
    if (packed !== "" && packed.length + text.length + 2 > maxBytes) {
      lines.push(packed);
      packed = "";
    }
    packed = packed === "" ? text : `${packed}:${text}`;
  }
  if (packed !== "") lines.push(packed);
  return lines;
}

/** Decimal without an exponent, because some DogStatsD servers do not parse exponents. */
function formatNumber(value: number): string {
  const text = String(value);
  if (text.length <= 12 && !text.includes("e")) return text;
  return value.toFixed(DECIMALS).replace(/0+$/, "").replace(/\.$/, "");
}
