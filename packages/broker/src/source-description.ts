/** What a receiver reads its events from, in words that are the same in every receiver of it. */
import { hostname } from "node:os";
import type { BrokerUrl } from "./broker-url.ts";
import { rabbitmqLabel, redisLabel } from "./server-label.ts";
import type { SourceOptions } from "./sources.ts";

const LOOPBACK = /^(localhost|127\.[\d.]+|::1)$/;

/**
 * Without credentials. The order of a failover list does not matter. A broker on the machine itself is not the one of another machine.
 *
 * @param machine as in `os.hostname()`.
 */
export function describeSource(
  url: BrokerUrl,
  { rabbitmq, redis }: Pick<SourceOptions, "rabbitmq" | "redis">,
  machine = hostname(),
): string {
  if (url.broker === "rabbitmq") {
    const servers = url.servers.map(rabbitmqLabel);
    return `${listed(servers)}, queue ${rabbitmq.queue}, exchange ${rabbitmq.exchange}${on(url.servers, machine)}`;
  }
  const prefix = redis.globalKeyprefix === "" ? "" : `, prefix ${redis.globalKeyprefix}`;
  return `${listed(url.servers.map(redisLabel))}, exchange ${redis.exchange}${prefix}${on(url.servers, machine)}`;
}

function listed(servers: readonly string[]): string {
  return servers.toSorted().join(";");
}

function on(servers: readonly { readonly host: string; readonly socketPath?: string | undefined }[], machine: string): string {
  return servers.some(({ host, socketPath }) => socketPath !== undefined || LOOPBACK.test(host)) ? ` (on ${machine})` : "";
}
