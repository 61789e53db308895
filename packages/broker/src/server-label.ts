/** A server of the broker URL as it may be logged: without credentials. */
import type { RedisServer } from "@celery-metrics-exporter/runtime";
import type { RabbitmqServer } from "./broker-url.ts";

export function rabbitmqLabel({ host, port, vhost, tls }: RabbitmqServer): string {
  return `${tls === undefined ? "amqp" : "amqps"}://${bracketed(host)}:${port}/${vhost === "/" ? "/" : encodeURIComponent(vhost)}`;
}

export function redisLabel({ host, port, db, socketPath, sentinels, tls }: RedisServer): string {
  if (sentinels !== undefined)
    return sentinels.map((sentinel) => `sentinel://${bracketed(sentinel.host)}:${sentinel.port}/${db}`).join(";");
  if (socketPath !== undefined) return `redis+socket://${socketPath}`;
  return `${tls === undefined ? "redis" : "rediss"}://${bracketed(host)}:${port}/${db}`;
}

function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
