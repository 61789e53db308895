/** A TCP relay in front of a server on loopback that can cut, freeze, mute (in one direction) or refuse connections. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

/** Passes what a client sends on to the server. */
export type Forward = (client: Socket, server: Socket) => void;

export class TcpProxy {
  #target: number;
  readonly #forward: Forward;
  readonly #sockets = new Set<Socket>();
  readonly #clients = new Set<Socket>();
  /** Clients that receive nothing more, not even that the server has closed the connection. */
  readonly #deaf = new WeakSet<Socket>();
  #server: Server | undefined;
  #port = 0;
  #frozen = false;
  #muted = false;

  private constructor(target: number, forward: Forward) {
    this.#target = target;
    this.#forward = forward;
  }

  /**
   * @param target the server's port.
   * @param forward default: passes everything on.
   */
  static async start(target: number, forward: Forward = (client, server) => client.pipe(server)): Promise<TcpProxy> {
    const proxy = new TcpProxy(target, forward);
    await proxy.restart();
    return proxy;
  }

  get port(): number {
    return this.#port;
  }

  /** The same URL through this relay. */
  inFrontOf(url: string): string {
    const relayed = new URL(url);
    relayed.hostname = "127.0.0.1";
    relayed.port = String(this.#port);
    return relayed.href;
  }

  /** Resets every connection. New ones go to another server, as after a failover. */
  redirect(target: number): void {
    this.#target = target;
    this.cut();
  }

  /** Resets every connection. New ones are accepted. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** From now on nothing passes in either direction, on old and new connections: the other end just stays silent. */
  freeze(): void {
    this.#frozen = true;
    for (const socket of this.#sockets) socket.unpipe();
    for (const client of this.#clients) this.#deaf.add(client);
  }

  /** From now on the server receives nothing from its clients; they still receive its data. */
  muteClients(): void {
    this.#muted = true;
    for (const client of this.#clients) client.unpipe();
  }

  /** New connections are relayed again; frozen or muted ones stay as they are. */
  thaw(): void {
    this.#frozen = false;
    this.#muted = false;
  }

  /** Ends every connection and refuses new ones. Safe to call twice. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.cut();
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  /** Serves again after `stop`, on the same port. */
  async restart(): Promise<void> {
    const server = createServer((client) => this.#relay(client));
    server.listen(this.#port, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (typeof address === "object" && address !== null) this.#port = address.port;
    this.#server = server;
  }

  #relay(client: Socket): void {
    const server = connect(this.#target, "127.0.0.1");
    this.#clients.add(client);
    if (this.#frozen) this.#deaf.add(client);
    else server.pipe(client);
    if (!this.#frozen && !this.#muted) this.#forward(client, server);
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#sockets.delete(socket);
        this.#clients.delete(socket);
        if (!this.#deaf.has(other)) other.destroy();
      });
    }
  }
}
