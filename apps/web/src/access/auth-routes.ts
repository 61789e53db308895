/** The addresses at which browsers log in and out. */
import { limitFailures, refusal } from "@celery-metrics-exporter/access";
import type { ComponentHealth, Logger } from "@celery-metrics-exporter/runtime";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Config } from "../config.ts";
import { PAGES } from "../page.ts";
import { Issuer } from "./issuer.ts";
import { Sessions } from "./session.ts";

export interface SingleSignOn {
  readonly issuer: Issuer;
  readonly sessions: Sessions;
  /** Where the browser sees us, with a slash at the end. */
  readonly base: URL;
}

export interface SingleSignOnOptions {
  readonly config: Config;
  readonly logger: Logger;
  /** Makes the component, if there is an issuer. */
  readonly component: () => ComponentHealth;
}

/** Begins to ask for the issuer; undefined without one. */
export function singleSignOn({ config, logger, component }: SingleSignOnOptions): SingleSignOn | undefined {
  const { WEB_OIDC_ISSUER: url, WEB_OIDC_CLIENT_ID: clientId, WEB_OIDC_CLIENT_SECRET: clientSecret, WEB_PUBLIC_URL: publicUrl } = config;
  if (url === undefined || clientId === undefined || clientSecret === undefined || publicUrl === undefined) return undefined;
  const base = new URL(publicUrl.endsWith("/") ? publicUrl : `${publicUrl}/`);
  const issuer = new Issuer({
    url,
    clientId,
    clientSecret,
    scopes: config.WEB_OIDC_SCOPES,
    roleClaim: config.WEB_OIDC_ROLE_CLAIM,
    groupRoles: new Map(config.WEB_GROUP_ROLES),
    role: config.WEB_OIDC_ROLE,
    emailDomains: config.WEB_OIDC_EMAIL_DOMAINS.map((domain) => domain.toLowerCase()),
    callback: new URL("auth/callback", base),
    logger,
    component: component(),
  });
  return { issuer, base, sessions: new Sessions({ secret: clientSecret, context: `${url} ${clientId}`, base }) };
}

const PUBLIC = { config: { isPublic: true }, schema: { hide: true } } as const;
const MAX_FAILED_A_MINUTE = 20;
/** Cookies have at most 4 KiB. */
const MAX_RETURN = 1_500;
const OUR_PAGE = new RegExp(`^/?(?:${PAGES.join("|")})?(?:[?]|$)`);

/** Call it after `addLogin`, which counts wrong logins. */
export function addAuthRoutes(server: FastifyInstance, { issuer, sessions, base }: SingleSignOn): void {
  const limit = limitFailures(server, MAX_FAILED_A_MINUTE);

  server.get<{ Querystring: { readonly to?: unknown } }>("/auth/login", PUBLIC, async ({ query }, reply) => {
    const { address, login } = await issuer.begin(ourAddress(query.to, base).href);
    await sessions.beginLogin(reply, login);
    return reply.redirect(address);
  });

  server.get("/auth/callback", PUBLIC, async (request, reply) => {
    await limit.check(request, reply);
    const login = await sessions.login(request);
    sessions.end(reply, "login");
    if (login === undefined)
      throw refusal(400, "This login was not begun in this browser, or took longer than ten minutes. Open the page again.");
    try {
      await sessions.begin(reply, await issuer.finish(queryOf(request), login));
    } catch (thrown) {
      await limit.failed(request);
      throw thrown;
    }
    return reply.redirect(ourAddress(login.to, base).href);
  });

  // For users with a password, in a browser: without it, they would be sent to the issuer.
  server.get("/auth/password", { config: { role: "viewer" }, schema: { hide: true } }, async ({ headers, user }, reply) => {
    if (/^basic /i.test(headers.authorization ?? "")) await sessions.begin(reply, user);
    return reply.redirect(base.href);
  });

  server.post("/auth/logout", PUBLIC, async (_request, reply) => {
    sessions.end(reply, "session");
    return reply.code(204).send();
  });

  server.get("/auth/logged-out", PUBLIC, async (_request, reply) => reply.type("text/html; charset=utf-8").send(LOGGED_OUT));
}

/** Where a browser without a session logs in; undefined if it does not ask for a page. */
export function loginPageOf({ method, url, headers }: FastifyRequest, base: URL): string | undefined {
  if (method !== "GET" || headers.accept?.includes("text/html") !== true || !OUR_PAGE.test(url)) return undefined;
  const page = new URL("auth/login", base);
  page.searchParams.set("to", url.slice(1));
  return page.href;
}

/** An address of one of our pages; for anything else, the first page. */
export function ourAddress(to: unknown, base: URL): URL {
  if (typeof to !== "string" || to.length > MAX_RETURN || !URL.canParse(to, base.href)) return base;
  const address = new URL(to, base);
  const isOurs = address.origin === base.origin && address.pathname.startsWith(base.pathname);
  const page = address.pathname.slice(base.pathname.length) + address.search;
  if (!isOurs || !OUR_PAGE.test(page) || address.username !== "" || address.password !== "") return base;
  // A browser decodes nothing here, so the page is one of those that were compared.
  return new URL(`${base.origin}${base.pathname}${page}`);
}

function queryOf({ url }: FastifyRequest): string {
  const begin = url.indexOf("?");
  return begin === -1 ? "" : url.slice(begin);
}

const LOGGED_OUT = `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Logged out - Celery tasks</title></head>
<body><h1>Logged out</h1><p><a href="../">Log in again</a></p></body>
</html>
`;
