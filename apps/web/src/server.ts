/** The web server of the API: access, errors, and the routes with their schemas. */
import {
  addErrorPages,
  addLogin,
  addSecurityHeaders,
  isAddressedToUs,
  isChange,
  isFromOurPages,
  refusal,
} from "@celery-metrics-exporter/access";
import type { Reader } from "@celery-metrics-exporter/db";
import { createWebServer, type Logger, type Outage } from "@celery-metrics-exporter/runtime";
import cookie from "@fastify/cookie";
import swagger from "@fastify/swagger";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { readFileSync } from "node:fs";
import { validatorCompiler } from "fastify-type-provider-zod";
import type { z } from "zod";
import { addAuthRoutes, loginPageOf, type SingleSignOn } from "./access/auth-routes.ts";
import { proxyUser } from "./access/proxy-user.ts";
import { Directory, includesRole, type User } from "./access/user.ts";
import type { Config } from "./config.ts";
import { addFlower } from "./flower/routes.ts";
import { limitRequests, withDeadlines } from "./load/deadline.ts";
import { outageOf, withOutage } from "./load/outage.ts";
import { Places, Shared } from "./load/shared.ts";
import { stringify } from "./queries/exact-json.ts";
import { SECURITY_HEADERS, addPage, withoutPrefix } from "./page.ts";
import { KEEP_PAST_MS, PREFIX, type Api, type ApiContext } from "./routes/api.ts";
import { addAbout } from "./routes/about.ts";
import { addExports } from "./routes/export.ts";
import { DESCRIPTION } from "./openapi.ts";
import { addLive } from "./routes/live.ts";
import { addCounts } from "./routes/counts.ts";
import { addOverview } from "./routes/overview.ts";
import { addProblems } from "./routes/problem.ts";
import { addStatistics } from "./routes/statistics.ts";
import { addTask } from "./routes/task.ts";
import { addTasks } from "./routes/tasks.ts";

export interface ServerOptions {
  readonly config: Config;
  readonly reader: Reader;
  readonly logger: Logger;
  /** How long a request may take; undefined for any time. */
  readonly requestLimitMs?: number | undefined;
  /** Where failures of the database are reported. Default: to the log. */
  readonly outage?: Outage;
  /** Where users may log in, besides their passwords. */
  readonly singleSignOn?: SingleSignOn;
  /** The address of the dashboard that this process runs, once it answers. */
  readonly dashboardUrl?: (() => string | undefined) | undefined;
}

/** An id may have 1,000 characters, each of which may be written as twelve. */
const MAX_ID_LENGTH = 12_000;
const MAX_SEARCHES = 4;
const MAX_EXPORTS = 2;
const RECENT_MS = 1_000;
const LASTING_MS = 10_000;

/** The manifest is beside `src`, beside `dist`, and beside the bundle of an app that contains this role; all have the same version. */
const VERSION = (JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { readonly version: string }).version;

/** Who asks if no users are set: then only this machine is answered. */
const ANYONE: User = { name: "anyone", role: "admin" };

/** Builds the server without listening. Every request passes the same checks. */
export async function createServer({
  config,
  reader,
  logger,
  requestLimitMs,
  outage = outageOf(logger),
  singleSignOn,
  dashboardUrl,
}: ServerOptions): Promise<FastifyInstance> {
  const server = createWebServer({
    trustedProxies: config.WEB_TRUSTED_PROXIES,
    maxParamLength: MAX_ID_LENGTH,
    rewriteUrl: (url) => withoutPrefix(url, config.FLOWER_API),
  });
  server.setValidatorCompiler(validatorCompiler);
  // Only fields of the schema leave, and a wrong answer is an error here instead of at the client.
  server.setSerializerCompiler(({ schema }) => {
    const type = schema as unknown as z.ZodType;
    return (data) => stringify(type.parse(data));
  });
  addErrorPages(server, {
    site: "Celery tasks",
    loginHint: "Reload the page and enter your user name and password (WEB_USERNAME and WEB_PASSWORD, or WEB_USERS).",
    messageOf: (body) => (body as { readonly detail?: unknown }).detail,
  });
  addProblems(server, logger);
  if (requestLimitMs !== undefined) limitRequests(server, requestLimitMs);
  await addSecurityHeaders(server, SECURITY_HEADERS);
  await addAccess(server, { config, logger, singleSignOn });
  await server.register(swagger, DESCRIPTION);
  const context: ApiContext = {
    reader: withDeadlines(withOutage(reader, outage)),
    logger,
    searches: new Places(MAX_SEARCHES, "searches"),
    exports: new Places(MAX_EXPORTS, "exports"),
    recent: new Shared(RECENT_MS),
    lasting: new Shared(LASTING_MS),
    past: new Shared(KEEP_PAST_MS),
  };
  await server.register(async (scope) => {
    const api = scope as unknown as Api;
    addTasks(api, context);
    addExports(api, context);
    addTask(api, context);
    addOverview(api, context);
    addLive(api, context);
    addStatistics(api, context);
    addCounts(api, context);
    addAbout(api, context, { config, version: VERSION, dashboardUrl });
    scope.get(`${PREFIX}/openapi.json`, { config: { role: "viewer" }, schema: { hide: true } }, (_request, reply) =>
      reply.type("application/json; charset=utf-8").serializer(JSON.stringify).send(server.swagger()),
    );
  });
  if (config.FLOWER_API) await server.register(async (scope) => addFlower(scope, context));
  if (singleSignOn !== undefined) addAuthRoutes(server, singleSignOn);
  await addPage(server, logger);
  return server;
}

