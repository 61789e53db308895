/** Reads the metrics that a role's process reports at `/metrics`. */
import type { RoleProcess } from "./role-process.ts";

const PREFIX = "celery_metrics_exporter_";

/** Sums a metric over processes and labels, or over the series with all of these labels. 0 if no process has it yet. */
export async function sumOf(
  processes: readonly RoleProcess[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<number> {
  const values = await Promise.all(processes.map((process) => valueOf(process, PREFIX + name, labels)));
  return values.reduce((sum, value) => sum + value, 0);
}

/** Memory of a process in bytes, as counted by the system. */
export function residentBytes(process: RoleProcess): Promise<number> {
  return valueOf(process, "process_resident_memory_bytes", {});
}

async function valueOf({ healthUrl }: RoleProcess, metric: string, labels: Readonly<Record<string, string>>): Promise<number> {
  const text = await (await fetch(`${healthUrl}/metrics`)).text();
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return text
    .split("\n")
    .filter((line) => line.startsWith(`${metric}{`) || line.startsWith(`${metric} `))
    .filter((line) => wanted.every((label) => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}
