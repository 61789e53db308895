/** `start`: receiver, processors, monitor, dashboard and HTTP API in one process. */
import { brokerUrlWarnings } from "@celery-metrics-exporter/broker";
import {
  BaseConfig,
  ConfigError,
  configWarnings,
  createLogger,
  describeConfig,
  isTextFormat,
  loadConfig,
  loadConfigs,
  reportAliases,
  runRoles,
  standardOutput,
  type ConfigWarning,
  type Environment,
} from "@celery-metrics-exporter/runtime";
import { datadogAgent, findAgent } from "datadog-processor";
import { writeSync } from "node:fs";
import { prometheus } from "prometheus-processor";
import { PROGRAM, type Command } from "../command.ts";
import { EMBEDDED_DATABASE_URL, withDatabase } from "../defaults/database.ts";
import { withExporters, type FindAgent } from "../defaults/exporters.ts";
import { explain, isSet, readIfPossible, type Decision, type Note } from "../defaults/decision.ts";
import { withDashboardPort, withPrometheusPort, withWebPort } from "../defaults/ports.ts";
import { withRedis } from "../defaults/redis.ts";
import { withDecidedDefaults } from "../defaults/shown-defaults.ts";
import { exporters } from "../exporters.ts";
import { renderAddresses } from "../report/addresses.ts";
import { SummaryConfig, summaryRole } from "../report/summary-role.ts";
import { ALL_ROLES, chosenExporters, rolesFor } from "../roles.ts";
import { groupSettings, printConfig } from "../settings.ts";
import type { Terminal } from "../terminal.ts";

/** Settings that only `start` has. */
export const START = { name: "the single process", Config: SummaryConfig };

/** @param find looks for an agent; tests replace it. */
export function startCommand(find?: FindAgent): Command {
  return {
    name: "start",
    summary: "Run the receiver, the exporters, the monitor, the dashboard and the HTTP API in one process.",
    description:
      "Runs the receiver, the processors of the chosen exporters, the monitor, the dashboard and, with the postgres exporter, the HTTP API until SIGTERM or SIGINT. " +
      `Without DATABASE_URL the postgres exporter keeps its table in an embedded PostgreSQL in ${EMBEDDED_DATABASE_URL.slice("pglite:".length)}. ` +
      "Without REDIS_URL the exporter queues are in the broker's Redis or, with RabbitMQ, at redis://127.0.0.1:6379. " +
      "Without EXPORTERS it runs every exporter, but Datadog's only if an agent is configured or answers on this machine.",
    startsWithExample: true,
    options: [
      { name: "no-dashboard", description: "Run without the dashboard." },
      { name: "no-web", description: "Run without the HTTP API." },
      { name: "check-config", description: "Check the settings and exit." },
      { name: "print-config", description: "Show the settings in use, secrets masked, and exit." },
    ],
    settings: withDecidedDefaults([...groupSettings(ALL_ROLES), ...groupSettings([START])]),
    async run({ options, env: given, terminal }) {
      const withDashboard = !options.has("no-dashboard");
      const { env, notes } = await decide(given, [withRedis, (decided) => withExporters(decided, find), withRowsDatabase]);
      const exporterNames = exportersIfKnown(env);
      const withWeb = !options.has("no-web") && exporterNames.includes("postgres");
      const roles = rolesFor(exporterNames, { withDashboard, withWeb });
      const configs = loadConfigs([...roles, summaryRole()], env);
      if (options.has("print-config")) return terminal.write(printConfig(configs));
      if (options.has("check-config")) {
        const aliases = reportAliases(
          roles.flatMap(({ Config }) => describeConfig(Config)),
          given,
        );
        for (const { alias, setting } of aliases.used) terminal.write(`${alias} is read as ${setting}.\n`);
        for (const { setting, problem } of [...warningsOf(given), ...aliases.warnings]) terminal.write(`Warning: ${setting}: ${problem}\n`);
        return terminal.write("The settings are valid.\n");
      }
      const ports = await decide(env, [
        ...(withDashboard ? [withDashboardPort] : []),
        ...(withWeb ? [withWebPort] : []),
        ...(exporterNames.includes(prometheus.name) ? [withPrometheusPort] : []),
      ]);
      await run({ env: ports.env, notes: [...notes, ...ports.notes], exporterNames, withDashboard, withWeb, terminal });
    },
  };
}

export const start: Command = startCommand();

