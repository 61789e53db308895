/** The folder of an embedded database, whose contents are nobody else's business, whatever the umask. */
import { UnavailableError, toError } from "@celery-metrics-exporter/runtime";
import { chmodSync, lstatSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { LOCK_FILE } from "./process-lock.ts";

const OTHERS = 0o077;
/** Every PostgreSQL has it in its folder. */
const DATABASE_FILE = "PG_VERSION";

/**
 * Makes the folder where it is missing, and takes everyone else's rights to it and all that is in it.
 *
 * @throws {UnavailableError} when it contains anything but a database, which is left as it is; or when it belongs to another user and is open
 *   to others.
 */
export function makePrivateFolder(folder: string): void {
  refuseOthersFiles(folder);
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

function refuseOthersFiles(folder: string): void {
  const names = namesIn(folder);
  if (names.includes(DATABASE_FILE)) return;
  // A process that was killed before it made the database leaves its lock.
  const other = names.find((name) => !name.startsWith(LOCK_FILE));
  if (other === undefined) return;
  throw new UnavailableError(
    `${folder} contains ${other} and no embedded database. Name a folder that is empty or does not exist yet, such as pglite:${join(folder, "data")}.`,
  );
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new UnavailableError(`Cannot read ${folder} (${toError(thrown).message}). Name a folder of your own.`);
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
