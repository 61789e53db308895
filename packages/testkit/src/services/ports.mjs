/** Free ports on the loopback interface. */
import { createServer } from "node:net";

/** Below the range from which kernels take the local ports of outgoing connections, so that a stopped server finds its port free again. */
const FIRST = 15_000;
const LAST = 32_000;
const TRIES = 200;

/** @type {Set<number>} */
const given = new Set();

/**
 * A TCP port on 127.0.0.1 that nobody listens on, and that this process has not been given before.
 *
 * @returns {Promise<number>}
 */
export async function freePort() {
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    return port;
  }
  throw new Error(`found no free port on 127.0.0.1 between ${FIRST} and ${LAST}`);
}

/**
 * @param {number} port
 * @returns {Promise<boolean>}
 */
function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}
