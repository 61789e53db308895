/** The folder of an embedded database, whose contents are nobody else's business, whatever the umask. */
import { UnavailableError, pause, toError } from "@celery-metrics-exporter/runtime";
import { chmodSync, linkSync, lstatSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

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

// A lock file that lets one process at a time use something, and that a crash does not leave locked.

/** Below the folder of an embedded database; PGlite itself lets several processes open it, and the last to write wins. */
export const LOCK_FILE = "celery-metrics-exporter.pid";

/** Between its creation and its content a lock file is empty; one that stays so is of a process that crashed there. */
const EMPTY_FOR_MS = 500;

/**
 * Takes the lock, over from a process that is no more if need be.
 *
 * @param inUse what to say when process `pid` has it.
 * @returns what gives it back.
 * @throws {UnavailableError} when another process has it.
 */
export async function lockForThisProcess(path: string, inUse: (pid: number) => string): Promise<() => void> {
  const ours = describeProcess(process.pid);
  while (!createFile(path, ours)) {
    const holder = await readHolder(path);
    if (isRunning(holder)) throw new UnavailableError(inUse(pidOf(holder)));
    removeStale(path, holder);
  }
  return () => {
    if (readIfThere(path) === ours) rmSync(path, { force: true });
  };
}

function createFile(path: string, content: string): boolean {
  try {
    writeFileSync(path, content, { flag: "wx", mode: 0o600 });
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw thrown;
  }
}

async function readHolder(path: string): Promise<string> {
  for (const deadline = Date.now() + EMPTY_FOR_MS; ; await pause(20)) {
    const holder = readIfThere(path);
    if (holder !== "" || Date.now() > deadline) return holder ?? "";
  }
}

/** Moves the file before it removes it: somebody else may have taken the lock over since we read it, and then gets it back. */
function removeStale(path: string, holder: string): void {
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
    if (readIfThere(aside) !== holder) linkSync(aside, path);
  } catch (thrown) {
    // ENOENT: gone already. EEXIST: locked anew.
    if (!/^(ENOENT|EEXIST)$/.test((thrown as NodeJS.ErrnoException).code ?? "")) throw thrown;
  } finally {
    rmSync(aside, { force: true });
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw thrown;
  }
}

function pidOf(holder: string): number {
  return Number.parseInt(holder, 10);
}

/** Whether the process that `describeProcess` described still runs. */
export function isRunning(holder: string): boolean {
  const pid = pidOf(holder);
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
  } catch (thrown) {
    // EPERM: it runs, as another user.
    if ((thrown as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  // Without the time, as written on another system, the pid alone must do.
  return holder.trim() === String(pid) || holder === describeProcess(pid);
}

/**
 * The pid, and on Linux when the process started (field 22 of proc(5)'s `stat`, in ticks since the boot): pids come again, in containers
 * the same one at every start.
 */
export function describeProcess(pid: number): string {
  const stat = process.platform === "linux" ? readIfThere(`/proc/${pid}/stat`) : undefined;
  // The second field is the program's name in parentheses, which may hold blanks.
  const startedAt = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  return startedAt === undefined ? `${pid}\n` : `${pid} ${startedAt}\n`;
}
