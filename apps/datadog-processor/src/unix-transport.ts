/** DogStatsD over a Unix domain socket: the kernel says when nobody listens, and when the agent does not keep up. */
import { setTimeout as sleep } from "node:timers/promises";
import { getSystemErrorName } from "node:util";
import { toError } from "@celery-metrics-exporter/runtime";
import type { DatagramTransport } from "./datagram-transport.ts";
import type { CreateUnixSocket, UnixDatagramSocket } from "./unix-dgram.ts";

export interface UnixTransportOptions {
  readonly path: string;
  readonly createSocket: CreateUnixSocket;
}

/** The agent's buffer (`dogstatsd_buffer_size`). */
const MAX_PACKET_BYTES = 8_192;

/** An agent that has not read for this long does not serve. */
const MAX_CONGESTION_MS = 5_000;
const CONGESTION_PAUSE_MS = 5;

export class UnixTransport implements DatagramTransport {
  readonly maxPacketBytes = MAX_PACKET_BYTES;
  readonly refusesLate = false;
  readonly #options: UnixTransportOptions;
  #socket: UnixDatagramSocket | undefined;

  constructor(options: UnixTransportOptions) {
    this.#options = options;
  }

  async send(packet: Buffer): Promise<void> {
    try {
      this.#socket ??= this.#open();
      const deadline = performance.now() + MAX_CONGESTION_MS;
      while (!(await sendOnce(this.#socket, packet))) {
        if (performance.now() > deadline) throw new Error("its buffer has been full for 5 s");
        await sleep(CONGESTION_PAUSE_MS);
      }
    } catch (thrown) {
      throw named(toError(thrown));
    }
  }

  /** The kernel has already said all it knows. */
  async confirm(): Promise<void> {}

  close(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  #open(): UnixDatagramSocket {
    const socket = this.#options.createSocket();
    let failure: Error | undefined;
    socket.on("error", (error: Error) => (failure = error));
    socket.connect(this.#options.path);
    if (failure === undefined) return socket;
    socket.close();
    throw failure;
  }
}

/** False when the agent's buffer is full. */
function sendOnce(socket: UnixDatagramSocket, packet: Buffer): Promise<boolean> {
  return new Promise((resolve, reject) => {
    socket.send(packet, (error) => {
      if (error === undefined) resolve(true);
      else if (error.code === 1 || error.code === "EAGAIN") resolve(false);
      else reject(error);
    });
  });
}

/** unix-dgram reports errors by number only (`connect -13`): names them as Node does (`connect EACCES`). */
function named(error: Error & { readonly errno?: unknown; readonly syscall?: unknown }): Error {
  const { errno, syscall } = error;
  if (typeof errno !== "number" || errno >= 0) return error;
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`${String(syscall)} ${code}`, { cause: error }), { code });
}
