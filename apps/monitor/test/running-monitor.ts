/** Monitors on real servers, whose observations are kept. */
import type { Observation, ObservedWorker, QueuesObserved, WorkersObserved } from "@celery-metrics-exporter/celery";
import { createLogger, startRoles, type HealthReport } from "@celery-metrics-exporter/runtime";
import { monitorRole } from "../src/monitor-role.ts";

export interface RunningMonitor {
  readonly observations: readonly Observation[];
  /** The newest of its kind. */
  readonly queues: () => QueuesObserved | undefined;
  readonly workers: () => WorkersObserved | undefined;
  /** A queue and a worker in the newest observations. */
  readonly queue: (name: string) => QueuesObserved["queues"][number] | undefined;
  readonly worker: (hostname: string) => ObservedWorker | undefined;
  readonly logs: readonly string[];
  readonly health: () => Promise<HealthReport>;
  /** The sum over the series whose line matches. */
  readonly metric: (line: RegExp) => Promise<number>;
  readonly stop: () => Promise<void>;
}

export async function startMonitor(env: Readonly<Record<string, string>>): Promise<RunningMonitor> {
  const observations: Observation[] = [];
  const logs: string[] = [];
  const role = monitorRole(() => (published) => {
    observations.push(...published);
    return Promise.resolve();
  });
  const settings = { MONITOR_INTERVAL_SECONDS: "1", MONITOR_INSPECT_INTERVAL_SECONDS: "1", ...env };
  const logger = createLogger("monitor", "debug", { write: (line: string) => void logs.push(line) });
  const running = await startRoles([role], settings, logger);
  const newest = <T extends Observation["type"]>(type: T): Extract<Observation, { type: T }> | undefined =>
    observations.findLast((observation): observation is Extract<Observation, { type: T }> => observation.type === type);
  return {
    observations,
    logs,
    queues: () => newest("queues-observed"),
    workers: () => newest("workers-observed"),
    queue: (name) => newest("queues-observed")?.queues.find((queue) => queue.name === name),
    worker: (hostname) => newest("workers-observed")?.workers.find((worker) => worker.hostname === hostname),
    health: async () => (await (await fetch(`${running.healthUrl}/readyz`)).json()) as HealthReport,
    metric: async (line) => {
      const text = await (await fetch(`${running.healthUrl}/metrics`)).text();
      const lines = text.split("\n").filter((candidate) => !candidate.startsWith("#") && line.test(candidate));
      return lines.reduce((sum, candidate) => sum + Number(candidate.split(" ").at(-1)), 0);
    },
    stop: () => running.stop(),
  };
}
