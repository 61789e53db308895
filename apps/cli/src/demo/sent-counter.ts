/** Counts the tasks in the shop's log as it grows. */
import { closeSync, openSync, readSync } from "node:fs";

const FIRST_SENDING = /"did": "sent".*"retries": 0\}/;

export class SentCounter {
  readonly #path: string;
  #offset = 0;
  #rest = "";
  #sent = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** Tasks sent so far, by the client or by other tasks; a retry is not a new one. */
  count(): number {
    const lines = (this.#rest + this.#readNew()).split("\n");
    this.#rest = lines.pop() ?? "";
    this.#sent += lines.filter((line) => FIRST_SENDING.test(line)).length;
    return this.#sent;
  }

  #readNew(): string {
    let file: number;
    try {
      file = openSync(this.#path, "r");
    } catch {
      return ""; // nothing was logged yet
    }
    try {
      const buffer = Buffer.alloc(1024 * 1024);
      const length = readSync(file, buffer, 0, buffer.length, this.#offset);
      this.#offset += length;
      return buffer.toString("latin1", 0, length);
    } finally {
      closeSync(file);
    }
  }
}
