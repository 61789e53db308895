/** Runs roles as a process: configuration, logs, health port, signals, drain, exit code. */
import type { z } from "zod";
import { abortable } from "../retry.ts";
import { type AliasReport, reportAliases } from "../config/aliases.ts";
import { BaseConfig, type ConfigSchema, type Environment, describeConfig, loadConfig } from "../config/config.ts";
import { type ConfigWarning, configWarnings } from "../config/warnings.ts";
import { processEnvironment } from "../config/environment.ts";
import { CodedError, ConfigError, EXIT_FAILURE, toError } from "../errors.ts";
import { Health, type HttpServer, createHttpServer, defaultHealthPort } from "./health.ts";
import { Lifecycle } from "./lifecycle.ts";
import { type Logger, createLogger, standardOutput } from "../log/logger.ts";
import { Metrics } from "./metrics.ts";
import { type Role, loadConfigs } from "./role.ts";
import { exitOnSignals, exitWith } from "./signals.ts";
import { listen } from "../web/web-server.ts";
import { setFlagsFromString } from "node:v8";

/** A started set of roles. */
export interface RunningRoles {
  readonly health: Health;
  readonly metrics: Metrics;
  /** Base URL of `/healthz`, `/readyz` and `/metrics`. */
  readonly healthUrl: string;
  /** Drains and releases everything, starting with the role started last. */
  stop(): Promise<void>;
}

/** Runs one role as this process until a signal. `main.ts` calls nothing else. */
export async function runRole<S extends ConfigSchema>(role: Role<S>): Promise<void> {
  await runRoles(role.name, [role]);
}

/**
 * Runs several roles in this process until a signal. Roles start in the given order and stop in reverse.
 *
 * @param explain adds missing context to the message of the error that ends the process.
 */
export async function runRoles(
  name: string,
  roles: readonly Role[],
  env: Environment = processEnvironment(),
  explain: (message: string) => string = (message) => message,
): Promise<RunningRoles> {
  boundHeapGrowth();
  // An error while a library prints to standard error must not end the process.
  process.stderr.on("error", () => {});
  try {
    // Checks the settings of all roles before using any, to report all problems together.
    loadConfigs(roles, env);
    const config = loadConfig(BaseConfig, env);
    // With several roles, each logger adds its own role.
    const logger = createLogger(roles.length === 1 ? name : undefined, config.LOG_LEVEL, standardOutput(config.LOG_FORMAT));
    for (const each of aliasesOf(roles, env).used) logger.info(each, "a setting is read from its alias");
    for (const { setting, problem } of warningsOf(roles, env)) logger.warn({ setting, problem }, "a setting has no effect");
    const stopping = new AbortController();
    let starting: Promise<RunningRoles> | undefined;
    exitOnSignals({
      logger,
      timeoutMs: config.SHUTDOWN_TIMEOUT_SECONDS * 1000,
      drain: async () => {
        stopping.abort();
        const running = await starting?.catch(() => undefined);
        await running?.stop();
      },
    });
    starting = startRoles(roles, env, logger, stopping.signal);
    return await starting.catch((thrown: unknown) => {
      // The drain exits.
      if (stopping.signal.aborted) return new Promise<never>(() => {});
      throw thrown;
    });
  } catch (thrown) {
    const error = toError(thrown);
    if (error instanceof ConfigError) exitWith(error.exitCode, withWarnings(explain(error.message), warningsOf(roles, env)));
    if (error instanceof CodedError) exitWith(error.exitCode, `${name}: ${explain(error.message)} [${error.code}]`);
    exitWith(EXIT_FAILURE, `${name}: ${error.stack ?? error.message}`);
  }
}

function aliasesOf(roles: readonly Role[], env: Environment): AliasReport {
  return reportAliases([BaseConfig, ...roles.map(({ Config }) => Config)].flatMap(describeConfig), env);
}

function warningsOf(roles: readonly Role[], env: Environment): ConfigWarning[] {
  return [...configWarnings(env), ...aliasesOf(roles, env).warnings];
}

/** Adds variables without effect, which may be the cause. Lists each setting once. */
function withWarnings(message: string, warnings: readonly ConfigWarning[]): string {
  const others = warnings.filter(({ setting }) => !message.includes(setting));
  return [message, ...others.map(({ setting, problem }) => `Warning: ${setting}: ${problem}`)].join("\n");
}

async function openHealthPort(
  http: HttpServer,
  roles: readonly Role[],
  config: z.output<typeof BaseConfig>,
  logger: Logger,
): Promise<string> {
  const { HEALTH_HOST: host, HEALTH_PORT: chosen } = config;
  const port = chosen ?? defaultHealthPort(roles);
  const healthUrl = await listen(http, { host, port, settings: "HEALTH_PORT or HEALTH_HOST", orFree: chosen === undefined });
  const isFallback = port !== 0 && new URL(healthUrl).port !== String(port);
  if (isFallback) {
    const advice = "probes of that port reach another process: stop that process, or set HEALTH_PORT";
    logger.warn({ healthUrl, taken: port, advice }, "health port in use, using another one");
  }
  logger.info({ healthUrl }, "health port open");
  return healthUrl;
}

/**
 * Starts roles without touching the process: no signal handlers, no exit.
 *
 * @param stopping aborts the start: everything acquired so far is released at once.
 * @throws {ConfigError} with the problems of every role; otherwise rethrows the error of the first role that failed, after releasing the others.
 */
export async function startRoles(roles: readonly Role[], env: Environment, logger: Logger, stopping?: AbortSignal): Promise<RunningRoles> {
  const configs = loadConfigs(roles, env);
  const base = loadConfig(BaseConfig, env);
  const lifecycle = new Lifecycle(logger);
  const health = new Health();
  const metrics = new Metrics();
  const http = createHttpServer(health, metrics);
  const stop = async (): Promise<void> => {
    health.drain();
    await lifecycle.close();
  };
  try {
    lifecycle.defer("health port", () => http.close());
    for (const [role, config] of configs) {
      stopping?.throwIfAborted();
      const roleLogger = roles.length > 1 ? logger.child({ role: role.name }) : logger;
      const started = role.start({ config, logger: roleLogger, health, metrics, http, lifecycle });
      await (stopping === undefined ? started : abortable(started, stopping));
      if (role.isInternal !== true) roleLogger.info("started");
    }
    const healthUrl = await openHealthPort(http, roles, base, logger);
    return { health, metrics, healthUrl, stop };
  } catch (thrown) {
    await stop().catch(() => {});
    throw thrown;
  }
}

/**
 * Growth of the heap that triggers a full collection. By default, V8 lets the heap of a busy process grow up to fourfold between two full
 * collections. Events that wait half a second for their batch survive the young collections, so processes took 220 to 340 MB in a burst but
 * needed only 60. A limit (`--max-old-space-size`) would crash a process that needs more. This does not, and costs about 5 % more CPU
 * (`docs/performance.md`).
 */
const GROWTH_PERCENT = 60;

/** Makes V8 collect the heap whenever it has grown by 60 % since the last collection. Applies to the whole process. */
function boundHeapGrowth(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}
