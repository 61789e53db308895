/** A RabbitMQ source behind a relay, with its own exchange and queue. */
import { TcpProxy, sharedRabbitmqUrl } from "@celery-metrics-exporter/testkit";
import type { HealthReport } from "@celery-metrics-exporter/runtime";
import { connect, type Channel, type ChannelModel, type ConfirmChannel } from "amqplib";
import { randomUUID } from "node:crypto";
import { parseBrokerUrl, type RabbitmqServer } from "../src/url/broker-url.ts";
import { RabbitmqSource, type RabbitmqOptions } from "../src/rabbitmq/source.ts";
import type { EventSourceHarness } from "../src/testing/index.ts";
import { testContext, type TestContext } from "./test-context.ts";

export const TOPOLOGY = {
  exchange: "celeryev",
  queue: "celery-metrics-exporter",
  queueType: "quorum",
  queueMaxBytes: 2 ** 30,
  queueExpiresMs: 7 * 86_400_000,
} as const;

export function rabbitmqServers(url: string): readonly RabbitmqServer[] {
  const parsed = parseBrokerUrl(url);
  if (!parsed.ok || parsed.url.broker !== "rabbitmq") throw new Error("not a RabbitMQ URL");
  return parsed.url.servers;
}

/** Publishes events of the types `task-<prefix>0`, `task-<prefix>1` and so on, each alone in its message, and waits until the broker has them. */
export async function publishEvents(channel: ConfirmChannel, count: number, prefix: string): Promise<void> {
  for (let id = 0; id < count; id++) {
    const event = { type: `task-${prefix}${id}`, uuid: "1", hostname: "w1@host-a", timestamp: 1 };
    const properties = { contentType: "application/json", deliveryMode: 1 };
    channel.publish(TOPOLOGY.exchange, "task.multi", Buffer.from(JSON.stringify(event)), properties);
  }
  await channel.waitForConfirms();
}

export class RabbitmqHarness implements EventSourceHarness {
  readonly context: TestContext = testContext();
  readonly options: RabbitmqOptions;
  readonly source: RabbitmqSource;
  readonly proxy: TcpProxy;
  readonly publisher: ChannelModel;
  readonly #channel: ConfirmChannel;

  private constructor(proxy: TcpProxy, publisher: ChannelModel, channel: ConfirmChannel, options: RabbitmqOptions) {
    this.proxy = proxy;
    this.publisher = publisher;
    this.#channel = channel;
    this.options = options;
    this.source = this.#create(proxy.port, this.context);
  }

  static async create(options: Partial<RabbitmqOptions> = {}): Promise<RabbitmqHarness> {
    const proxy = await TcpProxy.start(Number(new URL(sharedRabbitmqUrl()).port));
    const publisher = await connect(sharedRabbitmqUrl());
    const channel = await publisher.createConfirmChannel();
    const names = { exchange: `celeryev-${randomUUID()}`, queue: `celery-metrics-exporter-${randomUUID()}` };
    // Like the first worker.
    await channel.assertExchange(names.exchange, "topic", { durable: true });
    return new RabbitmqHarness(proxy, publisher, channel, { ...TOPOLOGY, ...names, prefetch: 2_000, prefetchBytes: 2 ** 25, ...options });
  }

  another(): RabbitmqSource {
    return this.#create(Number(new URL(sharedRabbitmqUrl()).port), testContext());
  }

  async publish(body: string): Promise<void> {
    const properties = { contentType: "application/json", contentEncoding: "utf-8", deliveryMode: 1, headers: { hostname: "w1@host-a" } };
    this.#channel.publish(this.options.exchange, "task.multi", Buffer.from(body), properties);
    await this.#channel.waitForConfirms();
  }

  /** Runs one operation that may make the broker close the channel. */
  async administer(step: (channel: Channel) => Promise<unknown>): Promise<void> {
    const channel = await this.publisher.createChannel();
    channel.on("error", () => {});
    await step(channel);
    await channel.close();
  }

  /** Messages in the queue that are not delivered to a consumer. */
  async waiting(): Promise<number> {
    return (await this.#channel.checkQueue(this.options.queue)).messageCount;
  }

  cut(): void {
    this.proxy.cut();
  }

  readiness(): HealthReport {
    return this.context.health.report();
  }

  metric(name: string): Promise<number> {
    return this.context.metric(name);
  }

  async release(): Promise<void> {
    await this.source.stop();
    await this.#channel.deleteQueue(this.options.queue);
    await this.#channel.deleteExchange(this.options.exchange);
    await this.publisher.close();
    await this.proxy.stop();
  }

  #create(port: number, context: TestContext): RabbitmqSource {
    const url = new URL(sharedRabbitmqUrl());
    url.port = String(port);
    return new RabbitmqSource(rabbitmqServers(url.href), this.options, context);
  }
}
