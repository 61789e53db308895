/** Where the demo's logs go, so that they do not run through the live summary. */
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { dirname, resolve } from "node:path";

export interface LogFile {
  readonly path: string;
  write(line: string): void;
  close(): void;
}

/** An empty `./.data/demo.log`. Written at once, so that nothing is missing when the process ends. */
export function openLogFile(): LogFile {
  const path = "./.data/demo.log";
  mkdirSync(dirname(resolve(path)), { recursive: true });
  const file = openSync(path, "w");
  let isOpen = true;
  return {
    path,
    write: (line) => {
      if (isOpen) writeSync(file, line);
    },
    close: () => {
      if (isOpen) closeSync(file);
      isOpen = false;
    },
  };
}
