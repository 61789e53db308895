/** The dashboard's web server and its access checks. */
import { createWebServer, type Logger } from "@celery-metrics-exporter/runtime";
import type { FastifyInstance } from "fastify";
import { addAdmission } from "./admission.ts";
import type { Config } from "./config.ts";
import { addErrorPages, hideErrors } from "./errors.ts";
import { addLogin } from "./login.ts";
import { addSecurityHeaders } from "./security-headers.ts";

/** Builds the server without listening. Every request passes the same checks, for pages and data alike. */
export async function createServer(config: Config, logger: Logger): Promise<FastifyInstance> {
  const server = createWebServer({ trustedProxies: config.DASHBOARD_TRUSTED_PROXIES });
  hideErrors(server, logger);
  addErrorPages(server);
  await addSecurityHeaders(server);
  addAdmission(server, config);
  const { DASHBOARD_USERNAME: username, DASHBOARD_PASSWORD: password } = config;
  if (username !== undefined && password !== undefined) await addLogin(server, { username, password }, logger);
  return server;
}
