/** Real Celery workers as child processes. */
import { join } from "node:path";
import { ChildProgram } from "../child-program.ts";
import { CELERY_FOLDER, findCeleryPython } from "../services/celery.mjs";
import { removeFolder, temporaryFolder } from "../services/folders.mjs";

export interface CeleryWorkerOptions {
  readonly brokerUrl: string;
  /** Python module with the application, in testkit's `celery` folder or on the PYTHONPATH in `env`; default `shop`. */
  readonly app?: string;
  readonly queues?: readonly string[];
  /** Number of concurrent tasks; default 2. */
  readonly concurrency?: number;
  /** The worker's node name; the part before `@` is enough. Workers that run at the same time need different names. */
  readonly hostname?: string;
  readonly pool?: "prefork" | "threads" | "solo";
  /** More options for `celery worker`. */
  readonly args?: readonly string[];
  /** More environment variables, such as SHOP_LOG or TZ. */
  readonly env?: Readonly<Record<string, string>>;
  readonly startTimeoutMs?: number;
}

export interface CeleryWorker {
  readonly pid: number;
  readonly hostname: string;
  /** Everything that the worker wrote. */
  log(): string;
  /** Warm shutdown with SIGTERM: lets running tasks end, and kills the worker after a minute. */
  stop(): Promise<void>;
  /** SIGKILL to the worker and its pool at once. */
  kill(): Promise<void>;
}

const SHOP_QUEUES = ["default", "payments", "mail", "images"];
/** A worker prints `celery@host ready.` when it accepts tasks. */
export const WORKER_IS_READY = / ready\.$/m;
const STOP_TIMEOUT_MS = 60_000;

/** An environment in which Python finds the shop and the broker. */
export function celeryEnvironment(brokerUrl: string, env: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  return { ...process.env, PYTHONPATH: CELERY_FOLDER, PYTHONDONTWRITEBYTECODE: "1", PYTHONUNBUFFERED: "1", BROKER_URL: brokerUrl, ...env };
}

/** @throws {Error} if this machine has no Python with Celery. */
export function requireCeleryPython(): string {
  const python = findCeleryPython();
  if (python === undefined) throw new Error("found no Python with celery, redis and amqp on this machine (CELERY_PYTHON names one)");
  return python;
}

/**
 * Starts a worker and resolves when it accepts tasks.
 *
 * @throws {Error} with the end of its output if it does not become ready.
 */
export async function startCeleryWorker(options: CeleryWorkerOptions): Promise<CeleryWorker> {
  const { brokerUrl, hostname = "worker", env, startTimeoutMs = 60_000 } = options;
  const folder = temporaryFolder("celery");
  const program = new ChildProgram({
    command: requireCeleryPython(),
    args: workerArguments(options),
    env: celeryEnvironment(brokerUrl, env),
    folder,
    outputFile: join(folder, "output.log"),
    stopTimeoutMs: STOP_TIMEOUT_MS,
  });
  const worker = new WorkerProcess(program, folder, hostname);
  if (await program.hasWritten(WORKER_IS_READY, startTimeoutMs)) return worker;
  await worker.kill();
  throw new Error(`the Celery worker did not become ready:\n${worker.log().slice(-2_000)}`);
}

function workerArguments({
  app = "shop",
  queues = SHOP_QUEUES,
  concurrency = 2,
  hostname = "worker",
  pool = "prefork",
  args = [],
}: CeleryWorkerOptions): string[] {
  const node = hostname.includes("@") ? hostname : `${hostname}@%h`;
  const plain = ["--without-gossip", "--without-mingle", "--loglevel", "INFO"];
  return [
    "-m",
    "celery",
    "-A",
    app,
    "worker",
    "-Q",
    queues.join(","),
    "-c",
    String(concurrency),
    "-n",
    node,
    "-P",
    pool,
    ...plain,
    ...args,
  ];
}

class WorkerProcess implements CeleryWorker {
  readonly pid: number;
  readonly hostname: string;
  readonly #program: ChildProgram;
  readonly #folder: string;
  #finalLog: string | undefined;

  constructor(program: ChildProgram, folder: string, hostname: string) {
    if (program.pid === undefined) throw new Error("Python could not be started");
    this.pid = program.pid;
    this.hostname = hostname;
    this.#program = program;
    this.#folder = folder;
  }

  log(): string {
    return this.#finalLog ?? this.#program.output();
  }

  async stop(): Promise<void> {
    await this.#program.stop();
    this.#finish();
  }

  async kill(): Promise<void> {
    await this.#program.kill();
    this.#finish();
  }

  #finish(): void {
    this.#finalLog ??= this.log();
    removeFolder(this.#folder);
  }
}
