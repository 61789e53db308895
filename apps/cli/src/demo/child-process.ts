/** A program we start and never leave behind. */
import type { Environment } from "@celery-metrics-exporter/runtime";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";

export interface Program {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Environment;
  readonly folder: string;
  /** Gets what it writes. */
  readonly outputFile: string;
}

const KILL_AFTER_MS = 10_000;
/** Reads the leader of a process group, and kills the group when its input ends: that of a process that is gone, however it went. */
const GUARD = 'trap "" HUP INT TERM; read -r leader; cat >/dev/null; kill -s KILL -- "-$leader"';

/**
 * Starts a program in a process group of its own: the terminal's Ctrl-C goes to us alone, and we end it and what it has started. Whatever is
 * left of it when this process ends, by whatever means, is killed.
 */
export class ChildProgram {
  /** Resolves with the exit code when it has ended; with undefined when a signal ended it. */
  readonly ended: Promise<number | undefined>;
  readonly #child: ChildProcess;
  readonly #guard = startGuard();
  readonly #killGroup = (): void => this.#signalGroup("SIGKILL");

  constructor({ command, args, env, folder, outputFile }: Program) {
    const output = openSync(outputFile, "a");
    this.#child = spawn(command, [...args], { cwd: folder, env: { ...env }, detached: true, stdio: ["ignore", output, output] });
    this.#guard.stdin?.write(`${this.#child.pid ?? ""}\n`);
    closeSync(output);
    process.on("exit", this.#killGroup);
    this.ended = this.#waitForEnd();
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined;
  }

  /** Asks it to end. */
  terminate(): void {
    if (!this.hasEnded) this.#child.kill("SIGTERM");
  }

  /** Ends it at once, with all it has started. */
  async kill(): Promise<void> {
    this.#killGroup();
    await this.stop();
  }

  /** Asks it to end, and ends it with all it has started when it does not in time. */
  async stop(): Promise<void> {
    this.terminate();
    const timer = setTimeout(this.#killGroup, KILL_AFTER_MS);
    await this.ended;
    clearTimeout(timer);
    this.#killGroup();
    process.off("exit", this.#killGroup);
    this.#guard.kill("SIGKILL");
    this.#guard.stdin?.destroy();
  }

  async #waitForEnd(): Promise<number | undefined> {
    try {
      const [exitCode] = (await once(this.#child, "exit")) as [number | null];
      return exitCode ?? undefined;
    } catch {
      return undefined; // it could not be started
    }
  }

  #signalGroup(signal: NodeJS.Signals): void {
    const { pid } = this.#child;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // The whole group has ended.
    }
  }
}

function startGuard(): ChildProcess {
  const guard = spawn("sh", ["-c", GUARD], { cwd: "/", detached: true, stdio: ["pipe", "ignore", "ignore"] });
  guard.on("error", () => {});
  guard.unref();
  return guard;
}
