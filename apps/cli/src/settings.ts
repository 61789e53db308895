/** The settings of roles: grouped for documents, as command-line options, and printed. */
import { describeConfig, redactConfig, type ConfigSchema, type Role, type SettingDescription } from "@celery-metrics-exporter/runtime";

/** Anything with settings: a role, or a command with its own settings. */
export interface Configurable {
  readonly name: string;
  readonly Config: ConfigSchema;
}

/** Settings that the same set of roles shares. */
export interface SettingsGroup {
  readonly title: string;
  readonly settings: readonly SettingDescription[];
}

/** Its description, with its aliases. */
export function descriptionOf({ description, aliases }: SettingDescription): string {
  const names = aliases.flatMap((alias) => ("advice" in alias ? [] : [`\`${alias.variable}\``]));
  return names.length === 0 ? description : `${description} Alias: ${names.join(", ")}.`;
}

/** Short names of options. */
export const ALIASES: Readonly<Record<string, string>> = {
  broker: "CELERY_BROKER_URL",
  redis: "REDIS_URL",
  database: "DATABASE_URL",
};

/** Converts `DATADOG_GRACE_MS` to the option name `datadog-grace-ms`. */
export function toOption(setting: string): string {
  return setting.toLowerCase().replaceAll("_", "-");
}

/**
 * Each setting once, grouped by the set of roles that share it; the groups with the most roles come first. If roles describe a setting
 * differently or give it another default, it is listed for each role.
 */
export function groupSettings(configurables: readonly Configurable[]): SettingsGroup[] {
  const owners = new Map<string, { setting: SettingDescription; names: string[] }>();
  for (const { name, Config } of configurables) {
    for (const setting of describeConfig(Config)) {
      const key = JSON.stringify(setting);
      const owner = owners.get(key) ?? { setting, names: [] };
      owner.names.push(name);
      owners.set(key, owner);
    }
  }
  const groups = new Map<string, { names: string[]; settings: SettingDescription[] }>();
  for (const { setting, names } of owners.values()) {
    const key = names.join(", ");
    const group = groups.get(key) ?? { names, settings: [] };
    group.settings.push(setting);
    groups.set(key, group);
  }
  return [...groups.values()]
    .sort((one, other) => other.names.length - one.names.length)
    .map(({ names, settings }) => ({ title: titleOf(names, configurables.length), settings }));
}

function titleOf(names: readonly string[], all: number): string {
  if (names.length === all && all > 1) return "every role";
  const last = names.at(-1) ?? "";
  return names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${last}` : last;
}

/** The settings in use, as an environment file with one line per setting, in groups. Settings that are not set are comments. Secrets are masked. */
export function printConfig(configs: ReadonlyMap<Role, Readonly<Record<string, unknown>>>): string {
  const values: Record<string, unknown> = {};
  for (const [role, config] of configs) Object.assign(values, redactConfig(role.Config, config));
  const groups = groupSettings([...configs.keys()]).map(({ title, settings }) => {
    const lines = settings.map(({ name }) => (values[name] === undefined ? `# ${name} is not set` : `${name}=${toText(values[name])}`));
    return [`# Settings of ${title}`, ...lines].join("\n");
  });
  return `${groups.join("\n\n")}\n`;
}

function toText(value: unknown): string {
  if (Array.isArray(value)) return value.join(",");
  return typeof value === "string" && !value.includes("\n") ? value : JSON.stringify(value);
}
