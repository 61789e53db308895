/** Warnings about variables that look like settings but have no effect. Not errors, because other programs may share the environment. */
import { type Environment, readSetting } from "./config.ts";
import { isMisspelt, isSetting, nearest, settingOf, sharedWords } from "./misspelling.ts";
import { redisUrlWarnings } from "../redis/redis-url.ts";
import { SETTING_NAMES } from "./setting-names.ts";

export interface ConfigWarning {
  readonly setting: string;
  /** Does not contain the value, which may be a secret. */
  readonly problem: string;
}

/** Prefixes used only by our settings. */
const OWN_PREFIX = /^(BATCH|DASHBOARD|FILTER|HEALTH|PROCESSOR|REDACT|SHUTDOWN|STARTUP|SUMMARY)_/;
/** Prefixes that other programs use too: a second word must match one of our settings. (`CELERY_` and `DD_` mostly belong to others.) */
const SHARED_PREFIX = /^(DATADOG|EVENT|POSTGRES|QUEUE|RABBITMQ|REDIS)_/;
/** Variables that Kubernetes sets for a service with such a name. */
const OF_KUBERNETES = /_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)$/;
/** celery-exporter's variables. A role knows only the aliases of its own settings: `CE_HOST` is not a misspelt `WEB_HOST`. */
const OF_CELERY_EXPORTER = /^CE_/;

/**
 * Warns about variables that look like a setting but belong to no role, about `NAME_FILE` if `NAME` is set too, and about unknown query
 * settings of `REDIS_URL`. Sorted by setting.
 */
export function configWarnings(env: Environment): ConfigWarning[] {
  const variables = Object.keys(env)
    .filter((name) => (env[name] ?? "") !== "")
    .flatMap((setting) => {
      const problem = problemOf(setting, env);
      return problem === undefined ? [] : [{ setting, problem }];
    });
  const redisUrl = redisUrlWarnings(urlOf(env)).map((problem) => ({ setting: "REDIS_URL", problem }));
  return [...variables, ...redisUrl].toSorted((a, b) => a.setting.localeCompare(b.setting));
}

function problemOf(variable: string, env: Environment): string | undefined {
  const name = settingOf(variable);
  if (isSetting(variable)) return name !== variable && (env[name] ?? "") !== "" ? `is ignored, because ${name} is set too` : undefined;
  if (OF_KUBERNETES.test(name) || OF_CELERY_EXPORTER.test(name)) return undefined;
  const upper = name.toUpperCase();
  const misspelt = SETTING_NAMES.find((known) => isMisspelt(variable, known));
  const candidate = misspelt ?? nearest(upper, SETTING_NAMES) ?? "";
  const isMeantForUs = OWN_PREFIX.test(name) || (SHARED_PREFIX.test(name) && sharedWords(name, candidate) > 1);
  return misspelt === undefined && !isMeantForUs ? undefined : `is not a setting and is ignored; did you mean ${candidate}?`;
}

function urlOf(env: Environment): string {
  try {
    return readSetting("REDIS_URL", env) ?? "";
  } catch {
    return "";
  }
}
