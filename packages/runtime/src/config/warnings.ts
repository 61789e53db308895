/** Settings that have no effect although somebody meant them to. Only warnings: the environment may be shared with other programs. */
import { type Environment, readSetting } from "./config.ts";
import { isMisspelt, isSetting, nearest, settingOf, sharedWords } from "./misspelling.ts";
import { redisUrlWarnings } from "../redis/redis-url.ts";
import { SETTING_NAMES } from "./setting-names.ts";

export interface ConfigWarning {
  readonly setting: string;
  /** Without the value, which may be a secret. */
  readonly problem: string;
}

/** Variables with these prefixes are meant for us. */
const OWN_PREFIX = /^(BATCH|DASHBOARD|FILTER|HEALTH|PROCESSOR|REDACT|SHUTDOWN|STARTUP|SUMMARY)_/;
/** Other programs use these prefixes too, so a second word must be ours. (`CELERY_` and `DD_` are mostly theirs.) */
const SHARED_PREFIX = /^(DATADOG|EVENT|POSTGRES|QUEUE|RABBITMQ|REDIS)_/;
/** What Kubernetes sets for a service that happens to have such a name. */
const OF_KUBERNETES = /_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?)$/;
/**
 * Sorted by setting: variables that look like a setting but are none of any role, files beside the variable itself, and unknown query settings
 * of `REDIS_URL`.
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
  if (OF_KUBERNETES.test(name)) return undefined;
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
