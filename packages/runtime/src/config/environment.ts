/** The environment of this process: the one place that reads it. */
import type { Environment } from "./config.ts";

export function processEnvironment(): Environment {
  return process.env;
}
