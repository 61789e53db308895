/** Finds programs on the PATH, and in folders where packages put servers without linking them there. */
import { accessSync, constants, readdirSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Folders of Homebrew and distributions that a user's PATH may lack. */
const USUAL_FOLDERS = [
  "/usr/local/bin",
  "/usr/bin",
  "/bin",
  "/usr/local/sbin",
  "/usr/sbin",
  "/sbin",
  "/opt/homebrew/bin",
  "/opt/homebrew/sbin",
];

/** @returns {string[]} the PATH's folders, then the usual ones. */
function searchPath() {
  const path = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  return [...new Set([...path, ...USUAL_FOLDERS])];
}

/**
 * The first of `names` that is executable.
 *
 * @param {readonly string[]} names
 * @param {readonly string[]} [folders] searched before the PATH.
 * @returns {string | undefined} its full path.
 */
export function findProgram(names, folders = []) {
  return findPrograms(names, folders)[0];
}

/**
 * All programs with these names, in search order.
 *
 * @param {readonly string[]} names
 * @param {readonly string[]} [folders]
 * @returns {string[]}
 */
export function findPrograms(names, folders = []) {
  return [...folders, ...searchPath()].flatMap((folder) => names.map((name) => join(folder, name)).filter(isExecutable));
}

/**
 * @param {string} path
 * @returns {boolean}
 */
export function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/**
 * The folders `<parent>/<entry>/<child>` whose entry matches, the highest version first.
 *
 * @param {string} parent
 * @param {RegExp} entry
 * @param {string} child
 * @returns {string[]}
 */
export function versionedFolders(parent, entry, child) {
  try {
    return readdirSync(parent)
      .filter((name) => entry.test(name))
      .sort((a, b) => b.localeCompare(a, "en", { numeric: true }))
      .map((name) => join(parent, name, child));
  } catch {
    return [];
  }
}
