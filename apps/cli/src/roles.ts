/** Which roles a process runs. */
import { processorRole } from "@celery-metrics-exporter/pipeline";
import { loadConfig, type Environment, type Role } from "@celery-metrics-exporter/runtime";
import { dashboard, dashboardRole } from "dashboard";
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

export interface RolesOptions {
  readonly withDashboard: boolean;
  /** Gets the address of the dashboard's page, once it answers. */
  readonly onDashboard?: (url: string) => void;
}

/** The roles that serve these exporters, in the order to start them: what empties queues before what fills them. */
export function rolesFor(exporterNames: readonly string[], { withDashboard, onDashboard }: RolesOptions): Role[] {
  const chosen = exporterNames.flatMap((name) => processors.get(name) ?? []);
  return [...chosen, ...(withDashboard ? [dashboardRole(onDashboard)] : []), receiver];
}
