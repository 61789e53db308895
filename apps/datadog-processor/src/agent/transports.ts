/** Sends packets out of the process. */
import { type Socket, createSocket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { getSystemErrorName } from "node:util";
import { ConfigError, toError } from "@celery-metrics-exporter/runtime";
import type { EventEmitter } from "node:events";
import { createRequire } from "node:module";

/** One connected datagram socket, opened for the first packet and again after `close`. Not safe for concurrent calls. */
export interface DatagramTransport {
  /** Default size of a packet, unless the settings say otherwise. */
  readonly maxPacketBytes: number;
  /** Whether a packet that `send` handed over may still be refused, until `confirm` resolves. */
  readonly refusesLate: boolean;

  /**
   * Hands a packet to the kernel.
   *
   * @throws {Error} if the kernel does not accept it, or has reported that an earlier packet was refused.
   */
  send(packet: Buffer): Promise<void>;

  /**
   * Resolves when a refusal of the packets sent so far would have arrived. A refusal that arrives even later fails the next packet.
   *
   * @throws {Error} if any of them was refused.
   */
  confirm(): Promise<void>;

  /** Closes the socket. Does nothing if it is not open. */
  close(): void;
}

// DogStatsD over UDP, with a *connected* socket: only for such a socket does the kernel report, through ICMP, that nothing listens
// (`ECONNREFUSED`). On one machine the report is certain and immediate; from another machine it arrives unless a firewall drops it.

export interface UdpTransportOptions {
  readonly host: string;
  readonly port: number;
}

/** Ethernet's 1,500 bytes minus the headers of IPv6 and UDP and some room for tunnels, as Datadog recommends. */
const MAX_UDP_BYTES = 1_432;

/** Wait for a refusal: immediate on loopback, but a busy kernel may need a few milliseconds to report it. */
const REFUSAL_MS = 10;

/** Interval for resolving the name again, because an agent may move. */
const ADDRESS_MAX_AGE_MS = 60_000;

export class UdpTransport implements DatagramTransport {
  readonly maxPacketBytes = MAX_UDP_BYTES;
  readonly refusesLate = true;
  readonly #options: UdpTransportOptions;
  #socket: Socket | undefined;
  #openedAt = 0;
  #refusal: Error | undefined;

  constructor(options: UdpTransportOptions) {
    this.#options = options;
  }

  async send(packet: Buffer): Promise<void> {
    const socket = await this.#connected();
    // Checked before the packet is handed over: it has to be sent again, and must not arrive twice.
    if (this.#refusal !== undefined) throw this.#refusal;
    await new Promise<void>((resolve, reject) => {
      socket.send(packet, (error) => (error === null ? resolve() : reject(error)));
    });
  }

  async confirm(): Promise<void> {
    await sleep(REFUSAL_MS);
    // Timers run before sockets: a process that got no CPU meanwhile has not looked at its socket yet.
    await setImmediate();
    if (this.#refusal !== undefined) throw this.#refusal;
  }

  close(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  async #connected(): Promise<Socket> {
    const isName = isIP(this.#options.host) === 0;
    if (isName && performance.now() - this.#openedAt > ADDRESS_MAX_AGE_MS) this.close();
    this.#socket ??= await this.#open();
    return this.#socket;
  }

  async #open(): Promise<Socket> {
    const { address, family } = await this.#resolve();
    const socket = createSocket(family === 6 ? "udp6" : "udp4");
    this.#refusal = undefined;
    this.#openedAt = performance.now();
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      // Node passes an error of `connect` to the callback and emits none; its types lack that argument.
      socket.connect(this.#options.port, address, (error?: Error) => {
        socket.off("error", reject);
        if (error === undefined) resolve();
        else reject(error);
      });
    }).catch((error: unknown) => {
      socket.close();
      throw error;
    });
    socket.on("error", (error) => {
      if (socket === this.#socket) this.#refusal ??= error;
    });
    return socket;
  }

  /** Prefers IPv4 if the name has both kinds of address, because an agent listens on IPv4 by default. */
  async #resolve(): Promise<{ address: string; family: number }> {
    const { host } = this.#options;
    const addresses = await lookup(host, { all: true });
    const chosen = addresses.find(({ family }) => family === 4) ?? addresses[0];
    if (chosen === undefined) throw new Error(`${host} has no address`);
    return chosen;
  }
}

// DogStatsD over a Unix domain socket: the kernel reports when nothing listens and when the agent does not keep up.

export interface UnixTransportOptions {
  readonly path: string;
  readonly createSocket: CreateUnixSocket;
}

/** The agent's buffer (`dogstatsd_buffer_size`). */
const MAX_UNIX_BYTES = 8_192;

/** Time after which an agent that does not read counts as unavailable. */
const MAX_CONGESTION_MS = 5_000;
const CONGESTION_PAUSE_MS = 5;

export class UnixTransport implements DatagramTransport {
  readonly maxPacketBytes = MAX_UNIX_BYTES;
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

  /** The kernel has already reported everything it knows. */
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

/** False if the agent's buffer is full. */
function sendOnce(socket: UnixDatagramSocket, packet: Buffer): Promise<boolean> {
  return new Promise((resolve, reject) => {
    socket.send(packet, (error) => {
      if (error === undefined) resolve(true);
      else if (error.code === 1 || error.code === "EAGAIN") resolve(false);
      else reject(error);
    });
  });
}

/** unix-dgram reports errors by number only (`connect -13`). This names them as Node does (`connect EACCES`). */
function named(error: Error & { readonly errno?: unknown; readonly syscall?: unknown }): Error {
  const { errno, syscall } = error;
  if (typeof errno !== "number" || errno >= 0) return error;
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`${String(syscall)} ${code}`, { cause: error }), { code });
}

// The optional native package `unix-dgram`: Node has no Unix domain datagram sockets.

/** The part of its socket that we use; the package has no types. */
export interface UnixDatagramSocket extends EventEmitter {
  /** Emits `connect` or `error` before it returns. */
  connect(path: string): void;
  /** Calls back before it returns; an error has code 1 if the receiver's buffer is full. */
  send(packet: Buffer, callback: (error?: Error & { readonly code?: unknown }) => void): void;
  close(): void;
}

interface UnixDgram {
  createSocket(type: "unix_dgram"): UnixDatagramSocket;
}

/** Opens sockets. */
export type CreateUnixSocket = () => UnixDatagramSocket;

/** @throws {ConfigError} if the package is not installed, or was not built for this Node. */
export function loadUnixDatagrams(): CreateUnixSocket {
  try {
    const unixDgram = createRequire(import.meta.url)("unix-dgram") as UnixDgram;
    return () => unixDgram.createSocket("unix_dgram");
  } catch (thrown) {
    const reason = toError(thrown).message.split("\n")[0] ?? "";
    throw new ConfigError([
      `DD_DOGSTATSD_URL: unix:// needs the optional package unix-dgram, which cannot be loaded (${reason}). Install it on a machine with a C++ compiler, or use udp://.`,
    ]);
  }
}
