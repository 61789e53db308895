/**
 * Copies of an embedded database, for other processes to read. PGlite runs statements on this process's thread and cannot be interrupted, so a user's
 * statement must never run in it. Instead, another process copies the files while writing is paused, and opens the copy.
 */
import type { PGlite } from "@electric-sql/pglite";
import { UnavailableError, toError } from "@celery-metrics-exporter/runtime";
import { chmodSync, constants, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { cp } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { basename, dirname, join, relative, resolve } from "node:path";
import { LOCK_FILE, describeProcess, holdsDatabase, isRunning, lockForThisProcess } from "./private-folder.ts";

/** In the database's folder, which only its owner can access. */
const SOCKET_FILE = "celery-metrics-exporter.sock";
/** Marks a copy of ours, with its name and the process that made it. A copy without a mark, or with another name in it, belongs to a user. */
const MARK_FILE = "celery-metrics-exporter.copy";
/** Time limit for pausing writes: the copying process may hang. */
const HOLD_MS = 60_000;
const READY = "ready";

/** Pauses writing while another process is connected and copies. @returns a function that ends the offer. */
export async function offerCopies(folder: string, client: PGlite): Promise<() => Promise<void>> {
  const path = socketPath(folder);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
    // Between two transactions, the files contain everything committed.
    client.transaction(() => letCopy(socket)).catch(() => socket.destroy());
  });
  server.on("error", () => {});
  rmSync(path, { force: true });
  await new Promise<void>((done) => {
    server.once("error", () => done());
    server.listen(path, done);
  });
  if (server.listening) chmodSync(path, 0o600);
  return async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((done) => void server.close(() => done()));
  };
}

/** Resolves when the other process is done or gone, or the time is up. */
function letCopy(socket: Socket): Promise<void> {
  return new Promise((done) => {
    const timer = setTimeout(() => socket.destroy(), HOLD_MS);
    const finish = (): void => {
      clearTimeout(timer);
      done();
    };
    if (socket.destroyed) return finish();
    socket.once("close", finish).once("end", () => socket.destroy());
    socket.resume().write(READY);
  });
}

export interface EmbeddedCopy {
  /** `pglite:…`, for `connectDatabase`. */
  readonly url: string;
  readonly remove: () => void;
}

/**
 * Copies the embedded database of `url`, whether or not a process has it open.
 *
 * @throws {UnavailableError} if it does not exist, or the process that has it open does not respond.
 */
export async function copyEmbeddedDatabase(url: string): Promise<EmbeddedCopy> {
  const folder = resolve(url.slice("pglite:".length));
  if (!holdsDatabase(folder)) throw new UnavailableError(`There is no embedded database in ${folder} yet.`);
  removeOldCopies(folder);
  const copy = mkdtempSync(join(dirname(folder), copyPrefix(folder)));
  const remove = (): void => rmSync(copy, { recursive: true, force: true });
  try {
    writeFileSync(join(copy, MARK_FILE), markOf(copy, describeProcess(process.pid)), { mode: 0o600 });
    await whileNothingIsWritten(folder, () => copyFiles(folder, copy));
  } catch (thrown) {
    remove();
    throw thrown;
  }
  return { url: `pglite:${copy}`, remove };
}

function copyFiles(folder: string, copy: string): Promise<void> {
  const leftOut = new Set([LOCK_FILE, SOCKET_FILE, MARK_FILE].map((name) => join(folder, name)));
  return cp(folder, copy, { recursive: true, mode: constants.COPYFILE_FICLONE, filter: (source) => !leftOut.has(source) });
}

async function whileNothingIsWritten(folder: string, work: () => Promise<void>): Promise<void> {
  const socket = await askForCopy(folder);
  if (socket === undefined) {
    const inUse = (pid: number): string => `Process ${pid} has the embedded database in ${folder} open but does not answer.`;
    const unlock = await lockForThisProcess(join(folder, LOCK_FILE), inUse);
    return work().finally(unlock);
  }
  try {
    await work();
    if (socket.destroyed)
      throw new UnavailableError(`The process that has the embedded database in ${folder} open resumed writing during the copy.`);
  } finally {
    socket.destroy();
  }
}

/** Undefined if no process listens. */
function askForCopy(folder: string): Promise<Socket | undefined> {
  return new Promise((done, fail) => {
    const socket = connect(socketPath(folder));
    const refused = (error: Error): void => {
      const isFree = /^(ENOENT|ECONNREFUSED)$/.test((error as NodeJS.ErrnoException).code ?? "");
      if (isFree) done(undefined);
      else fail(new UnavailableError(`Cannot read the embedded database in ${folder} (${toError(error).message}).`));
    };
    socket.setTimeout(HOLD_MS, () => socket.destroy(new Error("the process that has it open does not answer")));
    socket.once("error", refused);
    socket.once("data", () => {
      socket.off("error", refused).on("error", () => {});
      done(socket);
    });
  });
}

/** Removes copies of processes that were killed. */
function removeOldCopies(folder: string): void {
  const parent = dirname(folder);
  for (const name of readdirSync(parent)) {
    const copy = join(parent, name);
    if (name.startsWith(copyPrefix(folder)) && isLeftBehind(copy)) rmSync(copy, { recursive: true, force: true });
  }
}

function copyPrefix(folder: string): string {
  return `${basename(folder)}-copy-`;
}

function isLeftBehind(copy: string): boolean {
  try {
    const mark = readFileSync(join(copy, MARK_FILE), "utf8");
    const maker = mark.slice(mark.indexOf("\n") + 1);
    return mark === markOf(copy, maker) && !isRunning(maker);
  } catch {
    return false; // no mark
  }
}

/** Contains the copy's name, so that a copy renamed or copied by a user belongs to the user. */
function markOf(copy: string, maker: string): string {
  return `${basename(copy)}\n${maker}`;
}

/** The shorter of the absolute and relative paths: a socket's path is limited to about 100 characters. */
function socketPath(folder: string): string {
  const absolute = join(folder, SOCKET_FILE);
  const fromHere = relative(process.cwd(), absolute);
  return fromHere.length < absolute.length ? fromHere : absolute;
}
