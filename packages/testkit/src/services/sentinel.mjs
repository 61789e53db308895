/** Private Redis Sentinels. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { certificate, serverCertificates } from "./certificates.mjs";
import { temporaryFolder } from "./folders.mjs";
import { freePort } from "./ports.mjs";
import { findRedis } from "./redis.mjs";
import { ServerProcess } from "./server-process.mjs";

/** A private Sentinel. */
export class SentinelServer extends ServerProcess {
  /** @type {number} */
  #tlsPort;

  /**
   * @param {import("./server-process.mjs").ServerOptions} options
   * @param {number} tlsPort
   */
  constructor(options, tlsPort) {
    super(options);
    this.#tlsPort = tlsPort;
  }

  /** @returns {number} its TLS port, for clients with a certificate. */
  get tlsPort() {
    return this.#tlsPort;
  }
}

/**
 * Starts a single Sentinel that decides alone over one master named `mymaster` and its replicas.
 *
 * @param {{ masterPort: number, downAfterMs?: number, password?: string, tls?: boolean }} options `downAfterMs`: silence of the master after
 *   which a replica replaces it. `password`: required of clients. `tls`: the master's port uses it.
 * @returns {Promise<SentinelServer>}
 */
export async function startSentinel({ masterPort, downAfterMs = 500, password, tls = false }) {
  const command = findRedis();
  if (command === undefined) throw new Error("found no redis-server on this machine");
  const port = await freePort();
  const tlsPort = await freePort();
  const folder = temporaryFolder("sentinel");
  const { ca, cert, key } = serverCertificates(folder);
  const lines = [
    `port ${port}`,
    "bind 127.0.0.1",
    `dir ${folder}`,
    `tls-port ${tlsPort}`,
    `tls-ca-cert-file ${ca}`,
    `tls-cert-file ${cert}`,
    `tls-key-file ${key}`,
    `tls-client-cert-file ${certificate("client")}`,
    `tls-client-key-file ${certificate("client-key")}`,
    `tls-replication ${tls ? "yes" : "no"}`,
    ...(password === undefined ? [] : [`requirepass ${password}`]),
    `sentinel monitor mymaster 127.0.0.1 ${masterPort} 1`,
    `sentinel down-after-milliseconds mymaster ${downAfterMs}`,
    "sentinel failover-timeout mymaster 5000",
  ];
  // Sentinel writes into its configuration file, and accepts its configuration only from there.
  const file = join(folder, "sentinel.conf");
  writeFileSync(file, `${lines.join("\n")}\n`);
  const server = new SentinelServer(
    {
      name: "sentinel",
      command,
      args: [file, "--sentinel"],
      port,
      folder,
      hello: Buffer.from("PING\r\n"),
      isReady: (answer) => /^(\+PONG|-NOAUTH)/.test(answer.toString("latin1")),
      startTimeoutMs: 15_000,
    },
    tlsPort,
  );
  await server.start();
  return server;
}
