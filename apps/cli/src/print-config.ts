/** The settings in use, as an environment file. */
import { redactConfig, type Role } from "@celery-metrics-exporter/runtime";
import { groupSettings } from "./settings.ts";

/** One line a setting, in groups; what is not set is a comment. Secrets are masked. */
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
