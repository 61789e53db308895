/** Creates temporary folders that are removed with this process, and chooses the user for servers that refuse to run as root. */
import { execFileSync } from "node:child_process";
import { chownSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { removeAtEnd } from "./reaper.mjs";

/** @typedef {{ uid: number, gid: number }} Owner */

/**
 * A new empty folder in the system's temporary folder. It is removed when this process ends, if not before.
 *
 * @param {string} name
 * @param {Owner} [owner] the owner of the folder; only root can set it.
 * @returns {string}
 */
export function temporaryFolder(name, owner) {
  const base = owner === undefined || reachable(tmpdir()) ? tmpdir() : "/tmp";
  const folder = mkdtempSync(join(base, `celery-metrics-exporter-${name}-`));
  removeAtEnd(folder);
  if (owner !== undefined) chownSync(folder, owner.uid, owner.gid);
  return folder;
}

/**
 * @param {string} folder
 * @returns {void}
 */
export function removeFolder(folder) {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}

/**
 * The first of `users` that exists, if this process runs as root: PostgreSQL refuses to run as root.
 *
 * @param {readonly string[]} users
 * @returns {Owner | undefined}
 */
export function unprivilegedOwner(users) {
  if (process.getuid?.() !== 0) return undefined;
  for (const user of users) {
    const uid = idOf("-u", user);
    const gid = idOf("-g", user);
    if (uid !== undefined && gid !== undefined) return { uid, gid };
  }
  throw new Error(`found none of the users ${users.join(", ")} to run as instead of root`);
}

/**
 * @param {"-u" | "-g"} which
 * @param {string} user
 * @returns {number | undefined}
 */
function idOf(which, user) {
  try {
    return Number(execFileSync("id", [which, user], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  } catch {
    return undefined;
  }
}

/**
 * Whether every user may enter `folder` and all its parents.
 *
 * @param {string} folder
 * @returns {boolean}
 */
function reachable(folder) {
  if ((statSync(folder).mode & 0o001) === 0) return false;
  return dirname(folder) === folder || reachable(dirname(folder));
}
