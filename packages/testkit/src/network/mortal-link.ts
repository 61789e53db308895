/** A relay in front of a server that breaks after a number of requests: to the server it looks as if the client were killed between two of them. */
import type { Socket } from "node:net";
import { TcpProxy } from "./tcp-proxy.ts";

export type RequestProtocol = "redis" | "postgres";

/** Reads one request from the start of the received bytes: its size in bytes, and whether it counts. Undefined if it is incomplete. */
type ReadRequest = (bytes: Buffer, isFirst: boolean) => { readonly size: number; readonly counts: boolean } | undefined;

const READERS: Readonly<Record<RequestProtocol, ReadRequest>> = { redis: readCommand, postgres: readMessage };

export class MortalLink {
  readonly #read: ReadRequest;
  #proxy: TcpProxy | undefined;
  #left = Number.POSITIVE_INFINITY;
  #dies: () => void = () => {};
  /** Resolves when it has broken. */
  readonly death = new Promise<void>((resolve) => (this.#dies = resolve));

  private constructor(protocol: RequestProtocol) {
    this.#read = READERS[protocol];
  }

  /** @param target the server's port. */
  static async start(target: number, protocol: RequestProtocol): Promise<MortalLink> {
    const link = new MortalLink(protocol);
    link.#proxy = await TcpProxy.start(target, (client, server) => link.#forward(client, server));
    return link;
  }

  /** The same URL through this relay. */
  inFrontOf(url: string): string {
    if (this.#proxy === undefined) throw new Error("the relay is not started");
    return this.#proxy.inFrontOf(url);
  }

  /** From now on lets this many requests pass: Redis commands or PostgreSQL statements. At the next one, every connection breaks. */
  dieAfter(requests: number): void {
    this.#left = requests;
  }

  /** Breaks every connection and refuses new ones. Safe to call twice. */
  async stop(): Promise<void> {
    this.#dies();
    await this.#proxy?.stop();
  }

  #forward(client: Socket, server: Socket): void {
    let arrived = Buffer.alloc(0);
    let isFirst = true;
    client.on("data", (chunk: Buffer) => {
      arrived = Buffer.concat([arrived, chunk]);
      for (let request = this.#read(arrived, isFirst); request !== undefined; request = this.#read(arrived, isFirst)) {
        if (request.counts && this.#left-- <= 0) {
          void this.stop();
          return;
        }
        server.write(arrived.subarray(0, request.size));
        arrived = arrived.subarray(request.size);
        isFirst = false;
      }
    });
  }
}

const CARRIAGE_RETURN = 0x0d;

/** RESP: an array of bulk strings (https://redis.io/docs/latest/develop/reference/protocol-spec). */
function readCommand(bytes: Buffer): ReturnType<ReadRequest> {
  let at = 0;
  const readNumber = (): number | undefined => {
    const end = bytes.indexOf(CARRIAGE_RETURN, at);
    if (end === -1 || end + 2 > bytes.length) return undefined;
    const number = Number(bytes.toString("latin1", at + 1, end));
    at = end + 2;
    return number;
  };
  const parts = readNumber();
  if (parts === undefined) return undefined;
  for (let part = 0; part < parts; part++) {
    const length = readNumber();
    if (length === undefined) return undefined;
    at += length + 2;
    if (at > bytes.length) return undefined;
  }
  return { size: at, counts: true };
}

const QUERY = 0x51;
const EXECUTE = 0x45;

/** A message is a letter and its length; the first one of a connection has no letter (https://www.postgresql.org/docs/current/protocol-message-formats.html). */
function readMessage(bytes: Buffer, isFirst: boolean): ReturnType<ReadRequest> {
  const lengthAt = isFirst ? 0 : 1;
  if (bytes.length < lengthAt + 4) return undefined;
  const size = lengthAt + bytes.readInt32BE(lengthAt);
  if (bytes.length < size) return undefined;
  return { size, counts: !isFirst && (bytes[0] === QUERY || bytes[0] === EXECUTE) };
}
