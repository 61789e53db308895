/** Which roles a process runs, and what they make of the environment. */
import { processorRole } from "@celery-metrics-exporter/pipeline";
import { ConfigError, loadConfig, type Environment, type Role } from "@celery-metrics-exporter/runtime";
import { dashboard } from "dashboard";
import { receiver } from "receiver";
import { z } from "zod";
import { exporters } from "./exporters.ts";

/** The role of each exporter, by the exporter's name. */
const processors: ReadonlyMap<string, Role> = new Map([...exporters].map(([name, definition]) => [name, processorRole(definition)]));

/** Every role there is. */
export const ALL_ROLES: readonly Role[] = [receiver, ...processors.values(), dashboard];

const Choice = z.object({ EXPORTERS: receiver.Config.shape.EXPORTERS });

/** The names in `EXPORTERS`. @throws {ConfigError} when there is none, or one is not known. */
export function chosenExporters(env: Environment): string[] {
  return [...new Set(loadConfig(Choice, env).EXPORTERS)];
}

/** The roles that serve these exporters, in the order to start them: what empties queues before what fills them. */
export function rolesFor(exporterNames: readonly string[], options: { readonly withDashboard: boolean }): Role[] {
  const chosen = exporterNames.flatMap((name) => processors.get(name) ?? []);
  return [...chosen, ...(options.withDashboard ? [dashboard] : []), receiver];
}

/** What each role makes of the environment. @throws {ConfigError} with the problems of all of them. */
export function loadConfigs(roles: readonly Role[], env: Environment): Map<Role, Record<string, unknown>> {
  const configs = new Map<Role, Record<string, unknown>>();
  const problems: string[] = [];
  for (const role of roles) {
    try {
      configs.set(role, loadConfig(role.Config, env));
    } catch (thrown) {
      if (!(thrown instanceof ConfigError)) throw thrown;
      problems.push(...thrown.problems);
    }
  }
  if (problems.length > 0) throw new ConfigError([...new Set(problems)]);
  return configs;
}
