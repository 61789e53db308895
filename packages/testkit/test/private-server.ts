import { existsSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { connect as connectAmqp } from "amqplib";
import type { PostgresServer, RabbitmqServer, RedisServer } from "../src/index.ts";

/** What every private server does; `use` connects to it. */
export function describePrivate(
  name: string,
  start: () => Promise<RedisServer | RabbitmqServer | PostgresServer>,
  use: (url: string) => Promise<unknown>,
): void {
  describe(`a private ${name}`, () => {
    test("answers, is gone after SIGKILL, comes back on the same URL, and leaves nothing after stop", { timeout: 120_000 }, async () => {
      const server = await start();
      const { url, pid, folder } = server;
      await use(url);

      await server.kill();
      expect(isAlive(pid)).toBe(false);
      await expect(use(url)).rejects.toThrow(/ECONNREFUSED|Connection is closed/);

      await server.restart();
      expect(server.url).toBe(url);
      expect(server.pid).not.toBe(pid);
      await use(url);

      await server.stop();
      await expect(use(url)).rejects.toThrow(/ECONNREFUSED|Connection is closed/);
      expect(existsSync(folder)).toBe(false);
    });
  });
}

export async function openAmqp(url: string): Promise<void> {
  const connection = await connectAmqp(url);
  const channel = await connection.createChannel();
  await channel.assertQueue("", { exclusive: true });
  await connection.close();
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
