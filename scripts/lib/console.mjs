/** The output of the scripts: one line per step, and a remedy if they cannot continue. */

/** `EX_UNAVAILABLE` of sysexits.h: something required is missing. */
export const EXIT_UNAVAILABLE = 69;

/** Ends the script without a stack trace. */
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
 * Runs a script's main function and uses its result as the exit code. A failure ends the process at once; the servers that it started end with it
 * (packages/testkit/src/services/reaper.mjs).
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
