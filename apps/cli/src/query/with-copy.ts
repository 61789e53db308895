/** Works on a copy of the embedded database, and always removes the copy. */
import { copyEmbeddedDatabase } from "@celery-metrics-exporter/db";
import { UnavailableError, exitWith, pause } from "@celery-metrics-exporter/runtime";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
/** How long an interrupted copy may take to stop. */
const LAST_COPYING_MS = 2_000;

/** Removes a folder when its input ends, that is when the process is gone for any reason. */
const GUARD = 'trap "" HUP INT TERM; cat >/dev/null; rm -rf -- "$1"';

/**
 * Removes the copy when the work is done or the process ends, even if a signal ends it.
 *
 * @param url of a folder.
 * @throws {UnavailableError} if there is no database to copy, or if the process that has it open does not allow the copy.
 */
export async function withCopy<T>(url: string, work: (copyUrl: string) => Promise<T>): Promise<T> {
  const place = url.slice("pglite:".length);
  if (place === "" || place === "memory") {
    throw new UnavailableError(`DATABASE_URL=${url} is in the memory of the process that uses it: no other process can read it.`);
  }
  if (!existsSync(join(place, "PG_VERSION"))) {
    throw new UnavailableError(`There is no embedded database in ${resolve(place)} yet. Run \`start\` first, or set DATABASE_URL.`);
  }
  const copy = await copyUnlessInterrupted(url);
  const release = removeAtEndOfProcess(copy.url.slice("pglite:".length));
  try {
    return await work(copy.url);
  } finally {
    copy.remove();
    release();
  }
}

/** On a signal, the process exits once there is nothing left to remove. */
async function copyUnlessInterrupted(url: string): Promise<Awaited<ReturnType<typeof copyEmbeddedDatabase>>> {
  const copying = copyEmbeddedDatabase(url);
  const end = (signal: NodeJS.Signals): void => {
    const removed = copying.then(
      (copy) => copy.remove(),
      () => {},
    );
    void Promise.race([removed, pause(LAST_COPYING_MS)]).then(() => exitWith(128 + SIGNALS[signal as keyof typeof SIGNALS]));
  };
  const names = Object.keys(SIGNALS) as (keyof typeof SIGNALS)[];
  for (const name of names) process.once(name, end);
  try {
    return await copying;
  } finally {
    for (const name of names) process.off(name, end);
  }
}

/** PGlite runs a statement on this thread, where signal handlers cannot run meanwhile, so another process removes the copy. */
function removeAtEndOfProcess(folder: string): () => void {
  const guard = spawn("sh", ["-c", GUARD, "sh", folder], { cwd: "/", detached: true, stdio: ["pipe", "ignore", "ignore"] });
  guard.on("error", () => {});
  guard.stdin.on("error", () => {});
  guard.unref();
  return () => {
    guard.kill("SIGKILL");
    guard.stdin.destroy();
  };
}
