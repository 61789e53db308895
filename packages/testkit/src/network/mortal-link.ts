/** A relay in front of a server that breaks after a number of requests: to the server it looks as if the client were killed between two of them. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

export type RequestProtocol = "redis" | "postgres";

/** Reads one request from the start of the received bytes: its size in bytes, and whether it counts. Undefined if it is incomplete. */
type ReadRequest = (bytes: Buffer, isFirst: boolean) => { readonly size: number; readonly counts: boolean } | undefined;

const READERS: Readonly<Record<RequestProtocol, ReadRequest>> = { redis: readCommand, postgres: readMessage };

export class MortalLink {
  readonly #target: number;
  readonly #read: ReadRequest;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;
  #left = Number.POSITIVE_INFINITY;
  #hasDied = false;
  #dies: () => void = () => {};
  /** Resolves when it has broken. */
  readonly death = new Promise<void>((resolve) => (this.#dies = resolve));

  private constructor(target: number, protocol: RequestProtocol) {
    this.#target = target;
    this.#read = READERS[protocol];
  }

  /** @param target the server's port. */
  static async start(target: number, protocol: RequestProtocol): Promise<MortalLink> {
    const link = new MortalLink(target, protocol);
    const server = createServer((client) => link.#relay(client));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (typeof address === "object" && address !== null) link.#port = address.port;
    link.#server = server;
    return link;
  }

  /** The same URL through this relay. */
  inFrontOf(url: string): string {
    const relayed = new URL(url);
    relayed.hostname = "127.0.0.1";
    relayed.port = String(this.#port);
    return relayed.href;
  }

  /** From now on lets this many requests pass: Redis commands or PostgreSQL statements. At the next one, every connection breaks. */
  dieAfter(requests: number): void {
    this.#left = requests;
  }

  async stop(): Promise<void> {
    this.#die();
    const server = this.#server;
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  #die(): void {
    this.#hasDied = true;
    this.#dies();
    for (const socket of this.#sockets) socket.destroy();
  }

  #relay(client: Socket): void {
    if (this.#hasDied) {
      client.destroy();
      return;
    }
    const server = connect(this.#target, "127.0.0.1");
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    server.pipe(client);
    let arrived = Buffer.alloc(0);
    let isFirst = true;
    client.on("data", (chunk: Buffer) => {
      arrived = Buffer.concat([arrived, chunk]);
      for (let request = this.#read(arrived, isFirst); request !== undefined; request = this.#read(arrived, isFirst)) {
        if (request.counts && this.#left-- <= 0) {
          this.#die();
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
