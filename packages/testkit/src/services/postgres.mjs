/** Private PostgreSQL clusters. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chownSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { serverCertificates } from "./certificates.mjs";
import { removeFolder, temporaryFolder, unprivilegedOwner } from "./folders.mjs";
import { freePort } from "./ports.mjs";
import { findPrograms, isExecutable, versionedFolders } from "./programs.mjs";
import { ServerProcess } from "./server-process.mjs";

/** Protocol 3.0's StartupMessage for the user and the database `postgres`. */
const STARTUP = Buffer.concat([Buffer.from([0, 0, 0, 41, 0, 3, 0, 0]), Buffer.from("user\0postgres\0database\0postgres\0\0")]);

/**
 * The folder with `initdb` and `postgres`. Distributions install one per version, outside the PATH.
 *
 * @returns {string | undefined}
 */
export function findPostgres() {
  const folders = [
    ...versionedFolders("/usr/lib/postgresql", /^\d/, "bin"),
    ...versionedFolders("/usr", /^pgsql-\d/, "bin"),
    ...versionedFolders("/opt/homebrew/opt", /^postgresql/, "bin"),
    ...versionedFolders("/usr/local/opt", /^postgresql/, "bin"),
  ];
  return findPrograms(["initdb"], folders)
    .map((initdb) => dirname(initdb))
    .find((folder) => isExecutable(join(folder, "postgres")));
}

/** A private PostgreSQL, with a superuser and a database both named `postgres`. */
export class PostgresServer extends ServerProcess {
  /** @type {string} */
  #password;

  /**
   * @param {import("./server-process.mjs").ServerOptions} options
   * @param {string} password
   */
  constructor(options, password) {
    super(options);
    this.#password = password;
  }

  /** @returns {string} */
  get url() {
    return `postgres://postgres:${this.#password}@127.0.0.1:${this.port}/postgres`;
  }
}

/**
 * Creates an empty cluster and starts it. Options for `postgres` in `args` override the defaults, e.g. `["-c", "max_connections=5"]`.
 *
 * @param {{ args?: readonly string[], durable?: boolean, tls?: boolean }} [options] `durable` (default true): survives a crash of the machine;
 *   false is faster. `tls`: also accepts TLS, and requires a client certificate for every database except `postgres`.
 * @returns {Promise<PostgresServer>}
 */
export async function startPostgres({ args = [], durable = true, tls = false } = {}) {
  const programs = findPostgres();
  if (programs === undefined) throw new Error("found no PostgreSQL server (initdb and postgres) on this machine");
  const owner = unprivilegedOwner(["postgres", "nobody"]);
  const port = await freePort();
  const folder = temporaryFolder("postgres", owner);
  const password = randomBytes(12).toString("hex");
  const data = join(folder, "data");
  try {
    await initialise({ programs, folder, data, password, owner });
  } catch (error) {
    removeFolder(folder);
    throw error;
  }
  const speed = durable ? [] : ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"];
  const server = new PostgresServer(
    {
      name: "postgres",
      command: join(programs, "postgres"),
      args: [
        "-D",
        data,
        "-p",
        String(port),
        "-c",
        "listen_addresses=127.0.0.1",
        "-k",
        folder,
        "-c",
        "max_connections=200",
        // In its folder: a killed server would leave them behind in the machine's shared memory.
        "-c",
        "dynamic_shared_memory_type=mmap",
        ...speed,
        ...(tls ? tlsArguments(folder, owner) : []),
        ...args,
      ],
      port,
      folder,
      hello: STARTUP,
      isReady: (answer) => answer.toString("latin1", 0, 1) === "R",
      // Its backends lead their own process groups, and end a moment after a killed server.
      heldByOld: /pre-existing shared memory block/,
      stopSignal: "SIGINT",
      lastSignal: "SIGQUIT",
      owner,
    },
    password,
  );
  await server.start();
  return server;
}

/**
 * @param {string} folder
 * @param {import("./folders.mjs").Owner | undefined} owner
 * @returns {string[]}
 */
function tlsArguments(folder, owner) {
  const { ca, cert, key } = serverCertificates(folder, owner);
  const access = join(folder, "pg_hba.conf");
  writeFileSync(
    access,
    "local all all scram-sha-256\nhost postgres all all scram-sha-256\nhostssl all all all scram-sha-256 clientcert=verify-ca\n",
  );
  const files = { ssl_ca_file: ca, ssl_cert_file: cert, ssl_key_file: key, hba_file: access };
  return ["-c", "ssl=on", ...Object.entries(files).flatMap(([name, path]) => ["-c", `${name}=${path}`])];
}

/**
 * @param {{ programs: string, folder: string, data: string, password: string, owner: import("./folders.mjs").Owner | undefined }} cluster
 * @returns {Promise<void>}
 */
async function initialise({ programs, folder, data, password, owner }) {
  const passwordFile = join(folder, "password");
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (owner !== undefined) chownSync(passwordFile, owner.uid, owner.gid);
  const args = ["-D", data, "-U", "postgres", "--pwfile", passwordFile, "--auth=scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"];
  await promisify(execFile)(join(programs, "initdb"), args, { cwd: folder, ...owner });
}
