/** HTTP servers as we open them: how much of this process one client may take, and what is said when an address cannot be had. */
import Fastify, { type FastifyInstance } from "fastify";
import { type AddressInfo, type Socket, isIPv6 } from "node:net";
import { UnavailableError, toError } from "../errors.ts";
import type { IncomingMessage, Server, ServerResponse } from "node:http";

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

// How many connections a server holds, in all and of one address.

interface ConnectionLimits {
  readonly maxConnections: number;
  /** Of one address; of IPv6, of one /64 network, which one host may have all to itself. */
  readonly maxConnectionsPerAddress: number;
}

/**
 * Past a limit the oldest connection makes room, preferably one without a request: a newcomer always gets through, be it a health check from
 * the address that fills the server.
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

/** An address as one client counts: of IPv6 the first 64 bits. */
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
