/** Runs everything in this process, keeps it busy, shows what happens, and finally compares the counts of all sides. */
import { connectDatabase } from "@celery-metrics-exporter/db";
import {
  BaseConfig,
  Health,
  Lifecycle,
  connectRedis,
  createLogger,
  exitOnSignals,
  loadConfig,
  loadConfigs,
  mastersOf,
  pause,
  readSetting,
  redisTarget,
  sendTogether,
  startRoles,
  type Environment,
  type RedisTarget,
} from "@celery-metrics-exporter/runtime";
import { chosenExporters, namesAgent, rolesFor, withEveryExporter, type Terminal } from "cli";
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { renderResult } from "./comparison.ts";
import { drain } from "./drain.ts";
import { demoEnvironment, type DemoSettings } from "./environment.ts";
import { LiveView } from "./live-view.ts";
import { Observer } from "./observer.ts";
import { TasksInPostgres, countMetrics } from "./sides.ts";
import type { Workload } from "./workload.ts";

export interface DemoOptions {
  readonly env: Environment;
  /** When to stop; undefined means never. */
  readonly seconds: number | undefined;
  readonly withDashboard: boolean;
  readonly withWeb: boolean;
  readonly terminal: Terminal;
  /** Starts the sender of tasks. Called once every receiving part is up. @param queuePrefix for the names of its queues. */
  startWorkload(queuePrefix: string): Promise<Workload>;
}

const FOREVER_MS = 2 ** 31 - 1;
/** Time limit of a drain. */
const INTERRUPTED = { deadlineMs: 15_000, lastLookMs: 500 };
const NOT_WHOLE = "Stopped before everything that was sent was processed, so there is nothing to compare. With --seconds it waits.";

/** Resolves with whether all sides agree, after releasing everything it started. A signal ends it and the process. */
export async function runDemo(options: DemoOptions): Promise<boolean> {
  const { terminal } = options;
  const env = withEveryExporter(options.env);
  const exporterNames = chosenExporters(env);
  const sink = exporterNames.includes("datadog") && !namesAgent(env) ? await countMetrics() : undefined;
  const { withDashboard } = options;
  const withWeb = options.withWeb && exporterNames.includes("postgres");
  const settings = await demoEnvironment(env, { statsdPort: sink?.port, withDashboard, withWeb });
  let dashboardUrl: string | undefined;
  let webUrl: string | undefined;
  let scrapedUrl: string | undefined;
  const roles = rolesFor(exporterNames, {
    withDashboard,
    withWeb,
    onDashboard: (url) => (dashboardUrl = url),
    onWeb: (url) => (webUrl = `${url}/`),
    onScrapable: (url) => (scrapedUrl = url),
  });
  loadConfigs(roles, settings.env);
  const base = loadConfig(BaseConfig, settings.env);
  const log = openLogFile();
  const logger = createLogger("demo", base.LOG_LEVEL, log);
  const lifecycle = new Lifecycle(logger);
  const stopping = new AbortController();
  /** What a signal waits for; set once tasks are being sent. */
  let comparing: Promise<boolean> | undefined;

  const run = async (): Promise<boolean> => {
    lifecycle.defer("log file", () => log.close());
    lifecycle.defer("statsd sink", () => sink?.close());
    lifecycle.defer("keys in Redis", () => removeDemoKeys(redisTarget(base), base.QUEUE_PREFIX));
    terminal.write(`Starting the ${roles.map(({ name }) => name).join(", the ")} …\n`);
    const running = await startRoles(roles, settings.env, logger);
    lifecycle.defer("roles", () => running.stop());
    const table = exporterNames.includes("postgres") ? await openTable(settings, lifecycle) : undefined;
    if (table !== undefined && settings.keepsRows)
      terminal.write("Rows go to the PostgreSQL in your DATABASE_URL and stay there after the demo.\n");
    terminal.write("Starting the application that sends tasks …\n");
    const workload = await options.startWorkload(settings.queuePrefix);
    lifecycle.defer("workload", () => workload.stop());

    const totalSeconds = options.seconds;
    const sides = { table, sink, scrapedUrl };
    const shown = { settings, exporterNames, totalSeconds, dashboardUrl, webUrl, logFile: log.path };
    const observer = new Observer({ running, workload, ...sides, ...shown, logger });
    const view = new LiveView(terminal, observer);
    lifecycle.defer("live view", () => view.stop());
    view.start();
    const compare = async (): Promise<boolean> => {
      await Promise.race([pause(totalSeconds === undefined ? FOREVER_MS : totalSeconds * 1000, stopping.signal), workload.failed]);
      observer.phase = "draining";
      const result = await drain({ workload, ...sides, settings, ...(stopping.signal.aborted && { timing: INTERRUPTED }) });
      await view.stop();
      const isWhole = result.comparison.agrees || !stopping.signal.aborted;
      terminal.write(`\n${isWhole ? renderResult(result, terminal) : NOT_WHOLE}\n`);
      return result.comparison.agrees;
    };
    comparing = compare();
    return comparing;
  };

  /** During startup it stops at once; later it first processes what was sent, if that does not take long. */
  const drainOnSignal = async (): Promise<void> => {
    stopping.abort();
    if (comparing === undefined) terminal.write("\nStopping …\n");
    // On a terminal the live summary shows the same.
    else if (!terminal.isInteractive) terminal.write("\nStopping once everything that was sent is processed …\n");
    await Promise.race([comparing?.catch(() => {}), pause(INTERRUPTED.deadlineMs + INTERRUPTED.lastLookMs)]);
    await lifecycle.close();
  };
  exitOnSignals({ logger, timeoutMs: base.SHUTDOWN_TIMEOUT_SECONDS * 1000, drain: drainOnSignal });
  try {
    const agrees = await run();
    // The signal ends the process.
    return stopping.signal.aborted ? await new Promise<never>(() => {}) : agrees;
  } catch (thrown) {
    // Errors caused by closing everything are not failures.
    if (stopping.signal.aborted) return await new Promise<never>(() => {});
    throw thrown;
  } finally {
    await lifecycle.close();
  }
}