/** Warnings about settings without effect. The receiver logs the same warnings about its broker's URL. */
function warningsOf(given: Environment): ConfigWarning[] {
  const ofBroker = brokerUrlWarnings(readIfPossible("CELERY_BROKER_URL", given) ?? "");
  return [...configWarnings(given), ...ofBroker.map((problem) => ({ setting: "CELERY_BROKER_URL", problem }))];
}

interface Run {
  readonly env: Environment;
  readonly notes: readonly Note[];
  readonly exporterNames: readonly string[];
  readonly withDashboard: boolean;
  readonly withWeb: boolean;
  readonly terminal: Terminal;
}

async function run({ env, notes, exporterNames, withDashboard, withWeb, terminal }: Run): Promise<void> {
  const base = loadConfig(BaseConfig, env);
  const inWords = isTextFormat(base.LOG_FORMAT);
  const forPeople = terminal.isInteractive && inWords;
  const logger = createLogger(undefined, base.LOG_LEVEL, standardOutput(base.LOG_FORMAT));
  for (const { message, fields, isInPanel = false } of notes) logger[forPeople && isInPanel ? "debug" : "info"](fields, message);

  let dashboardUrl: string | undefined;
  let webUrl: string | undefined;
  let scrapedUrl: string | undefined;
  const roles = rolesFor(exporterNames, {
    withDashboard,
    withWeb,
    onDashboard: (url) => (dashboardUrl = url),
    onWeb: (url) => (webUrl = url),
    onScrapable: (url) => (scrapedUrl = url),
  });
  const databaseUrl = exporterNames.includes("postgres") ? readIfPossible("DATABASE_URL", env) : undefined;
  let hasStarted = false;
  const summary = summaryRole({ databaseUrl, inWords, hasStarted: () => hasStarted, onEnd: (line) => forPeople && writeAtExit(line) });
  const reports = terminal.isInteractive || isSet("SUMMARY_SECONDS", env);
  const running = await runRoles(PROGRAM, [...(reports ? [summary] : []), ...roles], env, (message) => explain(message, notes));
  hasStarted = true;
  if (!forPeople) return;
  const addresses = {
    brokerUrl: readIfPossible("CELERY_BROKER_URL", env) ?? "",
    redisUrl: base.REDIS_URL,
    queuePrefix: base.QUEUE_PREFIX,
    databaseUrl,
    datadog: exporterNames.includes("datadog") ? await agentOf(env) : undefined,
    scrapedUrl,
    others: exporterNames
      .filter((name) => !["datadog", "postgres", "prometheus"].includes(name))
      .map((name) => ({ name, sink: sinkOf(name, env) })),
    dashboardUrl,
    webUrl,
    healthUrl: running.healthUrl,
  };
  terminal.write(renderAddresses(addresses, terminal));
}

function sinkOf(exporterName: string, env: Environment): string | undefined {
  const definition = exporters.get(exporterName);
  return definition?.sinkAddress?.(loadConfig(definition.Config, env));
}

/** Where metrics go, and whether an agent answers there. */
async function agentOf(env: Environment): Promise<{ address: string; answers: boolean }> {
  const { address, description } = datadogAgent(env);
  return { address: description, answers: (await findAgent([address])) !== undefined };
}

/** Waits after the last log line. A closed terminal accepts no more output. */
function writeAtExit(line: string): void {
  process.once("exit", () => {
    try {
      writeSync(1, `${line}\n`);
    } catch {
      // Nobody is left to read it.
    }
  });
}

async function decide(
  given: Environment,
  decisions: readonly ((env: Environment) => Decision | Promise<Decision>)[],
): Promise<{ env: Environment; notes: Note[] }> {
  let env = given;
  const notes: Note[] = [];
  for (const each of decisions) {
    const decision = await each(env);
    env = decision.env;
    if (decision.note !== undefined) notes.push(decision.note);
  }
  return { env, notes };
}

function withRowsDatabase(env: Environment): Decision {
  return exportersIfKnown(env).includes("postgres") ? withDatabase(env) : { env };
}

/** All of them if `EXPORTERS` is wrong: the receiver's settings then report it, together with every other problem of any role. */
function exportersIfKnown(env: Environment): readonly string[] {
  try {
    return chosenExporters(env);
  } catch (thrown) {
    if (thrown instanceof ConfigError) return [...exporters.keys()];
    throw thrown;
  }
}
