/** Which requests are not answered, whoever makes them. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Config } from "./config.ts";
import { isLoopback } from "./addresses.ts";

/** bull-board would store what it shows, decoded and with parts hidden, as the job's data. */
const WRITES_JOB_DATA = /\/(add|update-data)$/;

export function addAdmission(server: FastifyInstance, config: Config): void {
  server.addHook("onRequest", async (request) => refuse(request, config));
}

/** Throws what is not to be answered. Methods decide, not routes: one that an upgrade of bull-board adds is refused as well. */
function refuse(request: FastifyRequest, config: Config): void {
  const isChange = request.method !== "GET" && request.method !== "HEAD";
  if (isChange && config.DASHBOARD_READ_ONLY) throw refusal(405, "The dashboard is read-only (DASHBOARD_READ_ONLY).");
  if (isChange && WRITES_JOB_DATA.test(request.routeOptions.url ?? ""))
    throw refusal(405, "What jobs hold is not for editing: only part of it is shown.");
  if (isChange && !isFromOurPages(request)) throw refusal(403, "Changes may be made from the dashboard's own pages only.");
  if (config.DASHBOARD_PASSWORD === undefined && !isAddressedToUs(request, config.DASHBOARD_ALLOWED_HOSTS)) {
    throw refusal(403, "Requests for this host are not answered without credentials (DASHBOARD_ALLOWED_HOSTS).");
  }
}

/**
 * A browser sends along the login it knows with whatever any page asks of us, and says in these headers whose page that is. `Sec-Fetch-Site`
 * comes by HTTPS and from loopback only, `Origin` with every change. Whoever sends neither has to.
 */
function isFromOurPages({ headers }: FastifyRequest): boolean {
  const site = headers["sec-fetch-site"];
  if (site !== undefined) return site === "same-origin";
  const { origin, host } = headers;
  return origin !== undefined && URL.canParse(origin) && new URL(origin).host === host;
}

/**
 * A name that resolves to our loopback address, but is not ours, is another site's page reaching for this machine (DNS rebinding). Only
 * `Host` counts: a page may set any other header.
 */
function isAddressedToUs({ headers: { host = "" } }: FastifyRequest, allowed: readonly string[]): boolean {
  if (!URL.canParse(`http://${host}`)) return false;
  const { hostname } = new URL(`http://${host}`);
  return isLoopback(hostname) || allowed.some((name) => name.toLowerCase() === hostname);
}

function refusal(statusCode: number, message: string): Error {
  return Object.assign(new Error(message), { statusCode });
}
