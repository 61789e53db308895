/** Where the health endpoints are unless the settings say otherwise. */
import type { Role } from "./role.ts";

/** Of a process with this one role. 9090, 9100 and 9808 are Prometheus' ports. */
const PORTS: Readonly<Record<string, number>> = {
  receiver: 9801,
  "datadog-processor": 9802,
  "postgres-processor": 9803,
  dashboard: 9804,
};
/** Of a process with several. */
const SHARED_PORT = 9800;

/** A fixed port for each role, so that people and probes know it. 0, any free one, for a role without. */
export function defaultHealthPort(roles: readonly Pick<Role, "name">[]): number {
  const [first, ...others] = roles;
  return others.length > 0 ? SHARED_PORT : (PORTS[first?.name ?? ""] ?? 0);
}
