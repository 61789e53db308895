/** What `--help` says of the settings that the single process decides where they are not set. */
import type { SettingsGroup } from "../settings.ts";
import { EMBEDDED_DATABASE_URL } from "./database.ts";

/** By setting, as words after `Default:`. */
export const DECIDED_DEFAULTS: Readonly<Record<string, string>> = {
  REDIS_URL: "a Redis broker itself; with RabbitMQ redis://127.0.0.1:6379",
  DATABASE_URL: EMBEDDED_DATABASE_URL,
  EXPORTERS: "postgres, and datadog if an agent is configured or answers",
  DASHBOARD_PORT: "3000, or a free one where that is taken",
};

/** The settings with these defaults: alone, the roles have other ones, or none. */
export function withDecidedDefaults(groups: readonly SettingsGroup[], decided = DECIDED_DEFAULTS): SettingsGroup[] {
  return groups.map(({ title, settings }) => ({
    title,
    settings: settings.map((setting) => {
      const defaultValue = decided[setting.name];
      return defaultValue === undefined ? setting : { ...setting, required: false, defaultValue };
    }),
  }));
}
