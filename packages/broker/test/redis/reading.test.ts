import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { connect as connectTls, createServer as createTlsServer, TLSSocket } from "node:tls";
import { certificate } from "@celery-metrics-exporter/testkit";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { readInTurns } from "../../src/redis/reading.ts";

async function turnsOfEventLoop(): Promise<void> {
  for (let count = 0; count < 200; count += 1) await turn();
}

describe("reading in turns", () => {
  let server: Server;
  let sender: Socket;
  let socket: Socket;
  let received: Buffer[];

  beforeEach(async () => {
    server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    socket = connect((server.address() as { port: number }).port, "127.0.0.1");
    [sender] = (await once(server, "connection")) as [Socket];
    received = [];
    readInTurns(socket);
    socket.on("data", (chunk: Buffer) => received.push(chunk));
  });

  afterEach(() => {
    vi.useRealTimers();
    socket.destroy();
    sender.destroy();
    server.close();
  });

  async function send(text: string): Promise<void> {
    await new Promise((resolve) => sender.write(text, resolve));
  }

  it("leaves what arrives during a pause in the socket, and then reads it at once", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout"] });
    await send("one ");
    while (received.length === 0) await turn();
    for (const text of ["two ", "three ", "four"]) await send(text);
    await turnsOfEventLoop();
    expect(received.map(String)).toEqual(["one "]);

    vi.advanceTimersByTime(1_000);
    while (received.length === 1) await turn();
    expect(received.map(String)).toEqual(["one ", "two three four"]);
  });

  it("reads everything up to the end of a connection", async () => {
    const sent = Buffer.alloc(5_000_000, "abc");
    await send("first");
    sender.end(sent);
    await once(socket, "close");
    expect(Buffer.concat(received).equals(Buffer.concat([Buffer.from("first"), sent]))).toBe(true);
  });

  it("stands a socket that is destroyed during a pause", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout"] });
    await send("one");
    while (received.length === 0) await turn();
    socket.destroy();
    await once(socket, "close");
    expect(() => vi.advanceTimersByTime(1_000)).not.toThrow();
  });
});

describe("reading a flood of small messages in turns", () => {
  const MESSAGES = 30_000;
  const MESSAGE = Buffer.alloc(600, "m");
  /** One for each small read would make more than twice as many. Some are right, where the sender is slower. */
  const MOST_PAUSES = 40;

  async function pausesOf(server: Server, address: Parameters<Server["listen"]>[0], open: (port: number) => Socket): Promise<number> {
    server.on("secureConnection", flood);
    if (!("setSecureContext" in server)) server.on("connection", flood);
    await new Promise<void>((resolve) => server.listen(address, resolve));
    const bound = server.address();
    const socket = open(typeof bound === "object" ? (bound?.port ?? 0) : 0);
    let [pauses, bytes] = [0, 0];
    const handle = Reflect.get(socket, "_handle") as { readStop: () => unknown };
    const { readStop } = handle;
    handle.readStop = function counting(this: unknown) {
      pauses += 1;
      return readStop.call(this);
    };
    readInTurns(socket);
    socket.on("data", ({ length }: Buffer) => void (bytes += length));
    await once(socket, "close");
    server.close();
    expect(bytes).toBe(MESSAGES * MESSAGE.length);
    return pauses;
  }

  function flood(sender: Socket): void {
    // As from Redis, each message is a record of its own.
    if (sender instanceof TLSSocket) sender.setMaxSendFragment(MESSAGE.length);
    for (let sent = 0; sent < MESSAGES; sent += 1) sender.write(MESSAGE);
    sender.end();
  }

  it("does not pause over plain TCP", async () => {
    const pauses = await pausesOf(createServer(), { port: 0, host: "127.0.0.1" }, (port) => connect(port, "127.0.0.1"));
    expect(pauses).toBeLessThan(MOST_PAUSES);
  });

  it("does not pause over a Unix socket", async () => {
    const folder = mkdtempSync(join(tmpdir(), "reading-"));
    const path = join(folder, "socket");
    try {
      expect(await pausesOf(createServer(), { path }, () => connect(path))).toBeLessThan(MOST_PAUSES);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("does not pause over TLS", async () => {
    const [key, cert, ca] = (["server-key", "server", "ca"] as const).map((name) => readFileSync(certificate(name)));
    const server = createTlsServer({ key, cert });
    const pauses = await pausesOf(server, { port: 0, host: "127.0.0.1" }, (port) => {
      return connectTls({ port, host: "127.0.0.1", servername: "localhost", ca });
    });
    expect(pauses).toBeLessThan(MOST_PAUSES);
  });
});
