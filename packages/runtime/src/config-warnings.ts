/** Settings that have no effect although somebody meant them to. Only warnings: the environment may be shared with other programs. */
import { readSetting, type Environment } from "./config.ts";
import { editDistance, nearest, sharedWords } from "./nearest.ts";
import { redisUrlWarnings } from "./redis-url.ts";
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
/** A name this close to one of ours is a misspelling of it. */
const MAX_TYPOS = 2;

/** Sorted by setting: variables that look like a setting but are none of any role, and unknown query settings of `REDIS_URL`. */
export function configWarnings(env: Environment): ConfigWarning[] {
  const unknown = Object.keys(env)
    .filter((name) => (env[name] ?? "") !== "")
    .flatMap((setting) => {
      const problem = unknownProblem(setting);
      return problem === undefined ? [] : [{ setting, problem }];
    });
  const redisUrl = redisUrlWarnings(urlOf(env)).map((problem) => ({ setting: "REDIS_URL", problem }));
  return [...unknown, ...redisUrl].toSorted((a, b) => a.setting.localeCompare(b.setting));
}

function unknownProblem(variable: string): string | undefined {
  const name = variable.replace(/_FILE$/i, "");
  if (KNOWN.has(name) || OF_KUBERNETES.test(name)) return undefined;
  const upper = name.toUpperCase();
  const misspelt = SETTING_NAMES.find((known) => isLike(upper, known));
  const candidate = misspelt ?? nearest(upper, SETTING_NAMES) ?? "";
  const isMeantForUs = OWN_PREFIX.test(name) || (SHARED_PREFIX.test(name) && sharedWords(name, candidate) > 1);
  return misspelt === undefined && !isMeantForUs ? undefined : `is not a setting and is ignored; did you mean ${candidate}?`;
}

const KNOWN: ReadonlySet<string> = new Set(SETTING_NAMES);

/** Short names are too easily alike. */
function isLike(name: string, known: string): boolean {
  return known.length >= 8 && Math.abs(name.length - known.length) <= MAX_TYPOS && editDistance(name, known) <= MAX_TYPOS;
}

function urlOf(env: Environment): string {
  try {
    return readSetting("REDIS_URL", env) ?? "";
  } catch {
    return "";
  }
}
