import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { findAgent } from "../src/agent/find-agent.ts";

async function listen(): Promise<{ port: number; received: string[]; close: () => void }> {
  const socket = createSocket("udp4");
  const received: string[] = [];
  socket.on("message", (message) => received.push(message.toString()));
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return { port: socket.address().port, received, close: () => void socket.close() };
}

describe("findAgent", () => {
  it("finds a server that accepts datagrams, and sends it no metric", async () => {
    const agent = await listen();
    const address = { kind: "udp", host: "127.0.0.1", port: agent.port } as const;
    expect(await findAgent([address])).toEqual(address);
    agent.close();
    expect(agent.received.join("").trim()).toBe("");
  });

  it("finds nothing if nothing listens, and no socket", async () => {
    const agent = await listen();
    agent.close();
    expect(
      await findAgent([
        { kind: "udp", host: "127.0.0.1", port: agent.port },
        { kind: "unix", path: "/nowhere/dsd.socket" },
      ]),
    ).toBeUndefined();
  });

  it("reports an agent that cannot be used, but not an absent one", async () => {
    const folder = mkdtempSync(join(tmpdir(), "cme-find-"));
    const path = join(folder, "stream.socket");
    const server = createServer().listen(path);
    await once(server, "listening");
    const agent = await listen();
    agent.close();
    const addresses = [
      { kind: "udp", host: "127.0.0.1", port: agent.port },
      { kind: "udp", host: "127.255.255.255", port: 8_125 },
      { kind: "unix", path: "/nowhere/dsd.socket" },
      { kind: "unix", path },
    ] as const;
    const unusable: unknown[] = [];
    try {
      expect(await findAgent(addresses, (address, { message }) => unusable.push([address, message]))).toBeUndefined();
      expect(unusable).toEqual([
        [addresses[1], expect.stringContaining("connect EACCES")],
        // Either the package is installed and reports it, or it is missing.
        [addresses[3], expect.stringMatching(/^connect EPROTOTYPE$|unix-dgram/)],
      ]);
    } finally {
      server.close();
      rmSync(folder, { recursive: true });
    }
  });
});
