/** Real Celery workers as child processes. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CELERY_FOLDER, findCeleryPython } from "./services/celery.mjs";
import { removeFolder, temporaryFolder } from "./services/folders.mjs";
import { release, signalGroup, watch } from "./services/reaper.mjs";

export interface CeleryWorkerOptions {
  readonly brokerUrl: string;
  /** Python module with the application, found in testkit's `celery` folder or by PYTHONPATH in `env`; `shop` if not given. */
  readonly app?: string;
  readonly queues?: readonly string[];
  /** Tasks at a time; 2 if not given. */
  readonly concurrency?: number;
  /** The worker's node name; the part before `@` is enough. Workers that run at the same time need different ones. */
  readonly hostname?: string;
  readonly pool?: "prefork" | "threads" | "solo";
  /** Further options of `celery worker`. */
  readonly args?: readonly string[];
  /** Further environment, e.g. SHOP_LOG or TZ. */
  readonly env?: Readonly<Record<string, string>>;
  readonly startTimeoutMs?: number;
}

export interface CeleryWorker {
  readonly pid: number;
  readonly hostname: string;
  /** All that the worker wrote. */
  log(): string;
  /** Warm shutdown with SIGTERM: running tasks end first. By force after a minute. */
  stop(): Promise<void>;
  /** SIGKILL to the worker and its pool at once. */
  kill(): Promise<void>;
}

const SHOP_QUEUES = ["default", "payments", "mail", "images"];
const READY = / ready\.$/m;
const POLL_MS = 50;
const STOP_TIMEOUT_MS = 60_000;

/** The environment in which Python finds the shop and the broker. */
export function celeryEnvironment(brokerUrl: string, env: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  return { ...process.env, PYTHONPATH: CELERY_FOLDER, PYTHONDONTWRITEBYTECODE: "1", PYTHONUNBUFFERED: "1", BROKER_URL: brokerUrl, ...env };
}

/** @throws {Error} when this machine has no Python with Celery. */
export function requireCeleryPython(): string {
  const python = findCeleryPython();
  if (python === undefined) throw new Error("found no Python with celery, redis and amqp on this machine (CELERY_PYTHON names one)");
  return python;
}

/**
 * Starts a worker and resolves when it takes tasks.
 *
 * @throws {Error} with the end of its output when it does not come to that.
 */
export async function startCeleryWorker(options: CeleryWorkerOptions): Promise<CeleryWorker> {
  const { brokerUrl, hostname = "worker", env, startTimeoutMs = 60_000 } = options;
  const folder = temporaryFolder("celery");
  const logFile = join(folder, "output.log");
  const output = openSync(logFile, "a");
  const child = spawn(requireCeleryPython(), workerArguments(options), {
    cwd: folder,
    stdio: ["ignore", output, output],
    detached: true,
    env: celeryEnvironment(brokerUrl, env),
  });
  closeSync(output);
  const worker = new WorkerProcess(child, folder, hostname);
  const deadline = Date.now() + startTimeoutMs;
  while (!READY.test(worker.log())) {
    if (worker.hasEnded || Date.now() > deadline) {
      const said = worker.log().slice(-2_000);
      await worker.kill();
      throw new Error(`the Celery worker did not become ready:\n${said}`);
    }
    await sleep(POLL_MS);
  }
  return worker;
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
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #ended: Promise<unknown>;
  #finalLog: string | undefined;

  constructor(child: ChildProcess, folder: string, hostname: string) {
    if (child.pid === undefined) throw new Error("Python could not be started");
    this.pid = child.pid;
    this.hostname = hostname;
    this.#child = child;
    this.#folder = folder;
    watch(this.pid);
    child.unref();
    this.#ended = once(child, "exit").then(() => release(this.pid));
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  log(): string {
    return this.#finalLog ?? readFileSync(join(this.#folder, "output.log"), "utf8");
  }

  async stop(): Promise<void> {
    this.#child.ref();
    this.#child.kill("SIGTERM");
    const timeout = new AbortController();
    const late = sleep(STOP_TIMEOUT_MS, true, { signal: timeout.signal }).catch(() => false);
    const isLate = await Promise.race([this.#ended.then(() => false), late]);
    timeout.abort();
    if (isLate) signalGroup(this.pid, "SIGKILL");
    await this.#finish();
  }

  async kill(): Promise<void> {
    this.#child.ref();
    signalGroup(this.pid, "SIGKILL");
    await this.#finish();
  }

  async #finish(): Promise<void> {
    await this.#ended;
    this.#finalLog ??= this.log();
    removeFolder(this.#folder);
  }
}
