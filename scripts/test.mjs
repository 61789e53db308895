/**
 * `npm test [-- <vitest's options>]`: installs what the tests need, runs them, and ends with one plain line of counts. It runs everything except
 * the fault tests, which `npm run test:faults` runs, unless the options choose the projects.
 */
import { chmodSync, existsSync, mkdtempSync, readFileSync, statfsSync } from "node:fs";
import { join, relative } from "node:path";
import { removeAtEnd } from "../packages/testkit/src/services/reaper.mjs";
import { temporaryFolder } from "../packages/testkit/src/services/folders.mjs";
import { run } from "./lib/child.mjs";
import { EXIT_UNAVAILABLE, Failure, runScript, step } from "./lib/console.mjs";
import { DockerCompose } from "./lib/docker.mjs";
import { provide, remedy, titles } from "./lib/requirements.mjs";
import { UNHANDLED_ERRORS_FILE } from "./lib/unhandled-errors.mjs";
import { prepareWorkspace, ROOT } from "./lib/workspace.mjs";

/** How many of the slowest files are shown after a whole run. */
const SHOWN = 40;
/** A run of few files shows its times anyway. */
const FEW_FILES = 20;
/** So many files may fail beside the others and get a second run, alone. */
const MOST_REPEATED = 3;
/** What a property's failure begins with (fast-check): its next run would try other examples. */
const PROPERTY_FAILED = "Property failed";
const SHARED_MEMORY = "/dev/shm";
/** A whole run keeps up to a third of that in files. */
const LEAST_MEMORY = 6 * 2 ** 30;

await runScript(async () => {
  const given = process.argv.slice(2);
  const args = given.some((arg) => arg.startsWith("--project")) ? given : ["--project=!faults", ...given];
  const missing = await provide(["redis", "rabbitmq", "postgres", "celery", "chromium", "prometheus"]);
  if (missing.length > 0) {
    if (DockerCompose.isAvailable()) return testInContainer(args);
    throw new Failure(`The tests need ${titles(missing)}, which this machine lacks. Run:\n\n  ${remedy(missing)}\n`, EXIT_UNAVAILABLE);
  }
  await prepareWorkspace();
  step("Running the tests …");
  const whole = await runTests(args);
  if (whole.slowest.length > 0) process.stdout.write(`Slowest files, in seconds:\n${whole.slowest.join("\n")}\n`);
  const repeated = args.every((arg) => arg.startsWith("--")) ? repeatable(whole) : [];
  if (repeated.length === 0) return end(whole);

  step(`Running ${repeated.join(", ")} again, alone …`);
  const alone = await runTests([...args, "--maxWorkers=1", ...repeated]);
  if (alone.code !== 0) return end(whole);
  process.stdout.write(`Failed beside the others and passed alone, so they depend on time:\n${whole.failures.join("\n")}\n`);
  return end({ ...whole, code: 0, failed: 0, passed: whole.passed + whole.failed });
});

/**
 * @typedef {object} Outcome
 * @property {number} code Vitest's.
 * @property {number} passed
 * @property {number} failed A file that fails before its tests are known counts as one.
 * @property {number} skipped
 * @property {readonly string[]} failures The names of the tests that failed.
 * @property {readonly string[]} failedFiles Relative to the repository.
 * @property {boolean} hasFailedProperty
 * @property {boolean} hasOtherErrors Outside of tests: a worker died, or a promise was rejected.
 * @property {readonly string[]} slowest The files that took longest, as lines for the terminal.
 */

/**
 * @param {readonly string[]} args vitest's
 * @returns {Promise<Outcome>}
 */
async function runTests(args) {
  const folder = temporaryFolder("report");
  const [report, errors] = [join(folder, "report.json"), join(folder, "errors")];
  const counting = join(ROOT, "scripts/lib/unhandled-errors.mjs");
  const reporters = ["--reporter=default", "--reporter=json", `--reporter=${counting}`, `--outputFile.json=${report}`];
  const code = await run(process.execPath, [join(ROOT, "node_modules/vitest/vitest.mjs"), "run", ...reporters, ...args], {
    cwd: ROOT,
    env: { ...testEnvironment(), [UNHANDLED_ERRORS_FILE]: errors },
  });
  const hasOtherErrors = !existsSync(errors) || readFileSync(errors, "utf8") !== "0";
  return { code, hasOtherErrors, ...readReport(report) };
}

