/** What a role's process says of itself over HTTP, and how much memory it takes. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { RoleProcess } from "../fleet/role-process.ts";

export interface Readiness {
  readonly ready: boolean;
  /** The body of `/readyz`: every component, up or why not. */
  readonly text: string;
}

const MEBIBYTE_IN_KIBIBYTES = 1_024;

export async function readinessOf({ healthUrl }: RoleProcess): Promise<Readiness> {
  const answer = await fetch(`${healthUrl}/readyz`);
  return { ready: answer.status === 200, text: await answer.text() };
}

/** Sums up one of our own metrics, given without its prefix, over processes and over all labels that match. */
export async function sumOfMetric(
  processes: readonly RoleProcess[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<number> {
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  const samples = await Promise.all(
    processes.map(async ({ healthUrl }) => {
      const lines = (await (await fetch(`${healthUrl}/metrics`)).text()).split("\n");
      return lines.filter((line) => isSampleOf(name, line) && wanted.every((label) => line.includes(label)));
    }),
  );
  return samples.flat().reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

function isSampleOf(name: string, line: string): boolean {
  return new RegExp(`^celery_metrics_exporter_${name}[{ ]`).test(line);
}

/** Resident memory now. */
export async function memoryMebibytes({ child }: RoleProcess): Promise<number> {
  const { stdout } = await promisify(execFile)("ps", ["-o", "rss=", "-p", String(child.pid)]);
  return Number(stdout.trim()) / MEBIBYTE_IN_KIBIBYTES;
}
