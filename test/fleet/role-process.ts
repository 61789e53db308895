/** Runs a role as its own process from the built code, as a user would. */
import type { ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { startProgram } from "@celery-metrics-exporter/testkit";

export const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url));
const START_TIMEOUT_MS = 30_000;

export interface RoleProcess {
  readonly child: ChildProcess;
  /** The base URL of its health endpoints. */
  readonly healthUrl: string;
  readonly output: () => string;
  /** Sends SIGTERM and resolves with the exit code. */
  stop(): Promise<number | null>;
  /** Sends SIGKILL. */
  kill(): Promise<void>;
}

export type Environment = Readonly<Record<string, string>>;

/** The output of a started command, and how it ended. */
export interface Command {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly exited: Promise<number | null>;
  /** Resolves with the first group or the whole match when the output matches; rejects if the command ends first. */
  printed(pattern: RegExp): Promise<string>;
}

/**
 * Runs a command in its own process group, so that a test can send what a terminal's Ctrl-C sends. When the test process ends, even by
 * SIGKILL, the rest of the group is ended.
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

/** Starts a role with its `start` script, like `pnpm --filter <role> start`, and waits until it is running. */
export async function startRole(role: string, env: Environment): Promise<RoleProcess> {
  const app = `${REPOSITORY}/apps/${role}`;
  if (!existsSync(`${app}/dist/bundle.js`)) throw new Error(`${role} is not built: pnpm build`);
  const { scripts } = JSON.parse(readFileSync(`${app}/package.json`, "utf8")) as { scripts: { start: string } };
  const command = run("sh", ["-c", scripts.start], env, app);
  const healthUrl = await command.printed(/"healthUrl":"([^"]+)"/);
  return {
    child: command.child,
    healthUrl,
    output: command.output,
    stop: () => {
      command.child.kill("SIGTERM");
      // A stopped process accepts no other signal.
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
