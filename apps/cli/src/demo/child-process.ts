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

const KILL_AFTER_MS = 15_000;

/**
 * Starts a program in a process group of its own: the terminal's Ctrl-C goes to us alone, and we end it and what it has started. Whatever is
 * left of it when this process ends is killed.
 */
export class ChildProgram {
  /** Resolves with the exit code when it has ended; with undefined when a signal ended it. */
  readonly ended: Promise<number | undefined>;
  readonly #child: ChildProcess;
  readonly #killGroup = (): void => this.#signalGroup("SIGKILL");

  constructor({ command, args, env, folder, outputFile }: Program) {
    const output = openSync(outputFile, "a");
    this.#child = spawn(command, [...args], { cwd: folder, env: { ...env }, detached: true, stdio: ["ignore", output, output] });
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

  /** Asks it to end, and ends it with all it has started when it does not in time. */
  async stop(): Promise<void> {
    this.terminate();
    const timer = setTimeout(this.#killGroup, KILL_AFTER_MS);
    await this.ended;
    clearTimeout(timer);
    this.#killGroup();
    process.off("exit", this.#killGroup);
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
