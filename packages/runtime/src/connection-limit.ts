/** How many connections a server holds, in all and of one address. */
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { isIPv6, type Socket } from "node:net";

export interface ConnectionLimits {
  readonly maxConnections: number;
  /** Of one address; of IPv6, of one /64 network, which one host may have all to itself. */
  readonly maxConnectionsPerAddress: number;
}

/**
 * Past a limit the oldest connection makes room, preferably one without a request: a newcomer always gets through, be it a health check from
 * the address that fills the server.
 */
export function limitConnections(server: Server, { maxConnections, maxConnectionsPerAddress }: ConnectionLimits): void {
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
