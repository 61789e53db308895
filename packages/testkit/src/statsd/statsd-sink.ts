/** UDP servers that receive DogStatsD datagrams like an agent, and report or record their content and errors. */
import { createSocket, type Socket } from "node:dgram";
import { EventEmitter, once } from "node:events";
import { type DogstatsdMessage, type DogstatsdMetric, parseDatagram } from "./dogstatsd.ts";
import { DatagramThread } from "../services/datagram-thread.mjs";
import { freePort } from "../services/ports.mjs";

export interface StatsdSinkOptions {
  /** Default: a free port. */
  readonly port?: number;
  /** A larger datagram is an error. Datadog recommends 1,432 for UDP. */
  readonly maxPacketBytes?: number;
  /** Reads the socket in a thread, for tests whose own event loop is busy and would lose datagrams that an agent does not. Default false. */
  readonly thread?: boolean;
}

export interface WaitOptions {
  readonly timeoutMs?: number;
  /** What it waits for, for the error message. */
  readonly what?: string;
}

const DEFAULT_MAX_PACKET_BYTES = 1_432;

/** The content of one datagram: its messages or, if it has an error, a description of the error. */
export interface StatsdDatagram {
  readonly bytes: number;
  readonly messages: readonly DogstatsdMessage[];
  readonly error: string | undefined;
}

export interface StatsdListener {
  readonly port: number;
  close(): Promise<void>;
}

/** Listens on loopback and records nothing, for programs that run for a long time. */
export async function listenForStatsd(
  take: (datagram: StatsdDatagram) => void,
  { maxPacketBytes = DEFAULT_MAX_PACKET_BYTES, thread = false, ...options }: StatsdSinkOptions = {},
): Promise<StatsdListener> {
  // Not a port that the system picks: once closed, another program may get that before the test opens it again.
  const socket = await open(options.port ?? (await freePort()), thread);
  socket.on("message", (datagram: Buffer) => take(readDatagram(datagram, maxPacketBytes)));
  return {
    port: socket.address().port,
    close: async () => {
      const closed = once(socket, "close");
      socket.close();
      await closed;
    },
  };
}

async function open(port: number, thread: boolean): Promise<Socket | DatagramThread> {
  if (thread) return DatagramThread.open(port);
  const socket = createSocket("udp4");
  socket.bind(port, "127.0.0.1");
  await once(socket, "listening");
  return socket;
}

function readDatagram(datagram: Buffer, maxPacketBytes: number): StatsdDatagram {
  const bytes = datagram.length;
  try {
    if (bytes > maxPacketBytes) throw new Error(`datagram of ${bytes} bytes, at most ${maxPacketBytes} allowed`);
    return { bytes, messages: parseDatagram(datagram), error: undefined };
  } catch (thrown) {
    return { bytes, messages: [], error: thrown instanceof Error ? thrown.message : String(thrown) };
  }
}

/** The socket's receive buffer has the system's default size: as with an agent, a sender that bursts loses datagrams. */
export class StatsdSink {
  /** Every metric line of every valid datagram, in order of arrival. */
  readonly metrics: DogstatsdMetric[] = [];
  /** Events and service checks. */
  readonly others: DogstatsdMessage[] = [];
  /** Size of each datagram, in bytes. */
  readonly packets: number[] = [];
  /** The errors in datagrams. A test of a sender ends with `expect(sink.errors).toEqual([])`. */
  readonly errors: string[] = [];
  readonly #taken = new EventEmitter();
  #listener: StatsdListener | undefined;

  private constructor() {}

  static async start(options: StatsdSinkOptions = {}): Promise<StatsdSink> {
    const sink = new StatsdSink();
    sink.#listener = await listenForStatsd((datagram) => sink.#take(datagram), options);
    return sink;
  }

  get port(): number {
    return this.#listener?.port ?? 0;
  }

  #take({ bytes, messages, error }: StatsdDatagram): void {
    this.packets.push(bytes);
    for (const message of messages) {
      if (message.kind === "metric") this.metrics.push(message);
      else this.others.push(message);
    }
    if (error !== undefined) this.errors.push(error);
    this.#taken.emit("taken");
  }

  /** The lines of one metric, with all of `tags` if given. */
  select(name: string, tags: readonly string[] = []): DogstatsdMetric[] {
    return this.metrics.filter((metric) => metric.name === name && tags.every((tag) => metric.tags.includes(tag)));
  }

  /** All values of one metric, unpacked. */
  values(name: string, tags: readonly string[] = []): number[] {
    return this.select(name, tags).flatMap((metric) => metric.values);
  }

  /** The total of a count, with each value scaled up by its sample rate. */
  total(name: string, tags: readonly string[] = []): number {
    return this.select(name, tags)
      .flatMap(({ values, sampleRate }) => values.map((value) => value / sampleRate))
      .reduce((sum, value) => sum + value, 0);
  }

  /**
   * Resolves once `condition` holds; checks it after each datagram.
   *
   * @throws {Error} if it does not hold in time (default 10 s).
   */
  async waitFor(condition: (sink: StatsdSink) => boolean, { timeoutMs = 10_000, what = "the condition" }: WaitOptions = {}): Promise<void> {
    const signal = AbortSignal.timeout(timeoutMs);
    while (!condition(this)) {
      try {
        await once(this.#taken, "taken", { signal });
      } catch (error) {
        if (!signal.aborted) throw error;
        throw new Error(
          `${what} did not arrive within ${timeoutMs} ms; received ${this.metrics.length} metrics in ${this.packets.length} datagrams, errors: ${JSON.stringify(this.errors.slice(0, 5))}`,
          { cause: error },
        );
      }
    }
  }

  /** Forgets everything received so far. */
  clear(): void {
    for (const list of [this.metrics, this.others, this.packets, this.errors]) list.length = 0;
  }

  async close(): Promise<void> {
    await this.#listener?.close();
  }
}

/** Starts a sink on loopback. */
export function startStatsdSink(options: StatsdSinkOptions = {}): Promise<StatsdSink> {
  return StatsdSink.start(options);
}
