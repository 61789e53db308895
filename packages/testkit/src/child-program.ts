/** Starts programs and never leaves them behind: when this process ends, even by SIGKILL, so does the process group of each. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { release, signalGroup, watch } from "./services/reaper.mjs";

type Environment = Readonly<Record<string, string | undefined>>;

export interface Program {
  readonly command: string;
  readonly args: readonly string[];
  /** The complete environment: nothing of this process's environment is added. */
  readonly env: Environment;
  readonly folder: string;
  /** The file for its output. */
  readonly outputFile: string;
  /** Time that `stop` waits before it kills; default 10 s. */
  readonly stopTimeoutMs?: number;
}

const STOP_TIMEOUT_MS = 10_000;
const POLL_MS = 50;
/** Becomes the program once the program is being watched. If this process ends before that, so does it. */
const ONCE_WATCHED = 'read -r _ && exec "$@" </dev/null';

/** A program in its own process group: the terminal's Ctrl-C reaches only us, and we end the program and everything it started. */
export class ChildProgram {
  readonly pid: number | undefined;
  /** Resolves with the exit code: 127 if there is no such program, undefined if a signal ended it. */
  readonly ended: Promise<number | undefined>;
  readonly #program: Program;
  readonly #child: ChildProcess;
  /** Whether processes of its group may be left. */
  #isWatched: boolean;

  constructor(program: Program) {
    const { command, args, env, folder, outputFile } = program;
    this.#program = program;
    const output = openSync(outputFile, "a");
    const stdio = ["pipe", output, output] as const;
    this.#child = spawn("/bin/sh", ["-c", ONCE_WATCHED, "sh", command, ...args], {
      cwd: folder,
      env: { ...env },
      detached: true,
      stdio: [...stdio],
    });
    closeSync(output);
    this.pid = this.#child.pid;
    this.#isWatched = this.pid !== undefined;
    if (this.pid !== undefined) watch(this.pid);
    this.#child.stdin?.on("error", () => {}); // it has ended already
    this.#child.stdin?.end("\n");
    this.#child.unref();
    this.ended = this.#waitForEnd();
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null || this.pid === undefined;
  }

  /** Everything that it wrote. */
  output(): string {
    const { outputFile } = this.#program;
    return existsSync(outputFile) ? readFileSync(outputFile, "utf8") : "";
  }

  /** Resolves with whether its output matched in time; with false as soon as it ends without a match. */
  async hasWritten(pattern: RegExp, timeoutMs: number): Promise<boolean> {
    const deadline = Date.now() + timeoutMs;
    while (!pattern.test(this.output())) {
      if (this.hasEnded || Date.now() > deadline) return false;
      await sleep(POLL_MS);
    }
    return true;
  }

  /** Requests its end. */
  terminate(): void {
    if (!this.hasEnded) this.#child.kill("SIGTERM");
  }

  /** Kills it at once, with everything it started. */
  async kill(): Promise<void> {
    this.#killGroup();
    await this.stop();
  }

  /** Requests its end, and kills it with everything it started if it does not end in time. Also ends what it leaves behind. Safe to call twice. */
  async stop(): Promise<void> {
    this.#child.ref();
    this.terminate();
    const timer = setTimeout(() => this.#killGroup(), this.#program.stopTimeoutMs ?? STOP_TIMEOUT_MS);
    await this.ended;
    clearTimeout(timer);
    this.#killGroup();
    this.#release();
  }

  async #waitForEnd(): Promise<number | undefined> {
    try {
      const [exitCode] = (await once(this.#child, "exit")) as [number | null];
      if (this.pid !== undefined && !signalGroup(this.pid, 0)) this.#release();
      return exitCode ?? undefined;
    } catch {
      return undefined; // the folder does not exist
    }
  }

  #killGroup(): void {
    if (this.pid !== undefined && this.#isWatched) signalGroup(this.pid, "SIGKILL");
  }

  /** Called when it has ended, because its process id may be given to another program. */
  #release(): void {
    if (this.pid !== undefined && this.#isWatched) release(this.pid);
    this.#isWatched = false;
  }
}

/** Options of Node.js for programs that tests run for seconds. Optimizing the WebAssembly of an embedded database takes 2 s of CPU time, which only pays later. */
export const SHORT_LIVED: readonly string[] = ["--liftoff-only"];

/** A program that a test runs as a user would. */
export interface RunningProgram {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Standard output so far. */
  output(): string;
  errors(): string;
  signal(name: NodeJS.Signals): void;
  readonly exitCode: Promise<number | null>;
}

/** Runs a program in its own process group. Its environment contains only PATH and the given variables. */
export function startProgram(
  command: string,
  args: readonly string[],
  { env = {}, folder }: { readonly env?: Environment; readonly folder?: string } = {},
): RunningProgram {
  const child = spawn(command, [...args], {
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
    ...(folder !== undefined && { cwd: folder }),
  });
  const { pid = 0 } = child;
  if (pid > 0) {
    watch(pid);
    child.once("close", () => release(pid));
  }
  let output = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += text));
  return {
    child,
    pid,
    output: () => output,
    errors: () => errors,
    signal: (name) => void child.kill(name),
    exitCode: once(child, "close").then(([code]) => code as number | null),
  };
}
