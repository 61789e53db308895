/** Users whom a reverse proxy has authenticated: it passes their names in a header. */
import { isAddressedToUs, isAmong, refusal } from "@celery-metrics-exporter/access";
import type { FastifyRequest } from "fastify";
import { roleOf, userNamed, type DefaultRole, type GroupRoles } from "./group-roles.ts";
import type { User } from "./user.ts";

export interface ProxyUserOptions {
  /** Addresses and networks of the proxies. */
  readonly proxies: readonly string[];
  /** In lower case. */
  readonly userHeader: string;
  readonly groupsHeader: string | undefined;
  readonly groupRoles: GroupRoles;
  readonly role: DefaultRole;
  /** Hosts for which requests may be, besides loopback. */
  readonly allowedHosts: readonly string[];
}

/**
 * ASCII without separators. A comma is how two headers become one on their way, so a name with a comma may be that of two users: the one that
 * the client has written and the one that the proxy has added.
 */
const NAME = /^[\w.+@=:/\\|-]+(?: [\w.+@=:/\\|-]+)*$/;
const MAX_NAME = 200;
const MAX_GROUPS = 8_000;

/** Finds the user of a request. The header of anyone but a proxy is ignored, as is one that is repeated, empty or not a name. */
export function proxyUser(options: ProxyUserOptions): (request: FastifyRequest) => User | undefined {
  const { userHeader, groupsHeader, groupRoles, role: otherwise, allowedHosts } = options;
  const isProxy = isAmong(options.proxies);
  return (request) => {
    // The address of the connection, never one that a header claims.
    if (!isProxy(request.socket.remoteAddress ?? "")) return undefined;
    const name = onlyValue(request, userHeader);
    if (name === undefined || name.length > MAX_NAME || !NAME.test(name)) return undefined;
    const groups = groupsHeader === undefined ? undefined : request.raw.headersDistinct[groupsHeader];
    if (groups !== undefined && (groups.length > 1 || (groups[0]?.length ?? 0) > MAX_GROUPS)) return undefined;
    // Otherwise another site's page in a browser beside the proxy could send the header itself (DNS rebinding).
    if (!isAddressedToUs(request, allowedHosts)) throw refusal(403, "Requests for this host are not answered (see WEB_ALLOWED_HOSTS).");
    const names = (groups?.[0] ?? "").split(",").map((group) => group.trim());
    const role = roleOf(names, groupRoles, otherwise);
    if (role === undefined) throw refusal(403, "Your account has no role here.");
    return userNamed(name, role);
  };
}

/** Node.js joins repeated headers, or takes the first one; here, none of them counts. */
function onlyValue({ raw }: FastifyRequest, header: string): string | undefined {
  const values = raw.headersDistinct[header] ?? [];
  return values.length === 1 ? values[0] : undefined;
}
