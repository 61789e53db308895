/** A process runs one or more roles: receiver, an exporter's processor, dashboard. */
import type { z } from "zod";
import { type ConfigSchema, type Environment, loadConfig } from "../config/config.ts";
import type { Health, HttpServer } from "./health.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Logger } from "../log/logger.ts";
import type { Metrics } from "./metrics.ts";
import { ConfigError } from "../errors.ts";

/** What a process provides to a role. */
export interface RoleContext<C> {
  readonly config: C;
  readonly logger: Logger;
  /** Components registered here determine `/readyz`. */
  readonly health: Health;
  readonly metrics: Metrics;
  /** Routes may be added until `start` resolves. */
  readonly http: HttpServer;
  /** `start` registers the release of everything it acquires here. */
  readonly lifecycle: Lifecycle;
}

export interface Role<S extends ConfigSchema = ConfigSchema> {
  readonly name: string;
  /** Whether users do not know the role, so that its start is not logged. */
  readonly isInternal?: boolean;
  /** Default of `HEALTH_PORT` for a process with only this role. Without it, any free port. */
  readonly healthPort?: number;
  readonly Config: S;
  /** Connects and starts work. Resolves once the role works. A rejection aborts the start of the process. */
  start(context: RoleContext<z.output<S>>): Promise<void>;
}

/** Declares a role. Infers the type of `start`'s configuration. */
export function defineRole<S extends ConfigSchema>(role: Role<S>): Role<S> {
  return role;
}

/**
 * Loads the configuration of each role.
 *
 * @throws {ConfigError} with the problems of all roles, without duplicates.
 */
export function loadConfigs(roles: readonly Role[], env: Environment): Map<Role, Record<string, unknown>> {
  const configs = new Map<Role, Record<string, unknown>>();
  const problems = new Set<string>();
  for (const role of roles) {
    try {
      configs.set(role, loadConfig(role.Config, env));
    } catch (thrown) {
      if (!(thrown instanceof ConfigError)) throw thrown;
      for (const problem of thrown.problems) problems.add(problem);
    }
  }
  if (problems.size > 0) throw new ConfigError([...problems]);
  return configs;
}
