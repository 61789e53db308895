/** An environment without settings: what any program needs to run and to write to its terminal. */
import type { Environment } from "@celery-metrics-exporter/runtime";

/** A list of what to keep: Celery, PostgreSQL's and Datadog's clients and the servers read more variables than anybody could list. */
const KEPT =
  /^(PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|TMP|TEMP|TZ|LANG|LANGUAGE|LC_\w+|TERM|COLORTERM|NO_COLOR|FORCE_COLOR|CI|NODE_\w+|LD_LIBRARY_PATH|DYLD_\w+|PYTHONHOME|VIRTUAL_ENV)$/;

export function bareEnvironment(env: Environment): Environment {
  return Object.fromEntries(Object.entries(env).filter(([name]) => KEPT.test(name)));
}
