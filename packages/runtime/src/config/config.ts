/** Configuration from environment variables: one zod object per role, keyed by variable name. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { ConfigError, toError } from "../errors.ts";
import { type Alias, type Obsolete, aliased, aliasesOf, readAlias, reportAliases } from "./aliases.ts";
import { isMisspelt } from "./misspelling.ts";
import { redactUrl } from "./url.ts";
import { parseRedisUrl } from "../redis/redis-url.ts";

/** A role's settings. Keys are environment variables. Each setting has `.describe()`, and secrets are wrapped in `secret()`. */
export type ConfigSchema = z.ZodObject;
export type Environment = Readonly<Record<string, string | undefined>>;

const secrets = z.registry<{ secret: true }>();

/** Marks a setting whose value must never be shown. */
export function secret<T extends z.ZodType>(schema: T): T {
  secrets.add(schema, { secret: true });
  return schema;
}

/** A URL that may contain a password, which is redacted when shown. */
export function url(protocols: readonly string[]): z.ZodType<string, string> {
  return secret(
    z
      .string()
      .refine((value) => protocols.some((protocol) => value.startsWith(`${protocol}://`)), {
        error: `must be a URL that starts with ${protocols.map((protocol) => `${protocol}://`).join(" or ")}`,
        abort: true,
      })
      .refine(isReadable, { error: "is not a valid URL: write / ? # : @ in a user name or password as %2F %3F %23 %3A %40" }),
  );
}

/** Whether the parts of a URL are unambiguous. A URL with an unescaped `/` or `#` often parses, but with a truncated password. */
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

/** The longest delay of Node's timers. A longer one fires at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;
/** The longest setting for a wait: less than a third of a timer's limit, so that sums and multiples still fit. */
export const MAX_WAIT_SECONDS = 7 * 86_400;
/** The longest setting for an age. Databases accept far more, but not any number. */
export const MAX_AGE_SECONDS = 10 * 365 * 86_400;

const MAX_DURATION = { "wait ms": MAX_WAIT_SECONDS * 1_000, "wait seconds": MAX_WAIT_SECONDS, "age seconds": MAX_AGE_SECONDS } as const;

/**
 * A duration in the unit at the end of the variable's name, `_MS` or `_SECONDS`. A wait is at most a week, an age of data at most ten years;
 * `max` can lower the limit.
 */
export function duration(
  kind: keyof typeof MAX_DURATION,
  defaultValue: number,
  { min, max = MAX_DURATION[kind] }: { readonly min: number; readonly max?: number },
): z.ZodType<number, string | undefined> {
  return integer(defaultValue, min, Math.min(max, MAX_DURATION[kind]));
}

/** A whole number within bounds, such as a size. The variable's name contains the unit. For times, see `duration`. */
export function integer(defaultValue: number, min: number, max = Number.MAX_SAFE_INTEGER): z.ZodType<number, string | undefined> {
  return wholeNumber(min, max).default(defaultValue) as z.ZodType<number, string | undefined>;
}

