/**
 * A small process that ends everything this process started, and removes its temporary folders, when this process ends for any reason. It
 * notices when its standard input closes, which SIGKILL cannot prevent. It has its own process group, so that Ctrl-C does not reach it.
 */
import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** How long children may take to end by themselves before they are killed. */
const PATIENCE_MS = 3_000;

/** @typedef {{ do: "watch", pid: number, signal: NodeJS.Signals } | { do: "release", pid: number } | { do: "folder", path: string }} Order */

/** @type {import("node:child_process").ChildProcess | undefined} */
let child;

/**
 * @param {Order} order
 * @returns {void}
 */
function tell(order) {
  child ??= startReaper();
  child.stdin?.write(`${JSON.stringify(order)}\n`);
}

/** @returns {import("node:child_process").ChildProcess} */
function startReaper() {
  const reaper = spawn(process.execPath, [fileURLToPath(import.meta.url)], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
    cwd: "/",
    env: {},
  });
  reaper.on("error", () => {});
  reaper.stdin.on("error", () => {});
  reaper.unref();
  /** @type {import("node:net").Socket} */ (reaper.stdin).unref();
  return reaper;
}

/**
 * If this process ends first, ends the process group of `pid` with `signal`, and a moment later with SIGKILL.
 *
 * @param {number} pid
 * @param {NodeJS.Signals} [signal]
 * @returns {void}
 */
export function watch(pid, signal = "SIGTERM") {
  tell({ do: "watch", pid, signal });
}

/**
 * Cancels `watch`. Call it as soon as the process has ended, because another process may get its id.
 *
 * @param {number} pid
 * @returns {void}
 */
export function release(pid) {
  tell({ do: "release", pid });
}

/**
 * Removes a folder and its content when this process ends.
 *
 * @param {string} path
 * @returns {void}
 */
export function removeAtEnd(path) {
  tell({ do: "folder", path });
}

/** @returns {void} */
function reap() {
  for (const signal of /** @type {const} */ (["SIGHUP", "SIGINT", "SIGTERM"])) process.on(signal, () => {});
  /** @type {Map<number, NodeJS.Signals>} */
  const watched = new Map();
  /** @type {string[]} */
  const folders = [];
  createInterface({ input: process.stdin })
    .on("line", (line) => {
      const order = /** @type {Order} */ (JSON.parse(line));
      if (order.do === "watch") watched.set(order.pid, order.signal);
      else if (order.do === "release") watched.delete(order.pid);
      else folders.push(order.path);
    })
    .on("close", () => endAll(watched, folders));
}

/**
 * @param {Map<number, NodeJS.Signals>} watched
 * @param {readonly string[]} folders
 * @returns {void}
 */
function endAll(watched, folders) {
  for (const [pid, signal] of watched) signalGroup(pid, signal);
  const deadline = Date.now() + PATIENCE_MS;
  const poll = setInterval(() => {
    const left = [...watched.keys()].filter((pid) => signalGroup(pid, 0));
    if (left.length > 0 && Date.now() < deadline) return;
    clearInterval(poll);
    for (const pid of left) signalGroup(pid, "SIGKILL");
    for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }, 20);
}

/**
 * Signals the process group that `pid` leads.
 *
 * @param {number} pid
 * @param {NodeJS.Signals | 0} signal 0 only checks whether it exists.
 * @returns {boolean} false if it is gone.
 */
export function signalGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
    return true;
  } catch {
    return false;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) reap();
