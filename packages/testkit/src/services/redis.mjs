/** Private Redis servers. */
import { serverCertificates } from "./certificates.mjs";
import { temporaryFolder } from "./folders.mjs";
import { freePort } from "./ports.mjs";
import { findProgram } from "./programs.mjs";
import { ServerProcess } from "./server-process.mjs";

/** @returns {string | undefined} the server program: Redis, or the compatible Valkey. */
export function findRedis() {
  return findProgram(["redis-server", "valkey-server"]);
}

/** A private Redis. `url` stays the same over restarts. */
export class RedisServer extends ServerProcess {
  /** @type {number | undefined} */
  #tlsPort;

  /**
   * @param {import("./server-process.mjs").ServerOptions} options
   * @param {number | undefined} tlsPort
   */
  constructor(options, tlsPort) {
    super(options);
    this.#tlsPort = tlsPort;
  }

  /** @returns {number} its TLS port, which requires a client certificate; throws if it was started without TLS. */
  get tlsPort() {
    if (this.#tlsPort === undefined) throw new Error("this Redis was started without TLS");
    return this.#tlsPort;
  }

  /** @returns {string} */
  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }
}

/**
 * Starts an empty Redis that keeps its data only in memory. Options for `redis-server` in `args` override the defaults,
 * e.g. `["--appendonly", "yes"]`.
 *
 * @param {{ args?: readonly string[], tls?: boolean }} [options] `tls`: also accepts TLS on another port, for clients with a certificate.
 * @returns {Promise<RedisServer>}
 */
export async function startRedis({ args = [], tls = false } = {}) {
  const command = findRedis();
  if (command === undefined) throw new Error("found no redis-server on this machine");
  const port = await freePort();
  const folder = temporaryFolder("redis");
  const tlsPort = tls ? await freePort() : undefined;
  const tlsArgs = tlsPort === undefined ? [] : tlsArguments(tlsPort, folder);
  const server = new RedisServer(
    {
      name: "redis-server",
      command,
      args: ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no", ...tlsArgs, ...args],
      port,
      folder,
      hello: Buffer.from("PING\r\n"),
      isReady: (answer) => answer.toString("latin1").startsWith("+PONG") || answer.toString("latin1").startsWith("-NOAUTH"),
      startTimeoutMs: 15_000,
    },
    tlsPort,
  );
  await server.start();
  return server;
}

/**
 * @param {number} port
 * @param {string} folder
 * @returns {string[]}
 */
function tlsArguments(port, folder) {
  const { ca, cert, key } = serverCertificates(folder);
  const files = ["--tls-ca-cert-file", ca, "--tls-cert-file", cert, "--tls-key-file", key];
  return ["--tls-port", String(port), ...files, "--tls-auth-clients", "yes"];
}
