/** One private server: its process, port and temporary folder, and a check whether it answers. */
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { removeFolder } from "./folders.mjs";
import { release, signalGroup, watch } from "./reaper.mjs";

const POLL_MS = 20;
/** How long processes of a killed server may hold on to its data. */
const OLD_PROCESSES_MS = 10_000;
const LOG_TAIL_CHARACTERS = 2_000;

/**
 * @typedef {object} ServerOptions
 * @property {string} name its name in messages.
 * @property {string} command
 * @property {readonly string[]} args
 * @property {number} port
 * @property {string} folder its data; removed by `stop`.
 * @property {Buffer} hello sent to the port to check whether the server is ready.
 * @property {(answer: Buffer) => boolean} isReady checks the first bytes of the answer.
 * @property {number} [lastPort] another port, which the server opens after `port`: it is ready when this one accepts connections too.
 * @property {NodeJS.Signals} [stopSignal] shuts it down; default SIGTERM.
 * @property {NodeJS.Signals} [lastSignal] ends it when this process is gone; default `stopSignal`.
 * @property {NodeJS.ProcessEnv} [env]
 * @property {import("./folders.mjs").Owner | undefined} [owner]
 * @property {number} [startTimeoutMs]
 * @property {RegExp} [heldByOld] its output if it cannot start because processes of the killed one still exist: then it is retried.
 * @property {number} [stopTimeoutMs]
 * @property {(() => Promise<void>) | undefined} [afterStop] runs in `stop`, after the server has ended and before its folder is removed.
 */

/** Starts, stops and restarts one server on one port. Uses process ids only, never names. */
export class ServerProcess {
  /** @type {ServerOptions} */
  #options;
  /** @type {import("node:child_process").ChildProcess | undefined} */
  #child;
  /** @type {Promise<void>} */
  #ended = Promise.resolve();
  /** @type {Error | undefined} */
  #failure;

  /** @param {ServerOptions} options */
  constructor(options) {
    this.#options = options;
  }

  get port() {
    return this.#options.port;
  }

  get folder() {
    return this.#options.folder;
  }

  /** @returns {number} the process id; throws if it is not running. */
  get pid() {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error(`${this.#options.name} is not running`);
    return pid;
  }

  /**
   * Starts the server and resolves when it answers on its port. If it does not answer, it is ended again.
   *
   * @returns {Promise<void>}
   */
  async start() {
    if (this.#child !== undefined) throw new Error(`${this.#options.name} is running already`);
    const { heldByOld } = this.#options;
    const giveUpAt = Date.now() + OLD_PROCESSES_MS;
    for (;;) {
      this.#spawn();
      try {
        return await this.#untilReady();
      } catch (error) {
        await this.kill();
        if (heldByOld?.test(this.logTail()) !== true || Date.now() > giveUpAt) throw error;
        await sleep(POLL_MS);
      }
    }
  }

  #spawn() {
    const { name, command, args, folder, env, owner, stopSignal = "SIGTERM", lastSignal = stopSignal } = this.#options;
    const log = openSync(join(folder, "output.log"), "a");
    const child = spawn(command, args, {
      cwd: folder,
      stdio: ["ignore", log, log],
      detached: true,
      env: env ?? process.env,
      ...(owner === undefined ? {} : { uid: owner.uid, gid: owner.gid }),
    });
    closeSync(log);
    child.unref();
    const { pid } = child;
    if (pid !== undefined) watch(pid, lastSignal);
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      const end = () => {
        if (pid !== undefined) release(pid);
        if (this.#child === child) this.#child = undefined;
        resolve();
      };
      child.once("exit", end);
      child.once("error", (error) => {
        this.#failure = new Error(`${name} could not be started: ${error.message}`);
        end();
      });
    });
  }

  /** @returns {Promise<void>} */
  async #untilReady() {
    const { name, port, hello, isReady, lastPort, startTimeoutMs = 60_000 } = this.#options;
    const deadline = Date.now() + startTimeoutMs;
    for (;;) {
      await sleep(POLL_MS);
      if (this.#child === undefined) throw this.#failure ?? new Error(`${name} ended at once:\n${this.logTail()}`);
      const answer = await ask(port, hello);
      if (answer !== undefined && isReady(answer) && (lastPort === undefined || (await accepts(lastPort)))) return;
      if (Date.now() > deadline) throw new Error(`${name} was not ready after ${startTimeoutMs} ms:\n${this.logTail()}`);
    }
  }

  /** @returns {string} the end of what the server wrote to its output. */
  logTail() {
    try {
      return readFileSync(join(this.#options.folder, "output.log"), "utf8").slice(-LOG_TAIL_CHARACTERS).trim();
    } catch {
      return "";
    }
  }

  /**
   * Shuts the server down (by force after a while) and keeps its data, so that `restart` can start it again.
   *
   * @returns {Promise<void>}
   */
  async terminate() {
    const child = this.#child;
    if (child === undefined) return this.#ended;
    child.ref();
    child.kill(this.#options.stopSignal ?? "SIGTERM");
    const timeout = new AbortController();
    const late = sleep(this.#options.stopTimeoutMs ?? 15_000, true, { signal: timeout.signal }).catch(() => false);
    const isLate = await Promise.race([this.#ended, late]);
    timeout.abort();
    if (isLate === true) await this.kill();
  }

  /**
   * Kills the server and all its processes with SIGKILL, and keeps its data, so that `restart` can start it again.
   *
   * @returns {Promise<void>}
   */
  async kill() {
    const child = this.#child;
    child?.ref();
    if (child?.pid !== undefined) signalGroup(child.pid, "SIGKILL");
    await this.#ended;
  }

  /**
   * Starts the server again on the same port and data; if it is still running, shuts it down first.
   *
   * @returns {Promise<void>}
   */
  async restart() {
    await this.terminate();
    await this.start();
  }

  /**
   * Shuts the server down and removes its data.
   *
   * @returns {Promise<void>}
   */
  async stop() {
    await this.terminate();
    await this.#options.afterStop?.();
    removeFolder(this.#options.folder);
  }
}

/**
 * Sends `hello` to a port on loopback.
 *
 * @param {number} port
 * @param {Buffer} hello
 * @returns {Promise<Buffer | undefined>} the first bytes of the answer; undefined if none arrives within a second.
 */
function ask(port, hello) {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    /** @param {Buffer | undefined} answer */
    const finish = (answer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(1_000, () => finish(undefined));
    socket.once("connect", () => socket.write(hello));
    socket.once("data", (data) => finish(data));
    socket.once("error", () => finish(undefined));
    socket.once("close", () => finish(undefined));
  });
}

/**
 * @param {number} port on loopback.
 * @returns {Promise<boolean>} whether somebody listens on it.
 */
function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
