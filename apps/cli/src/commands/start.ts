/** `start`: receiver, processors and dashboard in one process. */
import {
  BaseConfig,
  ConfigError,
  configWarnings,
  createLogger,
  loadConfig,
  loadConfigs,
  runRoles,
  standardOutput,
  type Environment,
  type Role,
} from "@celery-metrics-exporter/runtime";
import { writeSync } from "node:fs";
import type { Command } from "../command.ts";
import { withDashboardPort } from "../defaults/dashboard-port.ts";
import { EMBEDDED_DATABASE_URL, withDatabase, withDefaultDatabase } from "../defaults/database.ts";
import { withExporters } from "../defaults/exporters.ts";
import { isSet, readIfPossible, type Decision, type Note } from "../defaults/decision.ts";
import { withRedis } from "../defaults/redis.ts";
import { PROGRAM } from "../help.ts";
import { printConfig } from "../print-config.ts";
import { dashboardUrlOf, renderAddresses } from "../report/addresses.ts";
import { SummaryConfig, summaryRole } from "../report/summary-role.ts";
import { ALL_ROLES, chosenExporters, rolesFor } from "../roles.ts";
import { groupSettings } from "../settings.ts";
import type { Terminal } from "../terminal.ts";

/** Settings of `start` itself. */
export const START = { name: "the single process", Config: SummaryConfig };

export const start: Command = {
  name: "start",
  summary: "Run the receiver, the exporters and the dashboard in one process.",
  description:
    "Runs the receiver, the processors of the chosen exporters and the dashboard until SIGTERM or SIGINT. " +
    `Without DATABASE_URL the postgres exporter keeps its table in an embedded PostgreSQL in ${EMBEDDED_DATABASE_URL.slice("pglite:".length)}. ` +
    "Without REDIS_URL the queues are in the broker's Redis, or at redis://127.0.0.1:6379 with RabbitMQ. " +
    "Without EXPORTERS metrics are sent to Datadog only if an agent is configured or answers on this machine.",
  startsWithExample: true,
  options: [
    { name: "no-dashboard", description: "Run without the dashboard." },
    { name: "check-config", description: "Check the settings and exit." },
    { name: "print-config", description: "Show the settings in use, secrets masked, and exit." },
  ],
  settings: withDefaultDatabase([...groupSettings(ALL_ROLES), ...groupSettings([START])], EMBEDDED_DATABASE_URL),
  async run({ options, env: given, terminal }) {
    const withDashboard = !options.has("no-dashboard");
    const { env, notes } = await decide(given, [withRedis, withExporters, withRowsDatabase]);
    const exporterNames = exportersIfKnown(env);
    const roles = rolesFor(exporterNames, { withDashboard });
    const configs = loadConfigs([...roles, summaryOf(env, exporterNames, terminal)], env);
    if (options.has("print-config")) return terminal.write(printConfig(configs));
    if (options.has("check-config")) {
      for (const { setting, problem } of configWarnings(given)) terminal.write(`Warning: ${setting}: ${problem}\n`);
      return terminal.write("The settings are valid.\n");
    }
    const port = await decide(env, withDashboard ? [withDashboardPort] : []);
    await run({ env: port.env, notes: [...notes, ...port.notes], exporterNames, roles, withDashboard, terminal });
  },
};

interface Run {
  readonly env: Environment;
  readonly notes: readonly Note[];
  readonly exporterNames: readonly string[];
  readonly roles: readonly Role[];
  readonly withDashboard: boolean;
  readonly terminal: Terminal;
}

async function run({ env, notes, exporterNames, roles, withDashboard, terminal }: Run): Promise<void> {
  const base = loadConfig(BaseConfig, env);
  const logger = createLogger(undefined, base.LOG_LEVEL, standardOutput(base.LOG_FORMAT));
  for (const { message, fields } of notes) logger.info(fields, message);
  const reports = terminal.isInteractive || isSet("SUMMARY_SECONDS", env);
  const running = await runRoles(PROGRAM, [...(reports ? [summaryOf(env, exporterNames, terminal)] : []), ...roles], env);
  if (!isForPeople(env, terminal)) return;
  const addresses = {
    brokerUrl: readIfPossible("CELERY_BROKER_URL", env) ?? "",
    redisUrl: base.REDIS_URL,
    queuePrefix: base.QUEUE_PREFIX,
    databaseUrl: databaseUrl(env, exporterNames),
    sendsToDatadog: exporterNames.includes("datadog"),
    dashboardUrl: withDashboard ? dashboardUrlOf(env) : undefined,
    healthUrl: running.healthUrl,
  };
  terminal.write(renderAddresses(addresses, terminal));
}

function summaryOf(env: Environment, exporterNames: readonly string[], terminal: Terminal): Role {
  const forPeople = isForPeople(env, terminal);
  return summaryRole({
    databaseUrl: databaseUrl(env, exporterNames),
    forPeople,
    // After the last log line.
    onEnd: (line) => forPeople && process.once("exit", () => writeSync(1, `${line}\n`)),
  });
}

function isForPeople(env: Environment, { isInteractive }: Terminal): boolean {
  return isInteractive && readIfPossible("LOG_FORMAT", env) !== "json";
}

function databaseUrl(env: Environment, exporterNames: readonly string[]): string | undefined {
  return exporterNames.includes("postgres") ? readIfPossible("DATABASE_URL", env) : undefined;
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

/** None where `EXPORTERS` is wrong: the receiver's settings then say so, together with every other problem. */
function exportersIfKnown(env: Environment): readonly string[] {
  try {
    return chosenExporters(env);
  } catch (thrown) {
    if (thrown instanceof ConfigError) return [];
    throw thrown;
  }
}
