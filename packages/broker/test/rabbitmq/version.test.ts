import type { ChannelModel } from "amqplib";
import { expect, it } from "vitest";
import { isSince, rabbitmqVersion } from "../../src/rabbitmq/version.ts";

it.each([
  ["4.3.0", true],
  ["4.3.0-rc.1", true],
  ["4.10.0", true],
  ["10.0.0", true],
  ["4.2.6", false],
  ["3.13.7", false],
])("RabbitMQ %s is 4.3 or later: %s", (version, isLater) => {
  expect(isSince("4.3", version)).toBe(isLater);
});

function server(product: string): ChannelModel {
  return { connection: { serverProperties: { product, version: "4.3.6" } } } as unknown as ChannelModel;
}

it("has a version only if the server is RabbitMQ", () => {
  expect(rabbitmqVersion(server("RabbitMQ"))).toBe("4.3.6");
  expect(rabbitmqVersion(server("LavinMQ"))).toBeUndefined();
  expect(isSince("4.3", undefined)).toBe(false);
});
