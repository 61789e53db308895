/** A RabbitMQ source behind a relay, on a vhost of its own. */
import { createVhost, type TestVhost } from "@celery-metrics-exporter/testkit";
import { connect, type ChannelModel, type ConfirmChannel } from "amqplib";
import { parseBrokerUrl, type RabbitmqServer } from "../src/broker-url.ts";
import { RabbitmqSource, type RabbitmqOptions } from "../src/rabbitmq.ts";
import type { EventSourceHarness } from "../src/testing/index.ts";
import { TcpProxy } from "./tcp-proxy.ts";
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

export class RabbitmqHarness implements EventSourceHarness {
  readonly vhost: TestVhost;
  readonly context: TestContext = testContext();
  readonly source: RabbitmqSource;
  readonly proxy: TcpProxy;
  readonly publisher: ChannelModel;
  readonly channel: ConfirmChannel;
  readonly #options: Partial<RabbitmqOptions>;

  private constructor(vhost: TestVhost, proxy: TcpProxy, publisher: ChannelModel, channel: ConfirmChannel, options: Partial<RabbitmqOptions>) {
    this.vhost = vhost;
    this.proxy = proxy;
    this.publisher = publisher;
    this.channel = channel;
    this.#options = options;
    this.source = this.#create(proxy.port, this.context);
  }

  static async create(options: Partial<RabbitmqOptions> = {}): Promise<RabbitmqHarness> {
    const vhost = await createVhost();
    const proxy = await TcpProxy.start(Number(new URL(vhost.url).port));
    const publisher = await connect(vhost.url);
    const channel = await publisher.createConfirmChannel();
    await channel.assertExchange("celeryev", "topic", { durable: true });
    return new RabbitmqHarness(vhost, proxy, publisher, channel, options);
  }

  another(): RabbitmqSource {
    return this.#create(Number(new URL(this.vhost.url).port), testContext());
  }

  async publish(body: string, contentType = "application/json"): Promise<void> {
    const properties = { contentType, contentEncoding: "utf-8", deliveryMode: 1, headers: { hostname: "w1@host-a" } };
    this.channel.publish("celeryev", "task.multi", Buffer.from(body), properties);
    await this.channel.waitForConfirms();
  }

  /** Messages in the queue, delivered or not. */
  async queued(): Promise<number> {
    return (await this.channel.checkQueue(TOPOLOGY.queue)).messageCount;
  }

  cut(): void {
    this.proxy.cut();
  }

  readiness() {
    return this.context.health.report();
  }

  metric(name: string): Promise<number> {
    return this.context.metric(name);
  }

  async release(): Promise<void> {
    await this.source.stop();
    await this.publisher.close();
    await this.proxy.stop();
    await this.vhost.drop();
  }

  #create(port: number, context: TestContext): RabbitmqSource {
    const url = new URL(this.vhost.url);
    url.port = String(port);
    return new RabbitmqSource(rabbitmqServers(url.href), { ...TOPOLOGY, prefetch: 2_000, ...this.#options }, context);
  }
}
