import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
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
