/** Runs other programs in the foreground. */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { Failure } from "./console.mjs";

/**
 * Runs a program on this terminal. SIGTERM and SIGINT go on to it; SIGINT from a keyboard it has got already.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv }} [options]
 * @returns {Promise<number>} its exit code, 128 + n when signal n ended it.
 */
export function run(command, args, { cwd, env = process.env } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env, stdio: "inherit" });
    const terminate = () => child.kill("SIGTERM");
    const interrupt = () => process.stdin.isTTY || child.kill("SIGINT");
    process.on("SIGTERM", terminate).on("SIGINT", interrupt);
    const settle = () => process.off("SIGTERM", terminate).off("SIGINT", interrupt);
    child.once("error", (error) => {
      settle();
      reject(new Failure(`${command} could not be run: ${error.message}`));
    });
    child.once("exit", (code, signal) => {
      settle();
      resolve(code ?? 128 + constants.signals[/** @type {NodeJS.Signals} */ (signal)]);
    });
  });
}

/**
 * Like `run`, for a step that must succeed.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv }} [options]
 * @returns {Promise<void>}
 */
export async function mustRun(command, args, options) {
  const code = await run(command, args, options);
  if (code !== 0) throw new Failure(`\`${[command, ...args].join(" ")}\` ended with exit code ${code}.`, code);
}
