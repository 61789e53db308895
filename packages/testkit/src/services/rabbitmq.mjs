/** Private RabbitMQ nodes, each with its own port mapper (epmd). */
import { execFile, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { serverCertificates } from "./certificates.mjs";
import { temporaryFolder } from "./folders.mjs";
import { freePort } from "./ports.mjs";
import { findProgram, versionedFolders } from "./programs.mjs";
import { release, watch } from "./reaper.mjs";
import { ServerProcess } from "./server-process.mjs";

/** The protocol header of AMQP 0-9-1; a server that is ready answers with the method frame (type 1) of `connection.start`. */
const AMQP_HEADER = Buffer.from([0x41, 0x4d, 0x51, 0x50, 0, 0, 9, 1]);
const METHOD_FRAME = 1;
const NODE_NAME = "x@localhost";

/**
 * The server's own script. On Debian, the one on the PATH is a wrapper that works only for root and `rabbitmq`, in their folder.
 *
 * @returns {string | undefined}
 */
export function findRabbitmq() {
  return findProgram(
    ["rabbitmq-server"],
    [...givenFolder(), "/usr/lib/rabbitmq/bin", ...versionedFolders("/usr/lib/rabbitmq/lib", /^rabbitmq_server-/, "sbin")],
  );
}

/** @returns {string[]} the folder of another RabbitMQ, and of its Erlang's `epmd` and `erl_call` if they are there too. */
function givenFolder() {
  const given = process.env.TEST_RABBITMQ_FOLDER;
  return given === undefined || given === "" ? [] : [given];
}

/** @returns {string | undefined} */
function findEpmd() {
  return findProgram(["epmd"], [...givenFolder(), ...versionedFolders("/usr/lib/erlang", /^erts-/, "bin")]);
}

/** @returns {string | undefined} */
function findErlCall() {
  return findProgram(["erl_call"], [...givenFolder(), ...versionedFolders("/usr/lib/erlang/lib", /^erl_interface-/, "bin")]);
}

/** @typedef {{ rabbitmqctl: string, environment: Readonly<Record<string, string>> }} Control how to run `rabbitmqctl` on a node. */

/** @typedef {{ configure: string, write: string, read: string }} Permissions patterns of names. */

/**
 * Evaluates Erlang code on a node. `rabbitmqctl` can do that too, but starting it takes a second of CPU time; `erl_call`, which most packages of Erlang
 * contain, takes 20 ms.
 *
 * @param {Control} control
 * @param {string} code expressions without the final dot.
 * @returns {Promise<void>}
 */
export async function evaluate({ rabbitmqctl, environment }, code) {
  const program = findErlCall();
  const env = withoutOthers(environment);
  for (let attempt = 1, most = program === undefined ? 0 : MOST_CALLS; attempt <= most; attempt += 1) {
    // A random name: several may run at the same time.
    const running = promisify(execFile)(/** @type {string} */ (program), ["-r", "-n", NODE_NAME, "-e"], { env });
    running.child.stdin?.on("error", () => {}); // It gave up before it read anything: its exit code says so.
    running.child.stdin?.end(`${code}.\n`);
    try {
      const { stdout } = await running;
      if (!stdout.startsWith("{ok, ")) throw new Error(`RabbitMQ could not evaluate ${code}: ${stdout}`);
      return;
    } catch (thrown) {
      // Two calls may have the same name, and a busy node may answer too late. Nothing was evaluated then.
      if (!String(thrown).includes("failed to connect")) throw thrown;
      await sleep(attempt * 200);
    }
  }
  await promisify(execFile)(rabbitmqctl, ["eval", `${code}.`], { env });
}

/** Attempts with `erl_call`. */
const MOST_CALLS = 5;

/**
 * Erlang code that adds a user.
 *
 * @param {string} name
 * @param {string} password
 * @returns {string}
 */
export function addUser(name, password) {
  return `rabbit_auth_backend_internal:add_user(<<"${name}">>, <<"${password}">>, <<"guest">>)`;
}

/**
 * Erlang code that replaces the permissions of a user in a vhost.
 *
 * @param {string} user
 * @param {string} vhost
 * @param {Permissions} permissions
 * @returns {string}
 */
export function setPermissions(user, vhost, { configure, write, read }) {
  const patterns = [configure, write, read].map((pattern) => `<<"${pattern}">>`).join(", ");
  return `rabbit_auth_backend_internal:set_permissions(<<"${user}">>, <<"${vhost}">>, ${patterns}, <<"guest">>)`;
}

/** A private RabbitMQ with the user `guest`, the password `guest` and the vhost `/`. */
export class RabbitmqServer extends ServerProcess {
  /** @type {Control} */
  #control;
  /** @type {number} */
  #tlsPort;

  /**
   * @param {import("./server-process.mjs").ServerOptions} options
   * @param {{ control: Control, tlsPort: number }} own
   */
  constructor(options, { control, tlsPort }) {
    super(options);
    this.#control = control;
    this.#tlsPort = tlsPort;
  }

  /** @returns {number} its TLS port, for clients with a certificate. */
  get tlsPort() {
    return this.#tlsPort;
  }

  /** @returns {string} */
  get url() {
    return `amqp://guest:guest@127.0.0.1:${this.port}`;
  }

  /** @returns {Control} */
  get control() {
    return this.#control;
  }

  /**
   * Evaluates Erlang code on this node.
   *
   * @param {...string} expressions evaluated one after the other.
   * @returns {Promise<void>}
   */
  evaluate(...expressions) {
    return evaluate(this.#control, expressions.join(", "));
  }

  /**
   * Runs `rabbitmqctl` on this node (about a second).
   *
   * @param {...string} args
   * @returns {Promise<string>} what it printed.
   */
  async ctl(...args) {
    const { rabbitmqctl, environment } = this.#control;
    const { stdout } = await promisify(execFile)(rabbitmqctl, args, { cwd: this.folder, env: withoutOthers(environment) });
    return stdout;
  }
}

/**
 * Starts an empty node; takes about 10 s.
 *
 * @param {{ config?: string, plugins?: readonly string[] }} [options] `config`: more lines for `rabbitmq.conf`.
 * @returns {Promise<RabbitmqServer>}
 */
export async function startRabbitmq({ config = "", plugins = [] } = {}) {
  const command = findRabbitmq();
  const epmd = findEpmd();
  if (command === undefined) throw new Error("found no rabbitmq-server on this machine");
  if (epmd === undefined) throw new Error("found no epmd, Erlang's port mapper, on this machine");
  const port = await freePort();
  const folder = temporaryFolder("rabbitmq");
  const tlsPort = await freePort();
  const listeners = `listeners.tcp.1 = 127.0.0.1:${port}\n${tlsListener(tlsPort, folder)}`;
  writeFileSync(join(folder, "rabbitmq.conf"), `${listeners}\nlog.file.level = warning\n${config}\n`);
  writeFileSync(join(folder, "enabled_plugins"), `[${plugins.join(",")}].\n`);
  const environment = await nodeEnvironment(folder);
  const stopEpmd = startEpmd(epmd, environment, folder);
  const server = new RabbitmqServer(
    {
      name: "rabbitmq-server",
      command,
      args: [],
      port,
      folder,
      hello: AMQP_HEADER,
      isReady: (answer) => answer[0] === METHOD_FRAME,
      lastPort: tlsPort,
      env: withoutOthers(environment),
      startTimeoutMs: 120_000,
      stopTimeoutMs: 30_000,
      afterStop: stopEpmd,
    },
    { control: { rabbitmqctl: command.replace(/rabbitmq-server$/, "rabbitmqctl"), environment }, tlsPort },
  );
  try {
    await server.start();
  } catch (error) {
    await stopEpmd();
    throw error;
  }
  return server;
}

/**
 * TLS settings for every node: they cost it nothing, and save the tests a second node.
 *
 * @param {number} port
 * @param {string} folder
 * @returns {string} lines of `rabbitmq.conf`.
 */
function tlsListener(port, folder) {
  const { ca, cert, key } = serverCertificates(folder);
  return [
    `listeners.ssl.1 = 127.0.0.1:${port}`,
    `ssl_options.cacertfile = ${ca}`,
    `ssl_options.certfile = ${cert}`,
    `ssl_options.keyfile = ${key}`,
    "ssl_options.verify = verify_peer",
    "ssl_options.fail_if_no_peer_cert = true",
  ].join("\n");
}

/**
 * Separates a node from others on this machine. `ALLOW_INPUT` makes the script become the Erlang machine instead of its parent, so that its
 * process id is the one to signal; `-noinput` stops it from reading commands.
 *
 * @param {string} folder
 * @returns {Promise<Record<string, string>>}
 */
async function nodeEnvironment(folder) {
  return {
    HOME: folder,
    ERL_EPMD_PORT: String(await freePort()),
    ERL_EPMD_ADDRESS: "127.0.0.1",
    RABBITMQ_NODENAME: NODE_NAME,
    RABBITMQ_DIST_PORT: String(await freePort()),
    RABBITMQ_MNESIA_BASE: join(folder, "data"),
    RABBITMQ_LOG_BASE: join(folder, "log"),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, "enabled_plugins"),
    RABBITMQ_FEATURE_FLAGS_FILE: join(folder, "feature_flags"),
    RABBITMQ_CONFIG_FILE: join(folder, "rabbitmq.conf"),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(folder, "advanced.config"),
    RABBITMQ_CONF_ENV_FILE: "/dev/null",
    RABBITMQ_PID_FILE: join(folder, "pid"),
    RABBITMQ_ALLOW_INPUT: "1",
    RABBITMQ_SERVER_START_ARGS: "-noinput",
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: "-kernel inet_dist_use_interface {127,0,0,1}",
  };
}

/**
 * @param {Readonly<Record<string, string>>} environment
 * @returns {NodeJS.ProcessEnv} without the settings for another node of this user.
 */
function withoutOthers(environment) {
  const others = Object.entries(process.env).filter(([name]) => !/^(RABBITMQ|ERL)_/.test(name));
  return { ...Object.fromEntries(others), ...environment };
}

/**
 * Starts the port mapper in the foreground, because one that a node starts by itself outlives the node.
 *
 * @param {string} command
 * @param {Readonly<Record<string, string>>} environment
 * @param {string} folder
 * @returns {() => Promise<void>} ends it.
 */
function startEpmd(command, environment, folder) {
  const child = spawn(command, [], { cwd: folder, stdio: "ignore", detached: true, env: withoutOthers(environment) });
  child.unref();
  const { pid } = child;
  if (pid !== undefined) watch(pid);
  const ended = new Promise((resolve) => {
    child.once("error", resolve);
    child.once("exit", resolve);
  });
  return async () => {
    child.ref();
    child.kill();
    await ended;
    if (pid !== undefined) release(pid);
  };
}
