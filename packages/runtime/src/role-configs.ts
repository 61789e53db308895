/** The settings of several roles, which are wrong together. */
import { loadConfig, type Environment } from "./config.ts";
import { ConfigError } from "./errors.ts";
import type { Role } from "./role.ts";

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
