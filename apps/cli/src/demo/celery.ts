/** The demo's Celery: a real worker, and a client that sends it tasks (`packages/testkit/celery`). */
import { UnavailableError, pause, type Environment } from "@celery-metrics-exporter/runtime";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { bareEnvironment } from "./bare-environment.ts";
import { celeryVersion } from "./celery-version.ts";
import { ChildProgram } from "./child-process.ts";
import { TaskCounts } from "./comparison.ts";
import { SentCounter } from "./sent-counter.ts";
import { outcomeOf, type ShopReport } from "./shop-report.ts";
import type { Outcome, Workload } from "./workload.ts";

export interface CeleryOptions {
  /** A Python that has Celery. */
  readonly python: string;
  readonly brokerUrl: string;
  /** Only what any program needs of it reaches Celery. */
  readonly env: Environment;
  /** What its queues' names begin with: a worker throws away the tasks of other applications that it finds in its queues. */
  readonly queuePrefix: string;
  /** How long to send; until `finish`, without. */
  readonly seconds: number | undefined;
}

/** `shop.py`, the application, and `drive.py`, the client. */
const SHOP_FOLDER = fileURLToPath(new URL("../../../../packages/testkit/celery", import.meta.url));
/** Without `-Q` it consumes the queues that `shop.py` defines. On a broker with other workers, it does not talk to them. */
const WORKER_ARGUMENTS = ["-m", "celery", "-A", "shop", "worker", "-c", "2", "--without-gossip", "--without-mingle"];
const SWEEP_ARGUMENTS = ["-c", "import shop; shop.delete_queues()"];
const TASKS_PER_SECOND = 12;
const START_TIMEOUT_MS = 60_000;
const SWEEP_TIMEOUT_MS = 10_000;

/** Starts the worker, and the client once the worker is ready. @throws {UnavailableError} when the worker does not come up. */
export async function startCelery(options: CeleryOptions): Promise<Workload> {
  const shop = new CeleryShop(options, celeryVersion(options.python));
  try {
    await shop.start();
  } catch (thrown) {
    await shop.stop().catch(() => {}); // what went wrong first is what the user wants to know
    throw thrown;
  }
  return shop;
}

class CeleryShop implements Workload {
  readonly description: string;
  readonly failed: Promise<never>;
  readonly #options: CeleryOptions;
  readonly #folder = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-demo-"));
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
    await this.#untilReady(this.#worker);
    void this.#worker.ended.then(() => this.#fail(this.#problem("worker", "has ended")));
    const pace = ["--rate", String(TASKS_PER_SECOND), "--seconds", String(seconds ?? 1e9), "--revoke"];
    this.#driver = this.#run("client", [join(SHOP_FOLDER, "drive.py"), ...pace, "--output", this.#report]);
    void this.#driver.ended.then(() => existsSync(this.#report) || this.#fail(this.#problem("client", "has ended without a report")));
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
    await this.#driver?.kill(); // it would wait until the worker has finished all tasks
    await this.#worker?.stop();
    try {
      await this.#deleteQueues();
    } finally {
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }

  /** @throws {UnavailableError} when they may remain. RabbitMQ deletes them an hour later then. */
  async #deleteQueues(): Promise<void> {
    if (this.#worker === undefined) return;
    this.#worker = undefined;
    const sweep = this.#run("sweep", SWEEP_ARGUMENTS);
    const exitCode = await Promise.race([sweep.ended, pause(SWEEP_TIMEOUT_MS)]);
    await sweep.kill();
    if (exitCode !== 0) throw this.#problem("sweep", `has not deleted the queues ${this.#options.queuePrefix}*`);
  }

  #run(name: string, args: readonly string[]): ChildProgram {
    const { python, brokerUrl, env, queuePrefix } = this.#options;
    const shop = {
      PYTHONPATH: SHOP_FOLDER,
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

  /** The worker says `celery@host ready.` when it takes tasks. */
  async #untilReady(worker: ChildProgram): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (!/ ready\.$/m.test(readFileSync(this.#outputFile("worker"), "utf8"))) {
      if (worker.hasEnded || Date.now() > deadline) throw this.#problem("worker", "did not become ready");
      await pause(100);
    }
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
