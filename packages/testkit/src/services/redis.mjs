/** Private Redis servers. */
import { temporaryFolder } from "./folders.mjs";
import { freePort } from "./ports.mjs";
import { findProgram } from "./programs.mjs";
import { ServerProcess } from "./server-process.mjs";

/** @returns {string | undefined} the server's program: Redis, or Valkey which speaks the same. */
export function findRedis() {
  return findProgram(["redis-server", "valkey-server"]);
}

/** A Redis of our own. `url` stays the same over restarts. */
export class RedisServer extends ServerProcess {
  /** @returns {string} */
  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }
}

/**
 * Starts an empty Redis that keeps its data in memory only. Options for `redis-server` in `args` win over these,
 * e.g. `["--appendonly", "yes"]`.
 *
 * @param {{ args?: readonly string[] }} [options]
 * @returns {Promise<RedisServer>}
 */
export async function startRedis({ args = [] } = {}) {
  const command = findRedis();
  if (command === undefined) throw new Error("found no redis-server on this machine");
  const port = await freePort();
  const folder = temporaryFolder("redis");
  const server = new RedisServer({
    name: "redis-server",
    command,
    args: ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no", ...args],
    port,
    folder,
    hello: Buffer.from("PING\r\n"),
    isReady: (answer) => answer.toString("latin1").startsWith("+PONG") || answer.toString("latin1").startsWith("-NOAUTH"),
    startTimeoutMs: 15_000,
  });
  await server.start();
  return server;
}
