/** A folder whose contents are nobody else's business, whatever the umask. */
import { UnavailableError, toError } from "@celery-metrics-exporter/runtime";
import { chmodSync, lstatSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";

const OTHERS = 0o077;

/**
 * Makes the folder where it is missing, and takes everyone else's rights to it and all that is in it.
 *
 * @throws {UnavailableError} when it belongs to another user and is open to others.
 */
export function makePrivateFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    close(folder);
  } catch (thrown) {
    throw new UnavailableError(`Cannot keep ${folder} from other users (${toError(thrown).message}). Name a folder of your own.`);
  }
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    // What is inside cannot be reached any more; this is for the day the folder is opened or copied.
    if (!entry.isSymbolicLink()) closeIfPossible(join(entry.parentPath, entry.name));
  }
}

function closeIfPossible(path: string): void {
  try {
    close(path);
  } catch {
    // Gone by now, or another user's.
  }
}

function close(path: string): void {
  const { mode } = lstatSync(path);
  if ((mode & OTHERS) !== 0 && process.platform !== "win32") chmodSync(path, mode & 0o700);
}
