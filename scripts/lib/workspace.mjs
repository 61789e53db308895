/** Installs and builds the workspace, each step only if something has changed since the last time. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { mustRun } from "./child.mjs";
import { Failure, step } from "./console.mjs";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

const STATE_FILE = join(ROOT, "node_modules/.cache/celery-metrics-exporter/workspace.json");
const OLDEST_NODE = [20, 20];

/** @typedef {{ installed?: string, built?: string }} State digests of the last installation and build. */

/**
 * Installs and builds the workspace with the package manager and version in package.json; pnpm need not be installed.
 *
 * @returns {Promise<void>}
 */
export async function prepareWorkspace() {
  checkNode();
  const installed = digest(manifests());
  if (!existsSync(join(ROOT, "node_modules/.modules.yaml")) || readState().installed !== installed) {
    step("Installing the packages (pnpm install) and building …");
    await pnpm("install", "--frozen-lockfile", "--prod=false", "--config.confirm-modules-purge=false");
    writeState({ installed, built: digest(sources()) });
    return;
  }
  const built = digest(sources());
  if (readState().built === built && packageFolders().every((folder) => existsSync(join(folder, "dist")))) return;
  step("Building …");
  await pnpm("run", "build");
  writeState({ installed, built });
}

/**
 * Runs the pinned pnpm. It adds itself to the PATH of its children, because turbo needs it.
 *
 * @param {...string} args
 * @returns {Promise<void>}
 */
async function pnpm(...args) {
  const manager = /** @type {{ packageManager: string }} */ (JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"))).packageManager;
  const env = { ...process.env, NODE_ENV: "development", TURBO_TELEMETRY_DISABLED: "1", npm_config_update_notifier: "false" };
  await mustRun("npx", ["--yes", manager, ...args], { cwd: ROOT, env });
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_NODE;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  throw new Failure(`Node.js ${OLDEST_NODE.join(".")} or later is required; this is ${process.versions.node}.`);
}

/** @returns {string[]} */
function packageFolders() {
  return ["apps", "packages"].flatMap((parent) =>
    readdirSync(join(ROOT, parent))
      .map((name) => join(ROOT, parent, name))
      .filter((folder) => existsSync(join(folder, "package.json"))),
  );
}

/** @returns {string[]} the files that determine what is installed. */
function manifests() {
  const root = ["package.json", "pnpm-lock.yaml", "pnpm-workspace.yaml", "test/package.json"].map((name) => join(ROOT, name));
  return [...root, ...packageFolders().map((folder) => join(folder, "package.json"))];
}

/** What a package contains that is not built. Everything else may be, so that no new folder of sources is forgotten. */
const NOT_BUILT = new Set(["dist", "node_modules", ".turbo", "test", "bench", "README.md"]);

/** @returns {string[]} the files that determine what is built. */
function sources() {
  const own = packageFolders().flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => !NOT_BUILT.has(name))
      .sort()
      .flatMap((name) => filesAt(join(folder, name))),
  );
  return [join(ROOT, "tsconfig.json"), join(ROOT, "scripts/bundle.mjs"), ...own];
}

/**
 * @param {string} path
 * @returns {string[]} the file at the path, or those in the folder.
 */
function filesAt(path) {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path, { recursive: true, encoding: "utf8" })
    .map((name) => join(path, name))
    .filter((file) => statSync(file).isFile())
    .sort();
}

/**
 * @param {readonly string[]} paths
 * @returns {string}
 */
function digest(paths) {
  const hash = createHash("sha256");
  for (const path of paths) hash.update(path).update("\0").update(readFileSync(path)).update("\0");
  return hash.digest("hex");
}

/** @returns {State} */
function readState() {
  try {
    return /** @type {State} */ (JSON.parse(readFileSync(STATE_FILE, "utf8")));
  } catch {
    return {};
  }
}

/**
 * @param {State} state
 * @returns {void}
 */
function writeState(state) {
  mkdirSync(dirname(STATE_FILE), { recursive: true });
  writeFileSync(STATE_FILE, JSON.stringify(state));
}
