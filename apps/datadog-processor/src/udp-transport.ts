/**
 * DogStatsD over UDP, with a *connected* socket: only such a socket is told by the kernel, through ICMP, that nobody listens
 * (`ECONNREFUSED`). On one machine that is certain and immediate; from another machine it comes if no firewall drops it.
 */
import { createSocket, type Socket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import type { DatagramTransport } from "./datagram-transport.ts";

export interface UdpTransportOptions {
  readonly host: string;
  readonly port: number;
}

/** Ethernet's 1,500 bytes without the headers of IPv6 and UDP and some room for tunnels: Datadog's own advice. */
const MAX_PACKET_BYTES = 1_432;

/** On loopback a refusal is there at once; on a busy machine the kernel may take a few milliseconds to pass it on. */
const REFUSAL_MS = 10;

/** A name is looked up again this often: an agent may move. */
const ADDRESS_MAX_AGE_MS = 60_000;

export class UdpTransport implements DatagramTransport {
  readonly maxPacketBytes = MAX_PACKET_BYTES;
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
    // Before the packet is handed over: it has to be sent again, and must not arrive twice.
    if (this.#refusal !== undefined) throw this.#refusal;
    await new Promise<void>((resolve, reject) => {
      socket.send(packet, (error) => (error === null ? resolve() : reject(error)));
    });
  }

  async confirm(): Promise<void> {
    await sleep(REFUSAL_MS);
    // Timers come before sockets: a process that got no CPU meanwhile has not looked at its socket yet.
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
      // Node passes an error of `connect` to the callback and emits none; its types do not have that argument.
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

  /** An agent listens on IPv4 unless told otherwise, so of a name with both kinds of address that one is taken. */
  async #resolve(): Promise<{ address: string; family: number }> {
    const { host } = this.#options;
    const addresses = await lookup(host, { all: true });
    const chosen = addresses.find(({ family }) => family === 4) ?? addresses[0];
    if (chosen === undefined) throw new Error(`${host} has no address`);
    return chosen;
  }
}
