import { createSocket } from "node:dgram";
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { findAgent } from "../src/find-agent.ts";

async function listen(): Promise<{ port: number; received: string[]; close: () => void }> {
  const socket = createSocket("udp4");
  const received: string[] = [];
  socket.on("message", (message) => received.push(message.toString()));
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return { port: socket.address().port, received, close: () => void socket.close() };
}

describe("findAgent", () => {
  it("finds what takes datagrams, and sends it no metric", async () => {
    const agent = await listen();
    const address = { kind: "udp", host: "127.0.0.1", port: agent.port } as const;
    expect(await findAgent([address])).toEqual(address);
    agent.close();
    expect(agent.received.join("").trim()).toBe("");
  });

  it("finds nothing where nobody listens, and no socket", async () => {
    const agent = await listen();
    agent.close();
    expect(
      await findAgent([
        { kind: "udp", host: "127.0.0.1", port: agent.port },
        { kind: "unix", path: "/nowhere/dsd.socket" },
      ]),
    ).toBeUndefined();
  });
});
