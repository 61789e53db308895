/** A role is what a process runs: receiver, one exporter's processor, dashboard. Several may share a process. */
import type { z } from "zod";
import { type ConfigSchema, type Environment, loadConfig } from "../config/config.ts";
import type { Health, HttpServer } from "./health.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Logger } from "../log/logger.ts";
import type { Metrics } from "./metrics.ts";
import { ConfigError } from "../errors.ts";

/** What the process gives a role. */
export interface RoleContext<C> {
  readonly config: C;
  readonly logger: Logger;
  /** Components named here decide `/readyz`. */
  readonly health: Health;
  readonly metrics: Metrics;
  /** Routes may be added until `start` resolves. */
  readonly http: HttpServer;
  /** Everything `start` acquires is registered here for release. */
  readonly lifecycle: Lifecycle;
}

export interface Role<S extends ConfigSchema = ConfigSchema> {
  readonly name: string;
  /** Whether it is no part that users know, so that its start is not worth a line. */
  readonly isInternal?: boolean;
  readonly Config: S;
  /** Connects and begins work; resolves when the role works. A rejection aborts the start of the process. */
  start(context: RoleContext<z.output<S>>): Promise<void>;
}

/** Declares a role, so that `start` knows the type of its configuration. */
export function defineRole<S extends ConfigSchema>(role: Role<S>): Role<S> {
  return role;
}

// The settings of several roles, which are wrong together.

/**
 * What each role makes of the environment.
 *
 * @throws {ConfigError} with the problems of all of them, each once.
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