/**
 * The files that get a second run. Beside three others, a busy machine can be slower than a test allows; alone it is not. What fails again is
 * a fault.
 *
 * @param {Outcome} whole
 * @returns {readonly string[]}
 */
function repeatable({ failed, failedFiles, hasFailedProperty, hasOtherErrors }) {
  return failed > 0 && failedFiles.length <= MOST_REPEATED && !hasFailedProperty && !hasOtherErrors ? failedFiles : [];
}

/**
 * @param {Outcome} outcome
 * @returns {number} the exit code
 */
function end({ code, passed, failed, skipped }) {
  if (code !== 0 && failed === 0) process.stdout.write(`No test failed, but vitest exited with ${code}: see above.\n`);
  process.stdout.write(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}\n`);
  return code;
}

/**
 * @param {readonly string[]} args
 * @returns {Promise<number>}
 */
async function testInContainer(args) {
  const compose = new DockerCompose();
  try {
    step("Running the tests in a container, with Docker Compose …");
    return await compose.run("test", args);
  } finally {
    await compose.down();
  }
}

/** @returns {NodeJS.ProcessEnv} without variables that would send test metrics to an agent, or change them. */
function testEnvironment() {
  const given = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("DD_")));
  const folder = folderInMemory();
  return folder === undefined ? given : { ...given, TMPDIR: folder };
}

/**
 * A temporary folder in memory: on a disk, PostgreSQL takes 0.3 s of CPU time to create a database, and a tenth of that in memory.
 *
 * @returns {string | undefined} undefined where memory is short, or where programs in it could not be run.
 */
function folderInMemory() {
  try {
    const mount = readFileSync("/proc/mounts", "utf8")
      .split("\n")
      .find((line) => line.includes(` ${SHARED_MEMORY} tmpfs `));
    const { bavail, bsize } = statfsSync(SHARED_MEMORY);
    if (mount === undefined || mount.includes("noexec") || Math.min(bavail * bsize, process.availableMemory()) < LEAST_MEMORY)
      return undefined;
    const folder = mkdtempSync(`${SHARED_MEMORY}/cme-`);
    removeAtEnd(folder);
    // PostgreSQL runs as a user of its own.
    chmodSync(folder, 0o755);
    return folder;
  } catch {
    return undefined; // not Linux
  }
}

/**
 * Vitest's own counts.
 *
 * @param {string} file
 * @returns {Omit<Outcome, "code" | "hasOtherErrors">}
 */
function readReport(file) {
  /** @type {{ numPassedTests: number, numFailedTests: number, numPendingTests: number, numTodoTests: number, testResults: { name: string, startTime: number, endTime: number, status: string, assertionResults: { status: string, fullName: string, failureMessages: string[] }[] }[] }} */
  let report;
  try {
    report = JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return { passed: 0, failed: 0, skipped: 0, failures: [], failedFiles: [], hasFailedProperty: false, slowest: [] };
  }
  const files = report.testResults.map((result) => ({ ...result, path: relative(ROOT, result.name) }));
  const failedFiles = files.filter(({ status }) => status === "failed");
  const failures = failedFiles.flatMap(({ assertionResults }) => assertionResults.filter(({ status }) => status === "failed"));
  const brokenFiles = failedFiles.filter(({ assertionResults }) => assertionResults.length === 0);
  const times = files.map(({ path, startTime, endTime }) => ({ path, seconds: (endTime - startTime) / 1_000 }));
  const slowest = times.sort((one, other) => other.seconds - one.seconds).slice(0, files.length > FEW_FILES ? SHOWN : 0);
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + brokenFiles.length,
    skipped: report.numPendingTests + report.numTodoTests,
    failures: [...failures.map(({ fullName }) => fullName), ...brokenFiles.map(({ path }) => path)],
    failedFiles: failedFiles.map(({ path }) => path),
    hasFailedProperty: failures.some(({ failureMessages }) => failureMessages.some((message) => message.includes(PROPERTY_FAILED))),
    slowest: slowest.map(({ path, seconds }) => `${seconds.toFixed(1).padStart(7)}  ${path}`),
  };
}
