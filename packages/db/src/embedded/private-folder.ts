/** The folder of an embedded database, private regardless of the umask. */
import { UnavailableError, pause, toError } from "@celery-metrics-exporter/runtime";
import { chmodSync, linkSync, lstatSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const OTHERS = 0o077;
/** A file in every PostgreSQL data folder. */
const DATABASE_FILE = "PG_VERSION";
/** Marks a folder whose database is being created. */
const UNFINISHED_FILE = "celery-metrics-exporter.unfinished";

/**
 * Creates the folder if it is missing, and revokes other users' access to it and its contents.
 *
 * @throws {UnavailableError} if it contains anything but a database, which is left unchanged, or if it belongs to another user and is open to
 *   others.
 */
export function makePrivateFolder(folder: string): void {
  refuseOthersFiles(folder);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    close(folder);
  } catch (thrown) {
    throw new UnavailableError(`Cannot make ${folder} private (${toError(thrown).message}). Choose a folder that you own.`);
  }
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    // The contents are already inaccessible. This protects them if the folder is opened or copied later.
    if (!entry.isSymbolicLink()) closeIfPossible(join(entry.parentPath, entry.name));
  }
}

/** Whether it has a complete database. */
export function holdsDatabase(folder: string): boolean {
  const names = namesIn(folder);
  return names.includes(DATABASE_FILE) && !names.includes(UNFINISHED_FILE);
}

/**
 * Creates a database in a folder that holds none. A process that is killed meanwhile, or a full disk, leaves some of its files, which this removes.
 * Requires the folder's lock.
 *
 * @throws {UnavailableError} if it cannot be created.
 */
export async function createInFolder<T>(folder: string, create: () => Promise<T>): Promise<T> {
  const unfinished = join(folder, UNFINISHED_FILE);
  if (namesIn(folder).includes(UNFINISHED_FILE)) {
    // The mark goes last.
    const left = namesIn(folder).filter((name) => name !== UNFINISHED_FILE && !name.startsWith(LOCK_FILE));
    for (const name of left) rmSync(join(folder, name), { recursive: true, force: true });
  } else writeFileSync(unfinished, "", { mode: 0o600 });
  try {
    const created = await create();
    rmSync(unfinished);
    return created;
  } catch (thrown) {
    throw new UnavailableError(`Cannot create the embedded database in ${folder} (${reasonOf(thrown)}).`, { cause: thrown });
  }
}

/** Of what PGlite throws: its file system has errors with a number only. */
function reasonOf(thrown: unknown): string {
  const { errno } = thrown as { readonly errno?: number };
  if (thrown instanceof Error || errno === undefined) return toError(thrown).message;
  return errno === NO_SPACE ? "no space left on the device" : `error ${errno} of the file system`;
}

/** `ENOSPC` of WASI. */
const NO_SPACE = 51;

function refuseOthersFiles(folder: string): void {
  const names = namesIn(folder);
  if (names.includes(DATABASE_FILE) || names.includes(UNFINISHED_FILE)) return;
  // A process that was killed before it created the database leaves its lock.
  const other = names.find((name) => !name.startsWith(LOCK_FILE));
  if (other === undefined) return;
  throw new UnavailableError(
    `${folder} contains ${other} but no embedded database. Choose an empty folder or one that does not exist yet, such as pglite:${join(folder, "data")}.`,
  );
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new UnavailableError(`Cannot read ${folder} (${toError(thrown).message}). Choose a folder that you own.`);
  }
}

function closeIfPossible(path: string): void {
  try {
    close(path);
  } catch {
    // Deleted meanwhile, or owned by another user.
  }
}

function close(path: string): void {
  const { mode } = lstatSync(path);
  if ((mode & OTHERS) !== 0 && process.platform !== "win32") chmodSync(path, mode & 0o700);
}

// A lock file for one process at a time, which a crash does not leave locked.

/** In the folder of an embedded database. Without it, PGlite lets several processes open the folder, and the last write wins. */
export const LOCK_FILE = "celery-metrics-exporter.pid";

/** Time after which an empty lock file counts as left by a crash. It is empty between its creation and the write of its content. */
const EMPTY_FOR_MS = 500;

/**
 * Takes the lock, also from a process that no longer runs.
 *
 * @param inUse the message if process `pid` holds it.
 * @returns a function that releases the lock.
 * @throws {UnavailableError} if another process holds it, or if its file cannot be written.
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
    throw new UnavailableError(`Cannot write ${path} (${toError(thrown).message}). Choose a folder that you may write.`);
  }
}

async function readHolder(path: string): Promise<string> {
  for (const deadline = Date.now() + EMPTY_FOR_MS; ; await pause(20)) {
    const holder = readIfThere(path);
    if (holder !== "" || Date.now() > deadline) return holder ?? "";
  }
}

/** Moves the file before removing it: if another process has taken the lock since we read it, the file is put back. */
function removeStale(path: string, holder: string): void {
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
    if (readIfThere(aside) !== holder) linkSync(aside, path);
  } catch (thrown) {
    // ENOENT: already gone. EEXIST: locked again.
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
  // Without the start time, as on other systems, the pid alone must suffice.
  return holder.trim() === String(pid) || holder === describeProcess(pid);
}

/**
 * The pid, and on Linux the start time of the process (field 22 of proc(5)'s `stat`, in ticks since boot): pids are reused, in containers even the
 * same one at every start.
 */
export function describeProcess(pid: number): string {
  const stat = process.platform === "linux" ? readIfThere(`/proc/${pid}/stat`) : undefined;
  // The second field is the program's name in parentheses, which may contain blanks.
  const startedAt = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  return startedAt === undefined ? `${pid}\n` : `${pid} ${startedAt}\n`;
}
