/** `start`: receiver, processors and dashboard in one process. */
import {
  BaseConfig,
  ConfigError,
  createLogger,
  loadConfig,
  loadConfigs,
  runRoles,
  standardOutput,
  type Environment,
} from "@celery-metrics-exporter/runtime";
import type { Command } from "../command.ts";
import { EMBEDDED_DATABASE_URL, withDatabase, withDefaultDatabase } from "../database.ts";
import { PROGRAM } from "../help.ts";
import { printConfig } from "../print-config.ts";
import { ALL_ROLES, chosenExporters, rolesFor } from "../roles.ts";
import { groupSettings } from "../settings.ts";

/** None where `EXPORTERS` is wrong: the receiver's settings then say so, together with every other problem. */
function exportersIfKnown(env: Environment): readonly string[] {
  try {
    return chosenExporters(env);
  } catch (thrown) {
    if (thrown instanceof ConfigError) return [];
    throw thrown;
  }
}

export const start: Command = {
  name: "start",
  summary: "Run the receiver, the exporters and the dashboard in one process.",
  description:
    "Runs the receiver, the processors of the chosen exporters and the dashboard in one process, until SIGTERM or SIGINT. " +
    `Without DATABASE_URL the postgres exporter keeps its table in an embedded PostgreSQL in ${EMBEDDED_DATABASE_URL.slice("pglite:".length)}.`,
  options: [
    { name: "no-dashboard", description: "Run without the dashboard." },
    { name: "check-config", description: "Say whether the settings are right, and end." },
    { name: "print-config", description: "Show the settings in use, secrets masked, and end." },
  ],
  settings: withDefaultDatabase(groupSettings(ALL_ROLES), EMBEDDED_DATABASE_URL),
  async run({ options, env: given, terminal }) {
    const exporterNames = exportersIfKnown(given);
    const { env, isEmbedded } = exporterNames.includes("postgres") ? withDatabase(given) : { env: given, isEmbedded: false };
    const roles = rolesFor(exporterNames, { withDashboard: !options.has("no-dashboard") });
    const configs = loadConfigs(roles, env);
    if (options.has("print-config")) return terminal.write(printConfig(configs));
    if (options.has("check-config")) return terminal.write("The settings are right.\n");
    if (isEmbedded) {
      const { LOG_LEVEL, LOG_FORMAT } = loadConfig(BaseConfig, env);
      const logger = createLogger(PROGRAM, LOG_LEVEL, standardOutput(LOG_FORMAT));
      logger.info({ database: EMBEDDED_DATABASE_URL }, "DATABASE_URL is not set: using the embedded PostgreSQL");
    }
    await runRoles(PROGRAM, roles, env);
  },
};
