/** What differs between the releases of RabbitMQ. */
import type { ChannelModel } from "amqplib";

/** Such as `4.3.6`. Undefined if the broker is another AMQP server. */
export function rabbitmqVersion({ connection }: ChannelModel): string | undefined {
  const { product, version } = connection.serverProperties;
  return product === "RabbitMQ" ? version : undefined;
}

/** Whether it is RabbitMQ, of this release or a later one. */
export function isSince(release: string, version: string | undefined): boolean {
  return version !== undefined && version.localeCompare(release, "en", { numeric: true }) >= 0;
}
