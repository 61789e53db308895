/** Configuration from environment variables: one zod object per role, keyed by the variables' own names. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { ConfigError, toError } from "../errors.ts";
import { isMisspelt } from "./misspelling.ts";
import { redactUrl } from "./url.ts";
import { parseRedisUrl } from "../redis/redis-url.ts";

/** A role's settings. Keys are environment variables; each has `.describe()`, and secrets are wrapped in `secret()`. */
export type ConfigSchema = z.ZodObject;
export type Environment = Readonly<Record<string, string | undefined>>;

const secrets = z.registry<{ secret: true }>();

/** Marks a setting whose value must never be shown. */
export function secret<T extends z.ZodType>(schema: T): T {
  secrets.add(schema, { secret: true });
  return schema;
}

/** A URL that may hold a password: shown without it. */
export function url(protocols: readonly string[]): z.ZodType<string, string> {
  return secret(
    z
      .string()
      .refine((value) => protocols.some((protocol) => value.startsWith(`${protocol}://`)), {
        error: `must be a URL that starts with ${protocols.map((protocol) => `${protocol}://`).join(" or ")}`,
        abort: true,
      })
      .refine(isReadable, { error: "is not a URL that can be read: write / ? # : @ in a user name or password as %2F %3F %23 %3A %40" }),
  );
}

/** Whether every part can be told from the others. One that holds an unescaped `/` or `#` often parses, with the password cut short. */
function isReadable(value: string): boolean {
  if (!URL.canParse(value)) return false;
  const { username, password, pathname, hash } = new URL(value);
  if (/@/.test(pathname + hash)) return false;
  try {
    decodeURIComponent([username, password, pathname].join("/"));
    return true;
  } catch {
    return false;
  }
}

/** The longest that Node's timers wait: one that is set to more fires at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;
/** A third of that, so that what is added or doubled still fits; nobody waits for longer. */
const MAX_WAIT_SECONDS = 7 * 86_400;
/** Stores take far more, but not everything. */
const MAX_AGE_SECONDS = 10 * 365 * 86_400;

const MAX_DURATION = { "wait ms": MAX_WAIT_SECONDS * 1_000, "wait seconds": MAX_WAIT_SECONDS, "age seconds": MAX_AGE_SECONDS } as const;

/**
 * A time in the unit that the variable's name ends with, `_MS` or `_SECONDS`: one that a process waits for is at most a week, one that data is
 * old or kept at most ten years, unless `max` says less.
 */
export function duration(
  kind: keyof typeof MAX_DURATION,
  defaultValue: number,
  { min, max = MAX_DURATION[kind] }: { readonly min: number; readonly max?: number },
): z.ZodType<number, string | undefined> {
  return integer(defaultValue, min, Math.min(max, MAX_DURATION[kind]));
}

/** A whole number within bounds, such as a size; the unit belongs in the variable's name. For times see `duration`. */
export function integer(defaultValue: number, min: number, max = Number.MAX_SAFE_INTEGER): z.ZodType<number, string | undefined> {
  return wholeNumber(min, max).default(defaultValue) as z.ZodType<number, string | undefined>;
}

function wholeNumber(min: number, max: number): z.ZodType<number, unknown> {
  return z.coerce
    .number({ error: "must be a number" })
    .int("must be a whole number")
    .min(min, `must be at least ${min}`)
    .max(max, `must be at most ${max}`);
}

/** `true`/`false`, `1`/`0`, `yes`/`no`, `on`/`off`. */
export function flag(defaultValue: boolean): z.ZodType<boolean, string | undefined> {
  return z.stringbool({ error: "must be true or false" }).default(defaultValue);
}

/** A comma-separated list; blanks around and empty parts are dropped. */
export function list(defaultValue = ""): z.ZodType<string[], string | undefined> {
  return z
    .string()
    .default(defaultValue)
    .transform((value) =>
      value
        .split(",")
        .map((part) => part.trim())
        .filter((part) => part !== ""),
    );
}

/** Python's and Datadog's words for pino's levels. */
const LEVELS: ReadonlyMap<unknown, string> = new Map([
  ["warning", "warn"],
  ["critical", "fatal"],
  ["notset", "trace"],
  ["off", "silent"],
]);

const LEVEL_PROBLEM =
  "must be one of trace, debug, info, warn, error, fatal, silent, or of Python's DEBUG, INFO, WARNING, ERROR, CRITICAL, NOTSET";

function toLevel(value: unknown): unknown {
  return typeof value === "string" ? (LEVELS.get(value.toLowerCase()) ?? value.toLowerCase()) : value;
}