/** Like `integer`, but without a default. */
export function wholeNumber(min: number, max: number): z.ZodType<number, unknown> {
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

/** A comma-separated list. Trims blanks and drops empty parts. */
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

/** Python's and Datadog's names for pino's levels. */
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

/** Two addresses, each with a port. */
const NAT_ENTRY = /^[^=]+:\d+=[^=]+:\d+$/;

/** The settings of every role. */
export const BaseConfig = z.object({
  REDIS_URL: secret(redisUrl)
    .default("redis://127.0.0.1:6379")
    .describe(
      "Redis that holds the exporter queues and the Store: `redis://`, `rediss://` or `redis+socket://`; `sentinel://` with several hosts separated by `;`; `redis+cluster://` or `rediss+cluster://` with some nodes of a Redis Cluster separated by `,`. For TLS, `ssl_*` query settings, as in CELERY_BROKER_URL.",
    ),
  REDIS_SENTINEL_MASTER_NAME: z.string().min(1).default("mymaster").describe("Sentinel's name of the master of REDIS_URL."),
  REDIS_SENTINEL_PASSWORD: secret(z.string().optional()).describe("Password of the sentinels. The password in REDIS_URL is for Redis."),
  REDIS_SENTINEL_TLS: flag(false).describe("Whether the sentinels use TLS too, with the `ssl_*` settings of REDIS_URL."),
  REDIS_CLUSTER_NAT_MAP: list()
    .refine((entries) => entries.every((entry) => NAT_ENTRY.test(entry)), "must be host:port=host:port, separated by commas")
    .describe(
      "Redis Cluster behind NAT: the address to use for each address that a node announces, as `announced=reachable` separated by commas, such as `10.0.0.1:6379=redis.example.com:7001`.",
    ),
  QUEUE_PREFIX: z
    .string()
    .min(1)
    .default("{cme}")
    .describe("Prefix of the keys of all exporter queues. The braces keep these keys in one slot; a Redis Cluster requires them."),
  LOG_LEVEL: aliased(
    z
      .preprocess(toLevel, z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"], { error: LEVEL_PROBLEM }))
      .default("info")
      .describe("Lowest level that is logged. Python's names (`WARNING`, `CRITICAL`) work too."),
    { variable: "CE_LOG_LEVEL" },
  ),
  LOG_FORMAT: z
    .enum(["auto", "json", "text"])
    .default("auto")
    .describe("Format of log lines: `json`, `text` for people, or `auto` (text on a terminal, otherwise JSON)."),
  HEALTH_HOST: z.string().default("127.0.0.1").describe("Address of `/healthz`, `/readyz` and `/metrics`. Loopback by default."),
  HEALTH_PORT: wholeNumber(0, 65535)
    .optional()
    .describe(
      "Port of the health endpoints. 0 picks a free port and logs it. Default: the role's own port, or 9800 if one process runs several roles. If the default port is taken, the process uses a free one and logs a warning.",
    ),
  STARTUP_TIMEOUT_SECONDS: duration("wait seconds", 15, { min: 1 }).describe(
    "How long a role waits for its dependencies at startup before it gives up.",
  ),
  SHUTDOWN_TIMEOUT_SECONDS: duration("wait seconds", 30, { min: 1 }).describe(
    "Time limit of a drain after the first SIGTERM, SIGINT or SIGHUP.",
  ),
});

/**
 * Reads the settings of `schema` from `env`. `NAME_FILE` names a file that contains the value of `NAME`. An empty variable counts as unset. An
 * alias counts if the setting is unset.
 *
 * @throws {ConfigError} with every problem, by setting. Never contains a secret value.
 */
export function loadConfig<S extends ConfigSchema>(schema: S, env: Environment): z.output<S> {
  const problems: string[] = [];
  const unreadable = new Set<string>();
  const values: Record<string, string> = {};
  for (const name of Object.keys(schema.shape)) {
    const field = schema.shape[name] as z.ZodType;
    try {
      const value = readSetting(name, env) ?? readAlias({ name, aliases: aliasesOf(field) }, env)?.value;
      if (value !== undefined) values[name] = inKnownCase(field, value);
    } catch (thrown) {
      if (!(thrown instanceof ConfigError)) throw thrown;
      problems.push(...thrown.problems);
      unreadable.add(name);
    }
  }
  const parsed = schema.safeParse(values);
  if (!parsed.success) {
    const described = parsed.error.issues.map((issue) => describeProblem(schema, { values, env }, issue));
    // The setting is missing only because its file cannot be read.
    problems.push(...described.filter((problem) => !unreadable.has(problem.split(":", 1)[0] ?? "")));
  }
  if (problems.length > 0 || !parsed.success) throw new ConfigError([...new Set(problems)]);
  return parsed.data;
}

/** Normalizes the case of an enum value: `QUORUM` means `quorum`. */
function inKnownCase(schema: z.ZodType, value: string): string {
  for (let current: unknown = schema; current instanceof z.ZodType; current = innerType(current)) {
    if (!(current instanceof z.ZodEnum)) continue;
    const word = value.trim().toLowerCase();
    return current.options.map(String).find((option) => option.toLowerCase() === word) ?? value;
  }
  return value;
}

/**
 * Reads one variable as `loadConfig` does: its value, or the content of the file named by `NAME_FILE` without trailing line ends. Undefined if
 * both are empty or unset. The error does not name the file, because the "path" may be a secret in the wrong variable.
 *
 * @throws {ConfigError} if the file cannot be read.
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
  /** Values of the settings that are set. */
  readonly values: Readonly<Record<string, string>>;
  readonly env: Environment;
}

function describeProblem(schema: ConfigSchema, { values, env }: Given, issue: z.core.$ZodIssue): string {
  const name = String(issue.path[0] ?? "");
  const field = schema.shape[name] as z.ZodType | undefined;
  if (field === undefined) return issue.message;
  const value = values[name];
  if (value === undefined) return `${name}: is required${misspeltHint(name, env)}. ${field.description ?? ""}`.trim();
  const [alias] = reportAliases([{ name, aliases: aliasesOf(field) }], env).used;
  const problem = `${inPlainWords(issue)}${isSecret(field) ? "" : ` (got ${JSON.stringify(value)})`}`;
  return `${name}: ${problem}${alias === undefined ? "" : `; it is set by ${alias.alias}`}`;
}

function misspeltHint(name: string, env: Environment): string {
  const misspelt = Object.keys(env).find((variable) => (env[variable] ?? "") !== "" && isMisspelt(variable, name));
  return misspelt === undefined ? "" : ` (${misspelt} is set but is not a setting: a misspelling?)`;
}

/** Rewrites zod's messages, which address programmers. */
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

/** The schema inside `.default()`, `.optional()` and similar. `.describe()` makes a copy, and zod keeps the original as its parent. */
function innerType(schema: z.ZodType): unknown {
  const zod = schema._zod as unknown as { def: { innerType?: unknown; in?: unknown }; parent?: unknown };
  return zod.parent ?? zod.def.innerType ?? zod.def.in;
}

/** One row of `docs/configuration.md`. */
export interface SettingDescription {
  readonly name: string;
  readonly description: string;
  /** Written like the variable's value; undefined without a default. */
  readonly defaultValue: string | undefined;
  readonly required: boolean;
  readonly secret: boolean;
  readonly aliases: readonly (Alias | Obsolete)[];
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
      defaultValue: value === undefined ? undefined : writtenValue(value),
      required: !unset.success,
      secret: isSecret(type),
      aliases: aliasesOf(type),
    };
  });
}

/** A value as its variable has it: lists and pairs are separated by commas. */
function writtenValue(value: unknown): string {
  if (Array.isArray(value)) return value.join(",");
  if (typeof value === "object" && value !== null)
    return Object.entries(value)
      .map((pair) => pair.join("="))
      .join(",");
  return JSON.stringify(value).replace(/^"|"$/g, "");
}

/** The configuration in printable form: secrets are redacted, and URLs have no password. */
export function redactConfig(schema: ConfigSchema, config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    describeConfig(schema).map(({ name, secret: hidden }) => {
      const value = config[name];
      if (!hidden || value === undefined) return [name, value];
      // Decides by the name: a password may look like a URL.
      return [name, name.endsWith("_URL") && typeof value === "string" ? redactUrl(value) : "[redacted]"];
    }),
  );
}