async function openTable({ env, queuePrefix }: DemoSettings, lifecycle: Lifecycle): Promise<TasksInPostgres> {
  const url = readSetting("DATABASE_URL", env) ?? "";
  const database = await connectDatabase({ url, poolSize: 1, applicationName: "celery-metrics-exporter demo" });
  lifecycle.defer("database", () => database.close());
  return TasksInPostgres.from(database, queuePrefix);
}

const CLEANING_TIMEOUT_MS = 2_000;

/** Deletes the keys of the demo's queues, `{prefix}:…`, and of its Store, `{prefix:shard}:…`. If Redis is gone, so are the keys. */
async function removeDemoKeys(target: RedisTarget, prefix: string): Promise<void> {
  const logger = createLogger("demo", "silent");
  const lifecycle = new Lifecycle(logger);
  const connection = {
    use: "producer",
    name: "demo",
    startupTimeoutMs: CLEANING_TIMEOUT_MS,
    logger,
    lifecycle,
    health: new Health(),
  } as const;
  try {
    const redis = await connectRedis({ ...target, ...connection });
    for (const master of mastersOf(redis)) {
      for await (const keys of master.scanStream({ match: `${prefix.slice(0, -1)}*`, count: 1_000 }) as AsyncIterable<string[]>) {
        const commands = keys.map((key) => ["unlink", key]);
        await sendTogether(redis, commands);
      }
    }
  } catch {
    // Nothing is left to clean up, or cleaning up is impossible.
  } finally {
    await lifecycle.close();
  }
}

/** The log goes to a file, so that it does not disturb the live summary. */
interface LogFile {
  readonly path: string;
  write(line: string): void;
  close(): void;
}

/** An empty `./.data/demo.log`. Written synchronously, so that nothing is missing when the process ends. */
function openLogFile(): LogFile {
  const path = "./.data/demo.log";
  mkdirSync(dirname(resolve(path)), { recursive: true });
  const file = openSync(path, "w");
  let isOpen = true;
  return {
    path,
    write: (line) => {
      if (isOpen) writeSync(file, line);
    },
    close: () => {
      if (isOpen) closeSync(file);
      isOpen = false;
    },
  };
}
