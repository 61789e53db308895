/** The demo's Celery: a real worker, and a client that sends it tasks (`packages/testkit/celery`). */
import { UnavailableError, pause, toError, type Environment } from "@celery-metrics-exporter/runtime";
import {
  CELERY_FOLDER,
  ChildProgram,
  WORKER_IS_READY,
  removeFolder,
  temporaryFolder,
  type ShopTask,
} from "@celery-metrics-exporter/testkit";
import { execFileSync } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { FINAL_STATES, TaskCounts } from "./comparison.ts";
import { bareEnvironment } from "./environment.ts";
import type { Outcome, Workload } from "./workload.ts";

export interface CeleryOptions {
  /** A Python that has Celery. */
  readonly python: string;
  readonly brokerUrl: string;
  /** The environment for Celery: only variables that any program needs. */
  readonly env: Environment;
  /** Prefix of its queues' names: a worker discards other applications' tasks that it finds in its queues. */
  readonly queuePrefix: string;
  /** How long to send tasks; undefined means until `finish`. */
  readonly seconds: number | undefined;
}

/** Without `-Q` it consumes the queues that `shop.py` defines. It does not communicate with other workers on the broker. */
const WORKER_ARGUMENTS = ["-m", "celery", "-A", "shop", "worker", "-c", "2", "--without-gossip", "--without-mingle"];
const SWEEP_ARGUMENTS = ["-c", "import shop; shop.delete_queues()"];
const TASKS_PER_SECOND = 12;
const START_TIMEOUT_MS = 60_000;
const SWEEP_TIMEOUT_MS = 10_000;

/** Starts the worker, and the client once the worker is ready. @throws {UnavailableError} if the worker does not become ready. */
export async function startCelery(options: CeleryOptions): Promise<Workload> {
  const shop = new CeleryShop(options, celeryVersion(options.python));
  try {
    await shop.start();
  } catch (thrown) {
    await shop.stop().catch(() => {}); // the first error is the one that the user needs
    throw thrown;
  }
  return shop;
}

class CeleryShop implements Workload {
  readonly description: string;
  readonly failed: Promise<never>;
  readonly #options: CeleryOptions;
  readonly #folder = temporaryFolder("demo");
  readonly #log = join(this.#folder, "shop.log");
  readonly #report = join(this.#folder, "report.json");
  readonly #counter = new SentCounter(this.#log);
  #worker: ChildProgram | undefined;
  #driver: ChildProgram | undefined;
  #fail: (error: Error) => void = () => {};

