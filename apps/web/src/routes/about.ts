/** What this server is, and how it is set. */
import { isLoopback } from "@celery-metrics-exporter/access";
import { describeConfig, redactConfig } from "@celery-metrics-exporter/runtime";
import { sql } from "drizzle-orm";
import { z } from "zod";
import { USER_ROLES, includesRole, type UserRole } from "../access/user.ts";
import { Config } from "../config.ts";
import { PREFIX, type Api, type ApiContext } from "./api.ts";
import { PROBLEMS } from "./problem.ts";

const Setting = z
  .object({
    name: z.string(),
    value: z.string().nullable().describe("As its variable has it; null if it is not set. Secrets are masked."),
    default: z.string().nullable(),
    description: z.string(),
  })
  .meta({ id: "Setting" });

export const About = z
  .object({
    version: z.string().describe("Of celery-metrics-exporter."),
    node: z.string().describe("The version of Node.js."),
    postgres: z.string().nullable().describe("The version of PostgreSQL; null if it does not answer."),
    dashboard_url: z.string().nullable().describe("The dashboard of the exporter queues, if `WEB_DASHBOARD_URL` tells where it is."),
    roles: z
      .array(z.object({ role: z.enum(USER_ROLES), may: z.string() }))
      .describe("From least to most; each may do what those before it may."),
    settings: z.array(Setting).nullable().describe("The settings of the role `web`. Null for everyone but an `admin`."),
  })
  .meta({ id: "About" });

const MAY: Readonly<Record<UserRole, string>> = {
  viewer: "sees tasks, without arguments, results, exceptions and tracebacks",
  reader: "sees everything of tasks",
  operator: "may act on tasks and workers, once there are such actions; today, as a reader",
  admin: "sees the settings too",
};

export interface AboutOptions {
  readonly config: Config;
  readonly version: string;
  /** The address of the dashboard that this process runs, once it answers. */
  readonly dashboardUrl: (() => string | undefined) | undefined;
}

export function addAbout(api: Api, { reader, lasting }: ApiContext, { config, version, dashboardUrl }: AboutOptions): void {
  const postgres = (): Promise<string | null> =>
    lasting.get(["postgres version"], async () => {
      const [row] = await reader.read<{ version: string }>(sql`select current_setting('server_version') as version`);
      return row?.version ?? null;
    });
  api.get(
    `${PREFIX}/about`,
    {
      config: { role: "viewer" },
      schema: { operationId: "getAbout", summary: "Says what this server is and how it is set", response: { 200: About, ...PROBLEMS } },
    },
    async ({ user, hostname }) => ({
      version,
      node: process.versions.node,
      // The rest is worth knowing when the database is down, too.
      postgres: await postgres().catch(() => null),
      dashboard_url: config.WEB_DASHBOARD_URL ?? (isLoopback(hostname) ? dashboardUrl?.() : undefined) ?? null,
      roles: USER_ROLES.map((role) => ({ role, may: MAY[role] })),
      settings: includesRole(user.role, "admin") ? settingsOf(config) : null,
    }),
  );
}

/** Masked as `--print-config` masks them. */
function settingsOf(config: Config): z.output<typeof Setting>[] {
  const given: Readonly<Record<string, unknown>> = config;
  const values = redactConfig(Config, config);
  return describeConfig(Config).map(({ name, description, defaultValue }) => ({
    name,
    // An empty list is no secret.
    value: Array.isArray(given[name]) && given[name].length === 0 ? null : toText(values[name]),
    default: defaultValue ?? null,
    description,
  }));
}

function toText(value: unknown): string | null {
  if (value === undefined) return null;
  if (Array.isArray(value)) return value.join(",");
  return typeof value === "string" ? value : JSON.stringify(value);
}
