/** The only place that reads the environment of this process. */
import type { Environment } from "./config.ts";

export function processEnvironment(): Environment {
  return process.env;
}
