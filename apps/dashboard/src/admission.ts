/** Refuses requests, regardless of their sender. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Config } from "./config.ts";
import { isLoopback } from "./addresses.ts";

/** If the user edits a job, bull-board would store the shown data, which is decoded and partly hidden, as the job's data. */
const WRITES_JOB_DATA = /\/(add|update-data)$/;

export function addAdmission(server: FastifyInstance, config: Config): void {
  server.addHook("onRequest", async (request) => refuse(request, config));
}

/** Throws if a request must not be answered. Decides by method, not by route, so that routes added by a bull-board upgrade are covered too. */
function refuse(request: FastifyRequest, config: Config): void {
  const isChange = request.method !== "GET" && request.method !== "HEAD";
  if (isChange && config.DASHBOARD_READ_ONLY) throw refusal(405, "The dashboard is read-only (DASHBOARD_READ_ONLY).");
  if (isChange && WRITES_JOB_DATA.test(request.routeOptions.url ?? ""))
    throw refusal(405, "The data of jobs cannot be edited: only a part of it is shown.");
  if (isChange && !isFromOurPages(request)) throw refusal(403, "Only the dashboard's own pages may make changes.");
  if (config.DASHBOARD_PASSWORD === undefined && !isAddressedToUs(request, config.DASHBOARD_ALLOWED_HOSTS)) {
    throw refusal(403, "Requests for this host are not answered without credentials (see DASHBOARD_ALLOWED_HOSTS).");
  }
}

/**
 * A browser adds the login that it knows to any page's requests to us, and these headers name the page's site. `Sec-Fetch-Site` is sent only
 * over HTTPS and from loopback, `Origin` with every change. A request without either is refused.
 */
function isFromOurPages({ headers }: FastifyRequest): boolean {
  const site = headers["sec-fetch-site"];
  if (site !== undefined) return site === "same-origin";
  const { origin, host } = headers;
  return origin !== undefined && URL.canParse(origin) && new URL(origin).host === host;
}

/**
 * A request for a name that resolves to our loopback address but is not ours comes from another site's page that tries to reach this machine
 * (DNS rebinding). Only `Host` counts, because a page may set any other header.
 */
function isAddressedToUs({ headers: { host = "" } }: FastifyRequest, allowed: readonly string[]): boolean {
  if (!URL.canParse(`http://${host}`)) return false;
  const { hostname } = new URL(`http://${host}`);
  return isLoopback(hostname) || allowed.some((name) => name.toLowerCase() === hostname);
}

function refusal(statusCode: number, message: string): Error {
  return Object.assign(new Error(message), { statusCode });
}
