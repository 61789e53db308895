/** The dashboard's web server and its access checks. */
import { addErrorPages, addLogin, addSecurityHeaders, isEqual, type Credentials } from "@celery-metrics-exporter/access";
import { createWebServer, type Logger } from "@celery-metrics-exporter/runtime";
import type { FastifyInstance } from "fastify";
import { addAdmission } from "./admission.ts";
import type { Config } from "./config.ts";
import { ERROR_PAGES, hideErrors } from "./errors.ts";
import { SECURITY_HEADERS } from "./security-headers.ts";

/** Builds the server without listening. Every request passes the same checks, for pages and data alike. */
export async function createServer(config: Config, logger: Logger): Promise<FastifyInstance> {
  const server = createWebServer({ trustedProxies: config.DASHBOARD_TRUSTED_PROXIES });
  hideErrors(server, logger);
  addErrorPages(server, ERROR_PAGES);
  await addSecurityHeaders(server, SECURITY_HEADERS);
  addAdmission(server, config);
  const { DASHBOARD_USERNAME: username, DASHBOARD_PASSWORD: password } = config;
  if (username !== undefined && password !== undefined) {
    const identify = async (given: Credentials): Promise<string | undefined> => {
      // Compares both, whatever the first result is.
      const isUser = isEqual(given.username, username);
      const isPassword = isEqual(given.password, password);
      return isUser && isPassword ? username : undefined;
    };
    await addLogin(server, { identify, site: "the dashboard", logger });
  }
  return server;
}
