/** The settings of roles: grouped for documents, as options of the command line, and printed. */
import { describeConfig, redactConfig, type ConfigSchema, type Role, type SettingDescription } from "@celery-metrics-exporter/runtime";

/** What has settings: a role, or a command that has some of its own. */
export interface Configurable {
  readonly name: string;
  readonly Config: ConfigSchema;
}

/** Settings that the same roles have. */
export interface SettingsGroup {
  readonly title: string;
  readonly settings: readonly SettingDescription[];
}

/** Shorter names of options. */
export const ALIASES: Readonly<Record<string, string>> = {
  broker: "CELERY_BROKER_URL",
  redis: "REDIS_URL",
  database: "DATABASE_URL",
};

/** `DATADOG_GRACE_MS` as an option: `datadog-grace-ms`. */
export function toOption(setting: string): string {
  return setting.toLowerCase().replaceAll("_", "-");
}

/**
 * Every setting once, in groups of those that the same roles have; the settings of more roles come first. A setting that roles describe
 * differently, or give another default, stands with each.
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

/** The settings in use, as an environment file: one line a setting, in groups; what is not set is a comment. Secrets are masked. */
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
