/** Runs everything in this process, keeps it busy, shows what happens, and in the end compares what all sides say happened. */
import { connectDatabase } from "@celery-metrics-exporter/db";
import {
  BaseConfig,
  Lifecycle,
  createLogger,
  exitOnSignals,
  loadConfig,
  pause,
  startRoles,
  type Environment,
} from "@celery-metrics-exporter/runtime";
import { chosenExporters, loadConfigs, rolesFor } from "../roles.ts";
import type { Terminal } from "../terminal.ts";
import { compare, type Comparison } from "./comparison.ts";
import { renderComparison } from "./comparison-table.ts";
import { demoEnvironment, hasAgent } from "./demo-environment.ts";
import { removeDemoKeys } from "./demo-keys.ts";
import { LiveView } from "./live-view.ts";
import { openLogFile } from "./log-file.ts";
import { Observer } from "./observer.ts";
import { openStatsdSink } from "./statsd-sink.ts";
import { tasksInDatadog } from "./tasks-in-datadog.ts";
import { TasksInPostgres } from "./tasks-in-postgres.ts";
import type { Workload } from "./workload.ts";

export interface DemoOptions {
  readonly env: Environment;
  /** When to stop; never, without. */
  readonly seconds: number | undefined;
  readonly withDashboard: boolean;
  readonly terminal: Terminal;
  /** Starts what sends tasks. Called once everything that receives is up. */
  startWorkload(): Promise<Workload>;
}

const REFRESH_MS = 1_000;
/** How long the tasks that were sent may take to end, and their events to go through. */
const DRAIN_SECONDS = 90;
/** Agreement must last this long: what is counted twice is counted late. */
const SETTLE_MS = 3_000;

/** Resolves with whether all sides agree; with `seconds` unset only a signal ends it. Releases all it has started. */
export async function runDemo(options: DemoOptions): Promise<boolean> {
  const { terminal, seconds } = options;
  const exporterNames = chosenExporters(options.env);
  const sink = exporterNames.includes("datadog") && !hasAgent(options.env) ? await openStatsdSink() : undefined;
  const settings = await demoEnvironment(options.env, { statsdPort: sink?.port, withDashboard: options.withDashboard });
  const roles = rolesFor(exporterNames, options);
  loadConfigs(roles, settings.env);
  const base = loadConfig(BaseConfig, settings.env);
  const log = openLogFile();
  const logger = createLogger("demo", base.LOG_LEVEL, log);
  const lifecycle = new Lifecycle(logger);
  lifecycle.defer("log file", () => log.close());
  if (sink !== undefined) lifecycle.defer("statsd sink", () => sink.close());
  exitOnSignals({ logger, timeoutMs: base.SHUTDOWN_TIMEOUT_SECONDS * 1000, drain: () => lifecycle.close() });
  try {
    terminal.write("Starting …\n");
    lifecycle.defer("keys in Redis", () => removeDemoKeys(base.REDIS_URL, base.QUEUE_PREFIX));
    const running = await startRoles(roles, settings.env, logger);
    lifecycle.defer("roles", () => running.stop());
    const table = exporterNames.includes("postgres") ? await openTable(String(settings.env["DATABASE_URL"]), lifecycle) : undefined;
    const workload = await options.startWorkload();
    lifecycle.defer("workload", () => workload.stop());

    const observer = new Observer({ running, workload, table, sink, settings, exporterNames, totalSeconds: seconds, logFile: log.path });
    const stopping = new AbortController();
    lifecycle.defer("live view", () => stopping.abort());
    const showing = show(new LiveView(terminal), observer, stopping.signal);
    await Promise.race([pause(seconds === undefined ? 2 ** 31 - 1 : seconds * 1000, stopping.signal), workload.failed]);
    if (stopping.signal.aborted) return await new Promise<never>(() => {}); // a signal ends the process
    observer.phase = "draining";
    const comparison = await drain(async () => {
      const postgres = await table?.finished();
      return compare({
        celery: workload.outcome(),
        datadog: sink === undefined ? undefined : tasksInDatadog(sink, settings.metricPrefix),
        postgres,
      });
    }, workload);
    stopping.abort();
    await showing;
    terminal.write(`\n${renderComparison(comparison, terminal)}\n\n${verdict(comparison, terminal)}\n`);
    return comparison.agrees;
  } finally {
    await lifecycle.close();
  }
}

async function openTable(url: string, lifecycle: Lifecycle): Promise<TasksInPostgres> {
  const database = await connectDatabase({ url, poolSize: 1, applicationName: "celery-metrics-exporter demo" });
  lifecycle.defer("database", () => database.close());
  return TasksInPostgres.from(database);
}

async function show(view: LiveView, observer: Observer, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    view.show(await observer.snapshot());
    await pause(REFRESH_MS, signal);
  }
}

/** Waits until all tasks have ended and all sides agree on them, and go on to; or until it has taken too long. */
async function drain(compareNow: () => Promise<Comparison>, workload: Workload): Promise<Comparison> {
  const deadline = Date.now() + DRAIN_SECONDS * 1000;
  await Promise.race([workload.finish(), pause(DRAIN_SECONDS * 1000), workload.failed]);
  for (;;) {
    const first = await compareNow();
    if (first.agrees) {
      await pause(SETTLE_MS);
      const settled = await compareNow();
      if (settled.agrees) return settled;
    }
    if (Date.now() > deadline) return compareNow();
    await pause(250);
  }
}

function verdict({ agrees, rows }: Comparison, { green, red }: Terminal): string {
  const tasks = rows.reduce((sum, row) => sum + row.celery, 0);
  if (agrees) return green(`What Celery ran, what Datadog got and what Postgres has agree: ${tasks} tasks.`);
  return red("They do not agree.");
}
