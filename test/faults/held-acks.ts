/** A relay in front of a broker that can hold back what the client says, so that a process is killed between doing and acknowledging. */
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

export class HeldAcks {
  readonly #server: Server;
  readonly #clients = new Set<Socket>();
  #holding = false;

  private constructor(port: number) {
    this.#server = createServer((client) => this.#relay(client, port));
  }

  /** @param brokerUrl of a broker on this machine. */
  static async before(brokerUrl: string): Promise<HeldAcks> {
    const relay = new HeldAcks(Number(new URL(brokerUrl).port));
    await new Promise<void>((resolve) => relay.#server.listen(0, "127.0.0.1", resolve));
    return relay;
  }

  /** The broker as seen through the relay. */
  url(brokerUrl: string): string {
    const url = new URL(brokerUrl);
    url.port = String((this.#server.address() as AddressInfo).port);
    return url.href;
  }

  /** From now on the broker hears nothing from its clients; they still hear it. */
  hold(): void {
    this.#holding = true;
    for (const client of this.#clients) client.pause();
  }

  /** For connections that are made from now on. */
  release(): void {
    this.#holding = false;
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #relay(client: Socket, port: number): void {
    const broker = connect(port, "127.0.0.1");
    this.#clients.add(client);
    client.on("data", (data) => broker.write(data));
    broker.on("data", (data) => client.write(data));
    if (this.#holding) client.pause();
    client.on("error", () => broker.destroy());
    client.on("close", () => {
      this.#clients.delete(client);
      broker.destroy();
    });
    broker.on("error", () => {});
    // A paused socket does not tell that its other end has closed: `write` finds out.
    broker.on("close", () => client.destroy());
  }
}
