/** A reporter for Vitest: writes how many errors happened outside of tests, which its JSON report leaves out. */
import { writeFileSync } from "node:fs";

/** The file to write to. */
export const UNHANDLED_ERRORS_FILE = "UNHANDLED_ERRORS_FILE";

export default class UnhandledErrors {
  /**
   * @param {unknown} _files
   * @param {readonly unknown[]} errors
   */
  onTestRunEnd(_files, errors) {
    const file = process.env[UNHANDLED_ERRORS_FILE];
    if (file !== undefined) writeFileSync(file, String(errors.length));
  }
}
