/** Free ports on the loopback interface. */
import { createSocket } from "node:dgram";
import { createServer } from "node:net";

/** Below the range from which kernels choose local ports of outgoing connections, so that a stopped server finds its port free again. */
const FIRST = 15_000;
const LAST = 32_000;
const TRIES = 200;

/** @type {Set<number>} */
const given = new Set();

/**
 * A free port on 127.0.0.1, for TCP and UDP, that this process has not received before.
 *
 * @returns {Promise<number>}
 */
export async function freePort() {
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    if (given.has(port) || !(await isFreeForTcp(port)) || !(await isFreeForUdp(port))) continue;
    given.add(port);
    return port;
  }
  throw new Error(`found no free port on 127.0.0.1 between ${FIRST} and ${LAST}`);
}

/**
 * @param {number} port
 * @returns {Promise<boolean>}
 */
function isFreeForTcp(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/**
 * @param {number} port
 * @returns {Promise<boolean>}
 */
function isFreeForUdp(port) {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    socket.once("error", () => resolve(false));
    socket.bind({ port, address: "127.0.0.1", exclusive: true }, () => socket.close(() => resolve(true)));
  });
}
