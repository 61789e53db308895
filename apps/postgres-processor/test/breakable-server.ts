/** A TCP way to a server that can be closed and opened again, as if the server were away. */
import { connect, createServer, type Server, type Socket } from "node:net";

export class BreakableServer {
  readonly #target: { readonly host: string; readonly port: number };
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.#target = target;
  }

  /** The same URL, by way of a new server on loopback. */
  static async before(url: string): Promise<{ readonly server: BreakableServer; readonly url: string }> {
    const parsed = new URL(url);
    const server = new BreakableServer({ host: parsed.hostname, port: Number(parsed.port || 5432) });
    await server.mend();
    parsed.hostname = "127.0.0.1";
    parsed.port = String(server.#port);
    return { server, url: parsed.href };
  }

  /** Refuses connections, and ends those there are. */
  async break(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    for (const socket of this.#sockets) socket.destroy();
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  /** Serves again, at the same port. */
  async mend(): Promise<void> {
    const server = createServer((socket) => this.#relay(socket));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject).listen(this.#port, "127.0.0.1", resolve);
    });
    const address = server.address();
    if (typeof address === "object" && address !== null) this.#port = address.port;
    this.#server = server;
  }

  #relay(client: Socket): void {
    const upstream = connect(this.#target);
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  }
}