  constructor(options: CeleryOptions, version: string) {
    this.#options = options;
    this.description = `to a worker of Celery ${version}`;
    this.failed = new Promise((_resolve, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
  }

  get sent(): number {
    return this.#counter.count();
  }

  async start(): Promise<void> {
    const { seconds, queuePrefix } = this.#options;
    this.#worker = this.#run("worker", [...WORKER_ARGUMENTS, "-n", `${queuePrefix}worker@%h`, "--loglevel", "INFO"]);
    if (!(await this.#worker.hasWritten(WORKER_IS_READY, START_TIMEOUT_MS))) throw this.#problem("worker", "did not become ready");
    void this.#worker.ended.then(() => this.#fail(this.#problem("worker", "has ended")));
    const pace = ["--rate", String(TASKS_PER_SECOND), "--seconds", String(seconds ?? 1e9), "--revoke"];
    this.#driver = this.#run("client", [join(CELERY_FOLDER, "drive.py"), ...pace, "--output", this.#report]);
    void this.#driver.ended.then(() => existsSync(this.#report) || this.#fail(this.#problem("client", "ended without a report")));
  }

  async finish(): Promise<void> {
    if (this.#options.seconds === undefined) this.#driver?.terminate();
    await this.#driver?.ended;
  }

  outcome(): Outcome {
    if (!existsSync(this.#report)) return { ended: new TaskCounts(), withoutEnd: new Map() };
    return outcomeOf(JSON.parse(readFileSync(this.#report, "utf8")) as ShopReport);
  }

  async stop(): Promise<void> {
    await this.#driver?.kill(); // otherwise it would wait until the worker has finished all tasks
    await this.#worker?.stop();
    try {
      await this.#deleteQueues();
    } finally {
      removeFolder(this.#folder);
    }
  }

  /** @throws {UnavailableError} if queues may remain; RabbitMQ then deletes them after an hour. */
  async #deleteQueues(): Promise<void> {
    if (this.#worker === undefined) return;
    this.#worker = undefined;
    const sweep = this.#run("sweep", SWEEP_ARGUMENTS);
    const exitCode = await Promise.race([sweep.ended, pause(SWEEP_TIMEOUT_MS)]);
    await sweep.kill();
    if (exitCode !== 0) throw this.#problem("sweep", `did not delete the queues ${this.#options.queuePrefix}*`);
  }

  #run(name: string, args: readonly string[]): ChildProgram {
    const { python, brokerUrl, env, queuePrefix } = this.#options;
    const shop = {
      PYTHONPATH: CELERY_FOLDER,
      PYTHONDONTWRITEBYTECODE: "1",
      PYTHONUNBUFFERED: "1",
      BROKER_URL: brokerUrl,
      CELERY_BROKER_URL: brokerUrl,
      SHOP_QUEUE_PREFIX: queuePrefix,
      SHOP_LOG: this.#log,
    };
    return new ChildProgram({
      command: python,
      args,
      env: { ...bareEnvironment(env), ...shop },
      folder: this.#folder,
      outputFile: this.#outputFile(name),
    });
  }

  #outputFile(name: string): string {
    return join(this.#folder, `${name}.log`);
  }

  #problem(name: string, what: string): UnavailableError {
    const file = this.#outputFile(name);
    const output = existsSync(file) ? readFileSync(file, "utf8").slice(-2_000) : "";
    return new UnavailableError(`The Celery ${name} ${what}:\n${output}`);
  }
}

/** The version of Celery that this Python has, such as `5.2.6`. @throws {UnavailableError} if it has none. */
function celeryVersion(python: string): string {
  try {
    return execFileSync(python, ["-c", "import celery; print(celery.__version__)"], {
      encoding: "utf8",
      timeout: 30_000,
      stdio: ["ignore", "pipe", "pipe"],
    }).trim();
  } catch (thrown) {
    const reason = toError(thrown).message.split("\n").at(-1) ?? "";
    throw new UnavailableError(`DEMO_CELERY_PYTHON: ${python} cannot import Celery (${reason}).`, { cause: thrown });
  }
}

/** The report of `drive.py` about the tasks: written from Celery's signals by the processes that ran them, not from events. */
export interface ShopReport {
  readonly tasks: Readonly<Record<string, Pick<ShopTask, "name" | "status">>>;
}

/** How the tasks ended. By Celery's rules, tasks that raise `Ignore` never end; others may end too late for the report. */
export function outcomeOf({ tasks }: ShopReport): Outcome {
  const ended = new TaskCounts();
  const withoutEnd = new Map<string, number>();
  for (const { name, status } of Object.values(tasks)) {
    const state = FINAL_STATES.find((final) => final === status);
    if (state === undefined) withoutEnd.set(status, (withoutEnd.get(status) ?? 0) + 1);
    else ended.add(name, state);
  }
  return { ended, withoutEnd };
}

const FIRST_SENDING = /"did": "sent".*"retries": 0\}/;

/** Counts the tasks in the shop's log as the log grows. */
export class SentCounter {
  readonly #path: string;
  #offset = 0;
  #rest = "";
  #sent = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** Number of tasks sent so far, by the client or by other tasks; a retry is not a new task. */
  count(): number {
    const lines = (this.#rest + this.#readNew()).split("\n");
    this.#rest = lines.pop() ?? "";
    this.#sent += lines.filter((line) => FIRST_SENDING.test(line)).length;
    return this.#sent;
  }

  #readNew(): string {
    let file: number;
    try {
      file = openSync(this.#path, "r");
    } catch {
      return ""; // nothing was logged yet
    }
    try {
      const buffer = Buffer.alloc(1024 * 1024);
      const length = readSync(file, buffer, 0, buffer.length, this.#offset);
      this.#offset += length;
      return buffer.toString("latin1", 0, length);
    } finally {
      closeSync(file);
    }
  }
}
