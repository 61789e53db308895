/** Defaults that `--help` shows for the settings that the single process chooses if they are not set. */
import type { SettingsGroup } from "../settings.ts";
import { EMBEDDED_DATABASE_URL } from "./database.ts";

/** By setting: the text after `Default:`. */
export const DECIDED_DEFAULTS: Readonly<Record<string, string>> = {
  REDIS_URL: "the broker, if it is a Redis; with RabbitMQ redis://127.0.0.1:6379",
  DATABASE_URL: EMBEDDED_DATABASE_URL,
  EXPORTERS: "postgres,prometheus, and datadog if an agent is configured or answers",
  DASHBOARD_PORT: "3000, or a free port if that is taken",
  WEB_PORT: "5555, or a free port if that is taken",
  PROMETHEUS_PORT: "9808, or a free port if that is taken",
};

/** The settings with these defaults. Outside the single process, roles have other defaults or none. */
export function withDecidedDefaults(groups: readonly SettingsGroup[], decided = DECIDED_DEFAULTS): SettingsGroup[] {
  return groups.map(({ title, settings }) => ({
    title,
    settings: settings.map((setting) => {
      const defaultValue = decided[setting.name];
      return defaultValue === undefined ? setting : { ...setting, required: false, defaultValue };
    }),
  }));
}