const redisUrl = z.string().superRefine((value, context) => {
  const parsed = parseRedisUrl(value);
  if (!parsed.ok) context.addIssue({ code: "custom", message: parsed.problem });
});

/** Two addresses, each with its port. */
const NAT_ENTRY = /^[^=]+:\d+=[^=]+:\d+$/;

/** The settings every role has. */
export const BaseConfig = z.object({
  REDIS_URL: secret(redisUrl)
    .default("redis://127.0.0.1:6379")
    .describe(
      "Redis that holds the queues and the Store: `redis://`, `rediss://`, `redis+socket://`, or `sentinel://` of several hosts separated by `;`, `redis+cluster://` or `rediss+cluster://` of some nodes of a Redis Cluster separated by `,`; `ssl_*` query settings for TLS, as in CELERY_BROKER_URL.",
    ),
  REDIS_SENTINEL_MASTER_NAME: z.string().min(1).default("mymaster").describe("Sentinel's name of the master of REDIS_URL."),
  REDIS_SENTINEL_PASSWORD: secret(z.string().optional()).describe(
    "Password of the sentinels themselves. The one in REDIS_URL is for Redis.",
  ),
  REDIS_SENTINEL_TLS: flag(false).describe("Whether the sentinels speak TLS too, with the `ssl_*` settings of REDIS_URL."),
  REDIS_CLUSTER_NAT_MAP: list()
    .refine((entries) => entries.every((entry) => NAT_ENTRY.test(entry)), "must be host:port=host:port, separated by commas")
    .describe(
      "Redis Cluster behind NAT: the address to use for each address that a node announces, as `announced=reachable` separated by commas, such as `10.0.0.1:6379=redis.example.com:7001`.",
    ),
  QUEUE_PREFIX: z
    .string()
    .min(1)
    .default("{cme}")
    .describe("Prefix of every queue key. The braces keep the queues in one slot of a Redis Cluster, which needs them."),
  LOG_LEVEL: z
    .preprocess(toLevel, z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"], { error: LEVEL_PROBLEM }))
    .default("info")
    .describe("Least severe level that is logged. Python's names (`WARNING`, `CRITICAL`) work too."),
  LOG_FORMAT: z
    .enum(["auto", "json", "text"])
    .default("auto")
    .describe("How log lines look: `json`, `text` for people, or `auto`: text on a terminal and JSON elsewhere."),
  HEALTH_HOST: z
    .string()
    .default("127.0.0.1")
    .describe("Address that `/healthz`, `/readyz` and `/metrics` listen on. Beyond loopback only if you say so."),
  HEALTH_PORT: wholeNumber(0, 65535)
    .optional()
    .describe(
      "Port of the health endpoints; 0 takes a free one and logs it. If not set: 9801 for the receiver, 9802 datadog-processor, 9803 postgres-processor, 9804 dashboard, 9800 for all in one process; a free one, with a warning, if that is taken.",
    ),
  STARTUP_TIMEOUT_SECONDS: duration("wait seconds", 15, { min: 1 }).describe(
    "How long a role waits at start for what it needs before it gives up.",
  ),
  SHUTDOWN_TIMEOUT_SECONDS: duration("wait seconds", 30, { min: 1 }).describe(
    "How long a drain may take after the first SIGTERM, SIGINT or SIGHUP.",
  ),
});

/**
 * Reads the settings of `schema` from `env`. `NAME_FILE` names a file that holds the value of `NAME`; an empty variable counts as not set.
 *
 * @throws {ConfigError} with every problem by name, never with a value that may be a secret.
 */
export function loadConfig<S extends ConfigSchema>(schema: S, env: Environment): z.output<S> {
  const problems: string[] = [];
  const unreadable = new Set<string>();
  const values: Record<string, string> = {};
  for (const name of Object.keys(schema.shape)) {
    try {
      const value = readSetting(name, env);
      if (value !== undefined) values[name] = inKnownCase(schema.shape[name] as z.ZodType, value);
    } catch (thrown) {
      if (!(thrown instanceof ConfigError)) throw thrown;
      problems.push(...thrown.problems);
      unreadable.add(name);
    }
  }
  const parsed = schema.safeParse(values);
  if (!parsed.success) {
    const described = parsed.error.issues.map((issue) => describeProblem(schema, { values, env }, issue));
    // That it is missing follows from its file.
    problems.push(...described.filter((problem) => !unreadable.has(problem.split(":", 1)[0] ?? "")));
  }
  if (problems.length > 0 || !parsed.success) throw new ConfigError([...new Set(problems)]);
  return parsed.data;
}

/** A word that a setting knows, in the case it knows it in: `QUORUM` is as good as `quorum`. */
function inKnownCase(schema: z.ZodType, value: string): string {
  for (let current: unknown = schema; current instanceof z.ZodType; current = innerType(current)) {
    if (!(current instanceof z.ZodEnum)) continue;
    const word = value.trim().toLowerCase();
    return current.options.map(String).find((option) => option.toLowerCase() === word) ?? value;
  }
  return value;
}

/**
 * One variable as `loadConfig` reads it: itself or the content of the file that `NAME_FILE` names, without the line ends after it; undefined
 * where both are empty or not set. The message does not name the file: it may be the secret itself, put into the wrong variable.
 *
 * @throws {ConfigError} when the file cannot be read.
 */
export function readSetting(name: string, env: Environment): string | undefined {
  const value = env[name];
  if (value !== undefined && value !== "") return value;
  const file = env[`${name}_FILE`];
  if (file === undefined || file === "") return undefined;
  try {
    const text = readFileSync(file, "utf8").replace(/[\r\n]+$/, "");
    return text === "" ? undefined : text;
  } catch (thrown) {
    throw new ConfigError([`${name}_FILE: cannot be read (${(toError(thrown) as NodeJS.ErrnoException).code ?? "error"})`]);
  }
}

interface Given {
  /** Of the settings that are set. */
  readonly values: Readonly<Record<string, string>>;
  readonly env: Environment;
}

function describeProblem(schema: ConfigSchema, { values, env }: Given, issue: z.core.$ZodIssue): string {
  const name = String(issue.path[0] ?? "");
  const field = schema.shape[name] as z.ZodType | undefined;
  if (field === undefined) return issue.message;
  const value = values[name];
  if (value === undefined) return `${name}: is required${misspeltHint(name, env)}. ${field.description ?? ""}`.trim();
  const problem = inPlainWords(issue);
  return isSecret(field) ? `${name}: ${problem}` : `${name}: ${problem} (got ${JSON.stringify(value)})`;
}

function misspeltHint(name: string, env: Environment): string {
  const misspelt = Object.keys(env).find((variable) => (env[variable] ?? "") !== "" && isMisspelt(variable, name));
  return misspelt === undefined ? "" : ` (${misspelt} is set, which is no setting: a misspelling?)`;
}

/** zod's own words are for programmers. */
function inPlainWords(issue: z.core.$ZodIssue): string {
  if (issue.code === "invalid_value" && issue.message.startsWith("Invalid")) return `must be one of ${issue.values.join(", ")}`;
  if (issue.code === "too_small" && issue.message.startsWith("Too small")) return `must have at least ${issue.minimum} characters`;
  return issue.message;
}

function isSecret(schema: z.ZodType): boolean {
  for (let current: unknown = schema; current instanceof z.ZodType; current = innerType(current)) {
    if (secrets.has(current)) return true;
  }
  return false;
}

/** The schema under `.default()`, `.optional()` and the like; `.describe()` also makes a copy, whose parent zod keeps in the definition. */
function innerType(schema: z.ZodType): unknown {
  const zod = schema._zod as unknown as { def: { innerType?: unknown; in?: unknown }; parent?: unknown };
  return zod.parent ?? zod.def.innerType ?? zod.def.in;
}

/** One row of `docs/configuration.md`. */
export interface SettingDescription {
  readonly name: string;
  readonly description: string;
  /** As the variable would be written; undefined where there is none. */
  readonly defaultValue: string | undefined;
  readonly required: boolean;
  readonly secret: boolean;
}

/** The settings of a role, for documentation, `--help` and `--print-config`. */
export function describeConfig(schema: ConfigSchema): SettingDescription[] {
  return Object.entries(schema.shape).map(([name, field]) => {
    const type = field as z.ZodType;
    const unset = type.safeParse(undefined);
    const value: unknown = unset.success ? unset.data : undefined;
    return {
      name,
      description: type.description ?? "",
      defaultValue: value === undefined ? undefined : Array.isArray(value) ? value.join(",") : JSON.stringify(value).replace(/^"|"$/g, ""),
      required: !unset.success,
      secret: isSecret(type),
    };
  });
}

/** A configuration that may be printed: secrets replaced, passwords cut from URLs. */
export function redactConfig(schema: ConfigSchema, config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    describeConfig(schema).map(({ name, secret: hidden }) => {
      const value = config[name];
      if (!hidden || value === undefined) return [name, value];
      // A password may look like anything, also like a URL.
      return [name, name.endsWith("_URL") && typeof value === "string" ? redactUrl(value) : "[redacted]"];
    }),
  );
}
