/** The settings of the role `web`. */
import { isLoopback, isNetwork } from "@celery-metrics-exporter/access";
import { DATABASE_URL, databaseUrl } from "@celery-metrics-exporter/db";
import { BaseConfig, duration, flag, integer, list, secret } from "@celery-metrics-exporter/runtime";
import { z } from "zod";
import { DEFAULT_ROLES, parseGroupRoles } from "./access/group-roles.ts";
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

const header = z
  .string()
  .regex(/^[A-Za-z][\w-]*$/, "must be the name of a header, such as X-Forwarded-User")
  .toLowerCase()
  .refine((name) => !["authorization", "cookie", "host"].includes(name), "must be a header of its own")
  .optional();

/** Over HTTP, others could read and change what is sent. */
function isProtected(value: string): boolean {
  if (!URL.canParse(value)) return false;
  const { protocol, hostname } = new URL(value);
  return protocol === "https:" || (protocol === "http:" && isLoopback(hostname));
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
  WEB_REQUEST_TIMEOUT_SECONDS: duration("wait seconds", 2, { min: 1 }).describe(
    "How long a request may take, in seconds. After that it gets 503. Exports and live views go on; there it limits each statement.",
  ),
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
  WEB_DASHBOARD_URL: z
    .url({ protocol: /^https?$/, error: "must be a URL that starts with http:// or https://", abort: true })
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
      "Addresses or networks of reverse proxies. For requests from them, the limit of wrong logins applies to the client address in `X-Forwarded-For` instead of the proxy's address. `WEB_PROXY_USER_HEADER` is accepted only from them.",
    ),
  WEB_PROXY_USER_HEADER: header.describe(
    "Header with the name of the user whom a reverse proxy has authenticated, such as `X-Forwarded-User` or `Remote-User`. Accepted only over connections from `WEB_TRUSTED_PROXIES`, and for the hosts in `WEB_ALLOWED_HOSTS`. The proxy must remove this header from what clients send.",
  ),
  WEB_PROXY_GROUPS_HEADER: header.describe("Header with that user's groups, separated by commas, such as `X-Forwarded-Groups`."),
  WEB_PROXY_ROLE: z
    .enum(DEFAULT_ROLES)
    .default("viewer")
    .describe("Role of such a user who is in none of the groups of `WEB_GROUP_ROLES`; `none` refuses them."),
  WEB_GROUP_ROLES: parsed(parseGroupRoles).describe(
    "Roles of groups that a proxy or an OpenID Connect issuer names: `group:role`, separated by commas or new lines, such as `ops:admin,support:viewer`. The highest role counts.",
  ),
  WEB_PUBLIC_URL: z
    .string()
    .refine(
      (value) => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol),
      "must be a URL that starts with https:// or http://",
    )
    .refine((value) => !/[?#@]/.test(value), "must be a URL without a user, a query and a fragment")
    .optional()
    .describe(
      "Address at which browsers see the web page, such as `https://tools.example.com/celery/`. Required for OpenID Connect: the issuer sends browsers back to `auth/callback` there.",
    ),
  WEB_OIDC_ISSUER: z
    .string()
    .refine(isProtected, "must be a URL that starts with https:// (http:// only for this machine)")
    .optional()
    .describe("OpenID Connect issuer at which users log in, such as `https://id.example.com/realms/main`."),
  WEB_OIDC_CLIENT_ID: z.string().min(1).optional().describe("Our id at the issuer."),
  WEB_OIDC_CLIENT_SECRET: secret(z.string().min(16, "must have at least 16 characters").optional()).describe(
    "Our secret at the issuer. The key of the sessions is made of it too, so a new secret ends all sessions.",
  ),
  WEB_OIDC_SCOPES: z
    .string()
    .default("openid profile email")
    .describe("Scopes to ask for, separated by blanks. Some issuers name groups only with `groups`."),
  WEB_OIDC_ROLE_CLAIM: z
    .string()
    .min(1)
    .default("groups")
    .describe("Claim with the user's groups (see `WEB_GROUP_ROLES`): its name, or a path such as `realm_access.roles`."),
  WEB_OIDC_ROLE: z
    .enum(DEFAULT_ROLES)
    .default("none")
    .describe(
      "Role of users who are in none of the groups of `WEB_GROUP_ROLES`. With any but `none`, everyone whom the issuer knows may log in: at a public issuer, set `WEB_OIDC_EMAIL_DOMAINS`.",
    ),
  WEB_OIDC_EMAIL_DOMAINS: list().describe(
    "Domains of e-mail addresses, such as `example.com`. If set, users need a verified address in one of them.",
  ),
  FLOWER_API: flag(false).describe("Whether to answer Flower's read routes below `/api` too, for scripts that were written for Flower."),
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
  const problem = proxyProblem(lists) ?? issuerProblem(lists);
  if (problem !== undefined) return problem;
  if (typeof host !== "string" || isLoopback(host) || password !== undefined) return undefined;
  if (lists["WEB_PROXY_USER_HEADER"] !== undefined || lists["WEB_OIDC_ISSUER"] !== undefined) return undefined;
  if (hasSome(lists["WEB_USERS"]) || hasSome(lists["WEB_TOKENS"])) return undefined;
  return `WEB_HOST: ${JSON.stringify(host)} is not a loopback address, so users are required: set WEB_USERNAME and WEB_PASSWORD, or WEB_USERS.`;
}

type Values = Readonly<Record<string, unknown>>;

function proxyProblem(values: Values): string | undefined {
  if (values["WEB_PROXY_USER_HEADER"] === undefined) return undefined;
  // If the list is wrong, that is reported.
  if (Array.isArray(values["WEB_TRUSTED_PROXIES"]) && !hasSome(values["WEB_TRUSTED_PROXIES"]))
    return "WEB_TRUSTED_PROXIES: is required, because WEB_PROXY_USER_HEADER is set: anyone could send the header.";
  return values["WEB_PROXY_GROUPS_HEADER"] === values["WEB_PROXY_USER_HEADER"]
    ? "WEB_PROXY_GROUPS_HEADER: must be another header than WEB_PROXY_USER_HEADER."
    : undefined;
}

const OF_ISSUER = ["WEB_OIDC_ISSUER", "WEB_OIDC_CLIENT_ID", "WEB_OIDC_CLIENT_SECRET"];

function issuerProblem(values: Values): string | undefined {
  const given = OF_ISSUER.find((name) => values[name] !== undefined);
  if (given === undefined) return undefined;
  const missing = [...OF_ISSUER, "WEB_PUBLIC_URL"].find((name) => values[name] === undefined);
  if (missing !== undefined) return `${missing}: is required, because ${given} is set.`;
  return values["WEB_OIDC_ROLE"] === "none" && Array.isArray(values["WEB_GROUP_ROLES"]) && !hasSome(values["WEB_GROUP_ROLES"])
    ? "WEB_GROUP_ROLES: is required, or WEB_OIDC_ROLE: otherwise nobody may do anything after the login."
    : undefined;
}

function hasSome(value: unknown): boolean {
  return (Array.isArray(value) || typeof value === "string") && value.length > 0;
}

export type Config = z.output<typeof Config>;
