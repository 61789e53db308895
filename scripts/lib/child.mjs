/** Runs other programs in the foreground. */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { Failure } from "./console.mjs";

/**
 * Runs a program on this terminal. Forwards SIGTERM and SIGINT to it, except SIGINT from a keyboard, which it has already received.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv }} [options]
 * @returns {Promise<number>} its exit code, or 128 + n if signal n ended it.
 */
export function run(command, args, { cwd, env = process.env } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env, stdio: "inherit" });
    const terminate = () => child.kill("SIGTERM");
    const interrupt = () => process.stdin.isTTY || child.kill("SIGINT");
    process.on("SIGTERM", terminate).on("SIGINT", interrupt);
    const removeListeners = () => process.off("SIGTERM", terminate).off("SIGINT", interrupt);
    child.once("error", (error) => {
      removeListeners();
      reject(new Failure(`${command} could not be run: ${error.message}`));
    });
    child.once("exit", (code, signal) => {
      removeListeners();
      resolve(code ?? 128 + constants.signals[/** @type {NodeJS.Signals} */ (signal)]);
    });
  });
}

/**
 * Like `run`, but the program must succeed.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv }} [options]
 * @returns {Promise<void>}
 */
export async function mustRun(command, args, options) {
  const code = await run(command, args, options);
  if (code !== 0) throw new Failure(`\`${[command, ...args].join(" ")}\` exited with code ${code}.`, code);
}