interface AccessOptions {
  readonly config: Config;
  readonly logger: Logger;
  readonly singleSignOn: SingleSignOn | undefined;
}

/** Decides who asks and what they may do, before any route runs. */
async function addAccess(server: FastifyInstance, { config, logger, singleSignOn }: AccessOptions): Promise<void> {
  const { WEB_USERNAME: username, WEB_PASSWORD: password, WEB_USERS: users, WEB_TOKENS: tokens } = config;
  const simple = username === undefined || password === undefined ? undefined : { username, password };
  const directory = new Directory({ users, tokens, ...(simple !== undefined && { simple }) });
  const ofProxy = proxyUserOf(config);
  const isOpen = directory.isEmpty && ofProxy === undefined && singleSignOn === undefined;
  server.decorateRequest("user", null as unknown as User);
  server.addHook("onRequest", async (request) => {
    const hasToken = request.headers.authorization?.startsWith("Bearer ") === true;
    if (isChange(request) && !hasToken && !isFromOurPages(request))
      throw refusal(403, "Only our own pages, and clients with a token, may make changes.");
    if (isOpen && !isAddressedToUs(request, config.WEB_ALLOWED_HOSTS)) {
      throw refusal(403, "Requests for this host are not answered without users (see WEB_ALLOWED_HOSTS).");
    }
  });
  if (singleSignOn !== undefined) await server.register(cookie);
  if (isOpen) server.addHook("onRequest", async (request) => setUser(request, ANYONE));
  else {
    await addLogin(server, {
      identify: (credentials) => directory.byPassword(credentials),
      identifyToken: (token) => directory.byToken(token),
      // A password or a token that is sent counts more than a session that the browser adds.
      recognize: async (request) =>
        ofProxy?.(request) ?? (request.headers.authorization === undefined ? singleSignOn?.sessions.user(request) : undefined),
      isPublic: ({ routeOptions }) => routeOptions.config.isPublic === true,
      ...(singleSignOn !== undefined && { loginPage: (request) => loginPageOf(request, singleSignOn.base) }),
      onUser: setUser,
      site: "the API",
      logger,
    });
  }
  server.addHook("onRequest", async ({ user, routeOptions }) => {
    const { role: needed, isPublic } = routeOptions.config;
    if (needed !== undefined && isPublic !== true && !includesRole(user.role, needed))
      throw refusal(403, `This requires the role ${needed}.`);
  });
  server.addHook("onRoute", ({ url, config: ofRoute }) => {
    const { role, isPublic } = (ofRoute ?? {}) as { readonly role?: unknown; readonly isPublic?: unknown };
    if (role === undefined && isPublic !== true) throw new Error(`the route ${url} does not say which role may use it`);
  });
}

function proxyUserOf(config: Config): ReturnType<typeof proxyUser> | undefined {
  const { WEB_PROXY_USER_HEADER: userHeader, WEB_PUBLIC_URL: publicUrl } = config;
  if (userHeader === undefined) return undefined;
  return proxyUser({
    proxies: config.WEB_TRUSTED_PROXIES,
    userHeader,
    groupsHeader: config.WEB_PROXY_GROUPS_HEADER,
    groupRoles: new Map(config.WEB_GROUP_ROLES),
    role: config.WEB_PROXY_ROLE,
    allowedHosts: [...config.WEB_ALLOWED_HOSTS, ...(publicUrl === undefined ? [] : [new URL(publicUrl).hostname])],
  });
}

function setUser(request: FastifyRequest, user: User): void {
  request.user = user;
}
