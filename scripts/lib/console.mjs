/** What the scripts tell whoever runs them: one line per step, and how to go on when they cannot. */

/** `EX_UNAVAILABLE` of sysexits.h: something that is needed is not there. */
export const EXIT_UNAVAILABLE = 69;

/** An end of the script that needs no stack trace. */
export class Failure extends Error {
  /**
   * @param {string} message
   * @param {number} [exitCode]
   */
  constructor(message, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

/**
 * @param {string} text
 * @returns {void}
 */
export function step(text) {
  process.stdout.write(`▸ ${text}\n`);
}

/**
 * Runs a script's main function; what it returns becomes the exit code. A failure ends the process at once, whatever else it was doing:
 * the servers it started go with it (packages/testkit/src/services/reaper.mjs).
 *
 * @param {() => Promise<number>} main
 * @returns {Promise<void>}
 */
export async function runScript(main) {
  try {
    process.exitCode = await main();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    if (error.message !== "") process.stderr.write(`\n${error.message}\n`);
    process.exit(error.exitCode);
  }
}
