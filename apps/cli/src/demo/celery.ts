/** The demo's Celery: a real worker, and a client that sends it tasks (`packages/testkit/celery`). */
import { UnavailableError, pause, type Environment } from "@celery-metrics-exporter/runtime";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { celeryVersion } from "./celery-version.ts";
import { ChildProgram } from "./child-process.ts";
import { TaskCounts } from "./comparison.ts";
import { SentCounter } from "./sent-counter.ts";
import { outcomeOf, type ShopReport } from "./shop-report.ts";
import type { Workload } from "./workload.ts";

export interface CeleryOptions {
  /** A Python that has Celery. */
  readonly python: string;
  readonly brokerUrl: string;
  readonly env: Environment;
  /** How long to send; until `finish`, without. */
  readonly seconds: number | undefined;
}

/** `shop.py`, the application, and `drive.py`, the client. */
const SHOP_FOLDER = fileURLToPath(new URL("../../../../packages/testkit/celery", import.meta.url));
const QUEUES = "default,payments,mail,images";
const TASKS_PER_SECOND = 12;
const START_TIMEOUT_MS = 60_000;

/** Starts the worker, and the client once the worker is ready. @throws {UnavailableError} when the worker does not come up. */
export async function startCelery({ python, brokerUrl, env, seconds }: CeleryOptions): Promise<Workload> {
  const version = celeryVersion(python);
  const folder = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-demo-"));
  const files = {
    log: join(folder, "shop.log"),
    worker: join(folder, "worker.log"),
    driver: join(folder, "driver.log"),
    report: join(folder, "report.json"),
  };
  const shop: Environment = {
    ...env,
    PYTHONPATH: SHOP_FOLDER,
    PYTHONDONTWRITEBYTECODE: "1",
    PYTHONUNBUFFERED: "1",
    BROKER_URL: brokerUrl,
    SHOP_LOG: files.log,
  };
  const programs: ChildProgram[] = [];
  const run = (args: readonly string[], outputFile: string): ChildProgram => {
    const program = new ChildProgram({ command: python, args, env: shop, folder, outputFile });
    programs.push(program);
    return program;
  };
  const stop = async (): Promise<void> => {
    await Promise.all(programs.map((program) => program.stop()));
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const worker = run(
      ["-m", "celery", "-A", "shop", "worker", "-Q", QUEUES, "-c", "2", "-n", "demo@%h", "--loglevel", "INFO"],
      files.worker,
    );
    await untilReady(worker, files.worker);
    const rate = ["--rate", String(TASKS_PER_SECOND), "--seconds", String(seconds ?? 1e9)];
    const driver = run([join(SHOP_FOLDER, "drive.py"), ...rate, "--revoke", "--output", files.report], files.driver);
    const failed = Promise.race([
      rejectAtEnd(worker, () => `The Celery worker has ended:\n${endOf(files.worker)}`),
      rejectAtEnd(driver, () => (existsSync(files.report) ? undefined : `The Celery client has ended:\n${endOf(files.driver)}`)),
    ]);
    failed.catch(() => {});
    const counter = new SentCounter(files.log);
    return {
      description: `a client of Celery ${version} to a worker`,
      get sent() {
        return counter.count();
      },
      failed,
      finish: async () => {
        if (seconds === undefined) driver.terminate();
        await driver.ended;
      },
      outcome: () => {
        if (!existsSync(files.report)) return new TaskCounts();
        return outcomeOf(JSON.parse(readFileSync(files.report, "utf8")) as ShopReport, version);
      },
      stop,
    };
  } catch (thrown) {
    await stop();
    throw thrown;
  }
}

/** The worker says `celery@host ready.` when it takes tasks. */
async function untilReady(worker: ChildProgram, outputFile: string): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!/ ready\.$/m.test(readFileSync(outputFile, "utf8"))) {
    if (worker.hasEnded || Date.now() > deadline)
      throw new UnavailableError(`The Celery worker did not become ready:\n${endOf(outputFile)}`);
    await pause(100);
  }
}

/** Rejects when the program has ended and `problem` finds one; never resolves. */
async function rejectAtEnd(program: ChildProgram, problem: () => string | undefined): Promise<never> {
  await program.ended;
  const message = problem();
  if (message !== undefined) throw new UnavailableError(message);
  return new Promise<never>(() => {});
}

function endOf(file: string): string {
  return existsSync(file) ? readFileSync(file, "utf8").slice(-2_000) : "";
}
