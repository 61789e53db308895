/** HTTP servers as we open them: how much of this process one client may take, and what is said when an address cannot be had. */
import Fastify, { type FastifyInstance } from "fastify";
import type { AddressInfo } from "node:net";
import { limitConnections, type ConnectionLimits } from "./connection-limit.ts";
import { UnavailableError, toError } from "./errors.ts";

/** No reverse proxies by default: whoever asks could then name any address as its own (`X-Forwarded-For`). */
export interface WebServerOptions {
  /** Addresses and networks of reverse proxies that tell the client's address. */
  readonly trustedProxies?: readonly string[];
  /** For tests, which have less patience. */
  readonly limits?: HttpLimits;
}

export interface HttpLimits extends ConnectionLimits {
  /** From the first byte of a request to the end of its headers. */
  readonly headersTimeoutMs: number;
  /** From the first byte of a request to its last. */
  readonly requestTimeoutMs: number;
  /** A connection on which nothing moves; longer than any answer takes. */
  readonly idleTimeoutMs: number;
  /** How often the first two are looked at. */
  readonly checkIntervalMs: number;
  readonly maxHeaderBytes: number;
  readonly maxBodyBytes: number;
}

/** People and probes ask little, one at a time; Node's own limits are 60 s, 300 s and no end of connections. */
const LIMITS: HttpLimits = {
  headersTimeoutMs: 5_000,
  requestTimeoutMs: 15_000,
  idleTimeoutMs: 60_000,
  checkIntervalMs: 1_000,
  maxHeaderBytes: 16 * 1_024,
  maxBodyBytes: 64 * 1_024,
  maxConnections: 500,
  maxConnectionsPerAddress: 100,
};

/** A server without routes that takes JSON only: a form or plain text of another site's page needs no permission to be sent. */
export function createWebServer({ trustedProxies = [], limits = LIMITS }: WebServerOptions = {}): FastifyInstance {
  const server = Fastify({
    forceCloseConnections: true,
    trustProxy: trustedProxies.length > 0 ? [...trustedProxies] : false,
    requestTimeout: limits.requestTimeoutMs,
    connectionTimeout: limits.idleTimeoutMs,
    keepAliveTimeout: limits.idleTimeoutMs,
    bodyLimit: limits.maxBodyBytes,
    http: {
      headersTimeout: limits.headersTimeoutMs,
      connectionsCheckingInterval: limits.checkIntervalMs,
      maxHeaderSize: limits.maxHeaderBytes,
    },
  });
  limitConnections(server.server, limits);
  server.removeContentTypeParser("text/plain");
  return server;
}

export interface ListenOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** What to change where the address cannot be had. */
  readonly settings: string;
  /** Whether to take a free port where this one is taken. */
  readonly orFree?: boolean;
}

/**
 * Listens and returns the URL, without a slash at its end.
 *
 * @throws {UnavailableError} when the address is taken or not ours.
 */
export async function listen(server: FastifyInstance, { host, port, settings, orFree = false }: ListenOptions): Promise<string> {
  const shownHost = host.includes(":") ? `[${host}]` : host;
  try {
    await server.listen({ host, port });
  } catch (thrown) {
    const cause = toError(thrown);
    const isTaken = (cause as NodeJS.ErrnoException).code === "EADDRINUSE";
    if (isTaken && orFree) return listen(server, { host, port: 0, settings });
    const reason = isTaken ? "another program listens there" : cause.message;
    throw new UnavailableError(`Cannot listen on ${shownHost}:${port}: ${reason}. Choose another ${settings}.`, { cause });
  }
  return `http://${shownHost}:${(server.server.address() as AddressInfo).port}`;
}
