/** A role as its own process, from the built code, as a user starts it. */
import type { ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { startProgram } from "@celery-metrics-exporter/testkit";

export const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url));
const START_TIMEOUT_MS = 30_000;

export interface RoleProcess {
  readonly child: ChildProcess;
  /** Where its health endpoints are. */
  readonly healthUrl: string;
  readonly output: () => string;
  /** SIGTERM, and the exit code. */
  stop(): Promise<number | null>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

export type Environment = Readonly<Record<string, string>>;

/** What a started command printed and how it ended. */
export interface Command {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly exited: Promise<number | null>;
  /** Resolves when the output matches, with the first group or the whole match; rejects when the command ends first. */
  printed(pattern: RegExp): Promise<string>;
}

/**
 * Runs a command in its own process group, so that a test can send what a terminal's Ctrl-C sends. What is left of the group when the test
 * process ends, even by SIGKILL, is ended.
 */
export function run(file: string, args: readonly string[], env: Environment, cwd = REPOSITORY): Command {
  const { child, exitCode, ...program } = startProgram(file, args, { env: { HOME: process.env["HOME"], ...env }, folder: cwd });
  const output = (): string => program.output() + program.errors();
  return {
    child,
    output,
    exited: exitCode,
    printed: async (pattern) => {
      const deadline = Date.now() + START_TIMEOUT_MS;
      for (;;) {
        const match = pattern.exec(output());
        if (match !== null) return match[1] ?? match[0];
        if (child.exitCode !== null) throw new Error(`ended with ${child.exitCode} before it printed ${pattern}:\n${output()}`);
        if (Date.now() > deadline) throw new Error(`did not print ${pattern}:\n${output()}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
  };
}

/** Starts a role by its `start` script, as `pnpm --filter <role> start` does, and waits until it works. */
export async function startRole(role: string, env: Environment): Promise<RoleProcess> {
  const app = `${REPOSITORY}/apps/${role}`;
  if (!existsSync(`${app}/dist/main.js`)) throw new Error(`${role} is not built: pnpm build`);
  const { scripts } = JSON.parse(readFileSync(`${app}/package.json`, "utf8")) as { scripts: { start: string } };
  const command = run("sh", ["-c", scripts.start], env, app);
  const healthUrl = await command.printed(/"healthUrl":"([^"]+)"/);
  return {
    child: command.child,
    healthUrl,
    output: command.output,
    stop: () => {
      command.child.kill("SIGTERM");
      // For one that was stopped: it takes no other signal.
      command.child.kill("SIGCONT");
      return command.exited;
    },
    kill: async () => {
      command.child.kill("SIGKILL");
      await command.exited;
    },
  };
}

export async function isReady(role: RoleProcess): Promise<boolean> {
  return (await fetch(`${role.healthUrl}/readyz`)).status === 200;
}
