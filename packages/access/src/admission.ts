/** Decides which requests may be answered, whoever sends them. */
import type { FastifyRequest } from "fastify";
import { isLoopback } from "./addresses.ts";

/** Whether a request may change something. Decides by method, not by route, so that no route is forgotten. */
export function isChange({ method }: FastifyRequest): boolean {
  return method !== "GET" && method !== "HEAD";
}

/**
 * A browser adds the login that it knows to any page's requests to us, and these headers name the page's site. `Sec-Fetch-Site` is sent only
 * over HTTPS and from loopback, `Origin` with every change. A request without either is refused.
 */
export function isFromOurPages({ headers }: FastifyRequest): boolean {
  const site = headers["sec-fetch-site"];
  if (site !== undefined) return site === "same-origin";
  const { origin, host } = headers;
  return origin !== undefined && URL.canParse(origin) && new URL(origin).host === host;
}

/**
 * A request for a name that resolves to our loopback address but is not ours comes from another site's page that tries to reach this machine
 * (DNS rebinding). Only `Host` counts, because a page may set any other header.
 */
export function isAddressedToUs({ headers: { host = "" } }: FastifyRequest, allowed: readonly string[]): boolean {
  if (!URL.canParse(`http://${host}`)) return false;
  const { hostname } = new URL(`http://${host}`);
  return isLoopback(hostname) || allowed.some((name) => name.toLowerCase() === hostname);
}

/** An error with an HTTP status, for a request that is refused. */
export function refusal(statusCode: number, message: string): Error {
  return Object.assign(new Error(message), { statusCode });
}
