/** Chooses the roles that a process runs. */
import { processorRole } from "@celery-metrics-exporter/pipeline";
import { loadConfig, type Environment, type Role } from "@celery-metrics-exporter/runtime";
import { dashboard, dashboardRole } from "dashboard";
import { monitor } from "monitor";
import { definePrometheus, prometheus } from "prometheus-processor";
import { receiver } from "receiver";
import { web, webRole } from "web";
import { z } from "zod";
import { exporters } from "./exporters.ts";

/** The role of each exporter, by the exporter's name. */
const processors: ReadonlyMap<string, Role> = new Map([...exporters].map(([name, definition]) => [name, processorRole(definition)]));

/** All roles. */
export const ALL_ROLES: readonly Role[] = [receiver, ...processors.values(), dashboard, web, monitor];

const Choice = z.object({ EXPORTERS: receiver.Config.shape.EXPORTERS });

/** The names in `EXPORTERS`. @throws {ConfigError} if there is none or if one is unknown. */
export function chosenExporters(env: Environment): string[] {
  return [...new Set(loadConfig(Choice, env).EXPORTERS)];
}

export interface RolesOptions {
  readonly withDashboard: boolean;
  /** Whether to run the HTTP API, which needs the rows of the postgres exporter. */
  readonly withWeb: boolean;
  /** Receives the address of the dashboard's page, once it answers. */
  readonly onDashboard?: (url: string) => void;
  /** Receives the address of the HTTP API, once it answers. */
  readonly onWeb?: (url: string) => void;
  /** Receives the address that Prometheus scrapes, once it answers. */
  readonly onScrapable?: (url: string) => void;
}

/** The roles for these exporters, in start order: consumers of a queue before its producers. */
export function rolesFor(exporterNames: readonly string[], options: RolesOptions): Role[] {
  const { withDashboard, withWeb, onDashboard, onWeb, onScrapable } = options;
  const roleOf = (name: string): Role | undefined =>
    name === prometheus.name ? processorRole(definePrometheus(onScrapable)) : processors.get(name);
  const chosen = exporterNames.flatMap((name) => roleOf(name) ?? []);
  let dashboardUrl: string | undefined;
  const openDashboard = (url: string): void => {
    dashboardUrl = url;
    onDashboard?.(url);
  };
  const pages = [...(withDashboard ? [dashboardRole(openDashboard)] : []), ...(withWeb ? [webRole(onWeb, () => dashboardUrl)] : [])];
  return [...chosen, ...pages, monitor, receiver];
}
