/** HTTP servers with limits per client, and clear errors for unavailable addresses. */
import Fastify, { type FastifyInstance } from "fastify";
import { type AddressInfo, type Socket, isIPv6 } from "node:net";
import { UnavailableError, toError } from "../errors.ts";
import { refuseUnreadable } from "./unreadable.ts";
import type { IncomingMessage, Server, ServerResponse } from "node:http";

/** Trusts no reverse proxy by default: otherwise a client could claim any address (`X-Forwarded-For`). */
export interface WebServerOptions {
  /** Addresses and networks of reverse proxies whose `X-Forwarded-For` is trusted. */
  readonly trustedProxies?: readonly string[];
  /** Certificate and key in PEM. With them, the server answers HTTPS only. */
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer };
  /** The longest part of an address that a route takes as a parameter, as it is written in the address. */
  readonly maxParamLength?: number;
  /** Changes the address of a request before it is routed. */
  readonly rewriteUrl?: (url: string) => string;
  /** Shorter limits for tests. */
  readonly limits?: HttpLimits;
}

export interface HttpLimits extends ConnectionLimits {
  /** From the first byte of a request to the end of its headers. */
  readonly headersTimeoutMs: number;
  /** From the first byte of a request to its last. */
  readonly requestTimeoutMs: number;
  /** Limit for a connection without traffic. Longer than any answer takes. */
  readonly idleTimeoutMs: number;
  /** How often the first two limits are checked. */
  readonly checkIntervalMs: number;
  readonly maxHeaderBytes: number;
  readonly maxBodyBytes: number;
}

/** Strict limits: people and probes send few requests, one at a time. Node's defaults are 60 s, 300 s and unlimited connections. */
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

/** Creates a server without routes. It accepts only JSON: browsers let another site's page send forms and plain text without permission. */
export function createWebServer({
  trustedProxies = [],
  tls,
  maxParamLength = 100,
  rewriteUrl,
  limits = LIMITS,
}: WebServerOptions = {}): FastifyInstance {
  const timeouts = {
    headersTimeout: limits.headersTimeoutMs,
    connectionsCheckingInterval: limits.checkIntervalMs,
    maxHeaderSize: limits.maxHeaderBytes,
  };
  const server = Fastify({
    forceCloseConnections: true,
    trustProxy: trustedProxies.length > 0 ? [...trustedProxies] : false,
    requestTimeout: limits.requestTimeoutMs,
    connectionTimeout: limits.idleTimeoutMs,
    keepAliveTimeout: limits.idleTimeoutMs,
    bodyLimit: limits.maxBodyBytes,
    routerOptions: { maxParamLength },
    clientErrorHandler: refuseUnreadable,
    ...(rewriteUrl !== undefined && { rewriteUrl: ({ url }: IncomingMessage) => rewriteUrl(url ?? "/") }),
    ...(tls === undefined ? { http: timeouts } : { https: { ...timeouts, ...tls } }),
  }) as FastifyInstance;
  limitConnections(server.server, limits);
  server.removeContentTypeParser("text/plain");
  return server;
}

export interface ListenOptions {
  readonly host: string;
  /** 0 picks a free port. */
  readonly port: number;
  /** Settings to name in the error if the address is unavailable. */
  readonly settings: string;
  /** Whether to use a free port if this one is taken. */
  readonly orFree?: boolean;
}

/**
 * Listens and returns the URL without a trailing slash.
 *
 * @throws {UnavailableError} if the address is in use or does not belong to this machine.
 */
export async function listen(server: FastifyInstance, { host, port, settings, orFree = false }: ListenOptions): Promise<string> {
  const shownHost = host.includes(":") ? `[${host}]` : host;
  try {
    await server.listen({ host, port });
  } catch (thrown) {
    const cause = toError(thrown);
    const isTaken = (cause as NodeJS.ErrnoException).code === "EADDRINUSE";
    if (isTaken && orFree) return listen(server, { host, port: 0, settings });
    const reason = isTaken ? "another program is listening there" : cause.message;
    throw new UnavailableError(`Cannot listen on ${shownHost}:${port}: ${reason}. Choose another ${settings}.`, { cause });
  }
  return `http://${shownHost}:${(server.server.address() as AddressInfo).port}`;
}

// Connection limits, in total and per address.

interface ConnectionLimits {
  readonly maxConnections: number;
  /** For IPv6, the limit applies to a /64 network, because one host may own all of it. */
  readonly maxConnectionsPerAddress: number;
}

/**
 * At a limit, drops the oldest connection, preferably one without a request. New connections always succeed, even a health check from the
 * address that fills the server.
 */
function limitConnections(server: Server, { maxConnections, maxConnectionsPerAddress }: ConnectionLimits): void {
  /** Oldest first. */
  const byAddress = new Map<string, Set<Socket>>();
  const busy = new WeakSet<Socket>();
  let total = 0;

  const drop = (sockets: Set<Socket>): void => {
    const [oldest] = sockets;
    const victim = [...sockets].find((socket) => !busy.has(socket)) ?? oldest;
    if (victim === undefined) return;
    forget(victim, sockets);
    victim.destroy();
  };
  const forget = (socket: Socket, sockets: Set<Socket>): void => {
    if (sockets.delete(socket)) total -= 1;
  };

  server.on("connection", (socket: Socket) => {
    const address = networkOf(socket.remoteAddress ?? "");
    const sockets = byAddress.get(address) ?? new Set();
    byAddress.set(address, sockets);
    if (sockets.size >= maxConnectionsPerAddress) drop(sockets);
    if (total >= maxConnections) drop([...byAddress.values()].reduce((most, each) => (each.size > most.size ? each : most)));
    sockets.add(socket);
    total += 1;
    socket.once("close", () => {
      forget(socket, sockets);
      if (sockets.size === 0 && byAddress.get(address) === sockets) byAddress.delete(address);
    });
  });
  server.on("request", ({ socket }: IncomingMessage, response: ServerResponse) => {
    busy.add(socket);
    response.once("close", () => busy.delete(socket));
  });
}

/** The part of an address that identifies a client: for IPv6, the first 64 bits. */
function networkOf(address: string): string {
  const v4 = /^::ffff:([\d.]+)$/.exec(address)?.[1];
  if (v4 !== undefined) return v4;
  if (!isIPv6(address)) return address;
  const [head = "", tail] = (address.split("%", 1)[0] ?? "").split("::", 2);
  const groups = head.split(":").filter((group) => group !== "");
  const rest = tail === undefined ? [] : tail.split(":").filter((group) => group !== "");
  const zeros = Array.from({ length: Math.max(0, 8 - groups.length - rest.length) }, () => "0");
  return [...groups, ...zeros, ...rest].slice(0, 4).join(":");
}
