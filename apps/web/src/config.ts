/** The settings of the role `web`. */
import { isLoopback, isNetwork } from "@celery-metrics-exporter/access";
import { DATABASE_URL, databaseUrl } from "@celery-metrics-exporter/db";
import { BaseConfig, integer, list, secret, url } from "@celery-metrics-exporter/runtime";
import { z } from "zod";
import { parseTokens, parseUsers } from "./access/user.ts";

function parsed<T>(parse: (text: string) => T[]): z.ZodType<T[], string | undefined> {
  return z
    .string()
    .default("")
    .transform((text, context) => {
      try {
        return parse(text);
      } catch (thrown) {
        context.addIssue({ code: "custom", message: thrown instanceof Error ? thrown.message : String(thrown) });
        return z.NEVER;
      }
    });
}

function hasNoLogin(address: string): boolean {
  const { username, password } = new URL(address);
  return username === "" && password === "";
}

const Settings = BaseConfig.extend({
  DATABASE_URL,
  DATABASE_READ_URL: databaseUrl
    .optional()
    .describe("Database that `web` reads instead of `DATABASE_URL`: a replica, or the same database as a user that may only read."),
  WEB_HOST: z
    .string()
    .default("127.0.0.1")
    .describe("Address on which the HTTP API listens. An address other than loopback requires users."),
  WEB_PORT: integer(5555, 0, 65_535).describe("Port of the HTTP API; 0 uses a free port and logs it."),
  WEB_USERNAME: z
    .string()
    .regex(/^[^:]*$/, "must not contain a colon, which ends the user name in a login")
    .optional()
    .describe("User name of an admin. Requires `WEB_PASSWORD`."),
  WEB_PASSWORD: secret(z.string().optional()).describe("Password of that admin. Requires `WEB_USERNAME`."),
  WEB_USERS: secret(parsed(parseUsers)).describe(
    "Users, separated by commas or new lines: `name:role:hash`, as `celery-metrics-exporter user` prints them. The role is `viewer` (sees no arguments, results, exceptions and tracebacks), `reader`, `operator` or `admin`.",
  ),
  WEB_TOKENS: secret(parsed(parseTokens)).describe(
    "API tokens for `Authorization: Bearer …`, separated by commas or new lines: `name:role:expiry:hash`, as `celery-metrics-exporter user --token` prints them.",
  ),
  WEB_DASHBOARD_URL: url(["http", "https"])
    .refine(hasNoLogin, "must not contain a user name or a password, which everyone who sees the page would read")
    .optional()
    .describe(
      "Address of the dashboard of the exporter queues, for a link on the page. The single process knows its own dashboard without it.",
    ),
  WEB_ALLOWED_HOSTS: list().describe(
    "If no users are set: host names, in addition to `localhost`, for which the API answers, such as the name of a proxy that handles the login.",
  ),
  WEB_TRUSTED_PROXIES: list()
    .refine((networks) => networks.every(isNetwork), "must be addresses or networks, such as 10.0.0.5 or 10.0.0.0/8")
    .describe(
      "Addresses or networks of reverse proxies. For requests from them, the limit of wrong logins applies to the client address in `X-Forwarded-For` instead of the proxy's address.",
    ),
});

export const Config = Settings.refine((settings) => accessProblem(settings) === undefined, {
  error: ({ input }) => accessProblem(input),
  // Runs even if another setting is wrong, so that every problem is reported at once.
  when: () => true,
});

function accessProblem(settings: unknown): string | undefined {
  // If a setting is wrong, the others may not have been parsed.
  const { WEB_HOST: host, WEB_USERNAME: username, WEB_PASSWORD: password, ...lists } = settings as Readonly<Record<string, unknown>>;
  if (username === undefined && password !== undefined) return "WEB_USERNAME: is required, because WEB_PASSWORD is set.";
  if (username !== undefined && password === undefined) return "WEB_PASSWORD: is required, because WEB_USERNAME is set.";
  if (typeof host !== "string" || isLoopback(host) || password !== undefined) return undefined;
  if (hasSome(lists["WEB_USERS"]) || hasSome(lists["WEB_TOKENS"])) return undefined;
  return `WEB_HOST: ${JSON.stringify(host)} is not a loopback address, so users are required: set WEB_USERNAME and WEB_PASSWORD, or WEB_USERS.`;
}

function hasSome(value: unknown): boolean {
  return (Array.isArray(value) || typeof value === "string") && value.length > 0;
}

export type Config = z.output<typeof Config>;
