/** The dashboard's web server: who may ask for what. */
import basicAuth from "@fastify/basic-auth";
import helmet from "@fastify/helmet";
import rateLimit from "@fastify/rate-limit";
import Fastify, { type FastifyInstance, type FastifyRequest } from "fastify";
import type { Config } from "./config.ts";
import { createLogin } from "./login.ts";
import { isLoopback } from "./loopback.ts";

/** Builds the server without listening. Every request, for pages and data alike, passes the same checks. */
export async function createServer(config: Config): Promise<FastifyInstance> {
  const server = Fastify({ forceCloseConnections: true });
  await server.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'self'"],
        // bull-board sets sizes and colours in style attributes.
        styleSrc: ["'self'", "'unsafe-inline'"],
        imgSrc: ["'self'", "data:"],
        objectSrc: ["'none'"],
        baseUri: ["'self'"],
        formAction: ["'self'"],
        frameAncestors: ["'none'"],
      },
    },
    // Whether this is served by HTTPS is decided by what stands in front.
    strictTransportSecurity: false,
  });
  server.addHook("onRequest", async (request) => refuse(request, config));
  const { DASHBOARD_USERNAME: username, DASHBOARD_PASSWORD: password } = config;
  if (username !== undefined && password !== undefined) {
    await server.register(rateLimit, { global: false });
    const login = createLogin({ username, password }, server.createRateLimit({ max: 10, timeWindow: "1 minute" }));
    await server.register(basicAuth, { validate: login, authenticate: { realm: "celery-metrics-exporter" } });
    server.addHook("onRequest", server.basicAuth);
  }
  return server;
}

/** bull-board would store what it shows, decoded and with parts hidden, as the job's data. */
const WRITES_JOB_DATA = /\/(add|update-data)$/;

/** Throws what is not to be answered. */
function refuse(request: FastifyRequest, config: Config): void {
  const isChange = request.method !== "GET" && request.method !== "HEAD";
  if (isChange && config.DASHBOARD_READ_ONLY) throw refusal(405, "The dashboard is read-only (DASHBOARD_READ_ONLY).");
  if (isChange && WRITES_JOB_DATA.test(request.routeOptions.url ?? ""))
    throw refusal(405, "What jobs hold is not for editing: only part of it is shown.");
  if (isChange && isFromAnotherSite(request)) throw refusal(403, "Changes may be made from the dashboard's own pages only.");
  if (config.DASHBOARD_PASSWORD === undefined && !isAddressedToUs(request, config.DASHBOARD_ALLOWED_HOSTS)) {
    throw refusal(403, `Requests for the host ${request.hostname} are not answered without credentials (DASHBOARD_ALLOWED_HOSTS).`);
  }
}

/** A browser sends along the login it knows with whatever any page asks of us. */
function isFromAnotherSite({ headers }: FastifyRequest): boolean {
  const site = headers["sec-fetch-site"];
  if (site !== undefined) return site !== "same-origin" && site !== "none";
  const { origin, host } = headers;
  return origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== host);
}

/** A name that resolves to our loopback address, but is not ours, is another site's page reaching for this machine (DNS rebinding). */
function isAddressedToUs(request: FastifyRequest, allowed: readonly string[]): boolean {
  return isLoopback(request.hostname) || allowed.includes(request.hostname);
}

function refusal(statusCode: number, message: string): Error {
  return Object.assign(new Error(message), { statusCode });
}
