/** A Redis source behind a relay, on separate channels. */
import { encodeEnvelope } from "@celery-metrics-exporter/celery";
import type { HealthReport, RedisServer } from "@celery-metrics-exporter/runtime";
import { TcpProxy, sharedRedisUrl } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { randomUUID } from "node:crypto";
import { parseBrokerUrl } from "../src/url/broker-url.ts";
import { RedisSource, type RedisOptions } from "../src/redis/source.ts";
import type { EventSourceHarness } from "../src/testing/index.ts";
import { testContext, type TestContext } from "./test-context.ts";

export function redisServers(url: string): readonly RedisServer[] {
  const parsed = parseBrokerUrl(url);
  if (!parsed.ok || parsed.url.broker !== "redis") throw new Error("not a Redis URL");
  return parsed.url.servers;
}

/** The message that kombu publishes for an event's body. */
export function envelope(body: string): string {
  return encodeEnvelope({ body, routingKey: "task.multi", headers: { hostname: "w1@host-a" } });
}

function portOf(url: string): number {
  return Number(new URL(url).port);
}

export class RedisHarness implements EventSourceHarness {
  readonly context: TestContext = testContext();
  readonly source: RedisSource;
  readonly proxy: TcpProxy;
  readonly publisher: Redis;
  /** Separates tests on one server: pub/sub ignores databases. */
  readonly keyprefix = `test-${randomUUID()}:`;
  readonly #options: Partial<RedisOptions>;
  readonly #redisPort: number;

  private constructor(proxy: TcpProxy, options: Partial<RedisOptions>, redisUrl: string) {
    this.publisher = new Redis(redisUrl);
    this.#redisPort = portOf(redisUrl);
    this.proxy = proxy;
    this.#options = options;
    this.source = this.#create(proxy.port, this.context);
  }

  static async create(options: Partial<RedisOptions> = {}, redisUrl = sharedRedisUrl()): Promise<RedisHarness> {
    return new RedisHarness(await TcpProxy.start(portOf(redisUrl)), options, redisUrl);
  }

  another(): RedisSource {
    return this.#create(this.#redisPort, testContext());
  }

  /** Resolves with the number of subscribers that received it. */
  async publishTo(channel: string, body: string): Promise<number> {
    return this.publisher.publish(this.keyprefix + channel, envelope(body));
  }

  async publish(body: string): Promise<void> {
    await this.publishTo("/0.celeryev/task.multi", body);
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
    await this.publisher.quit();
    await this.proxy.stop();
  }

  #create(port: number, context: TestContext): RedisSource {
    const options = { globalKeyprefix: this.keyprefix, bufferMaxBytes: 64 * 2 ** 20, ...this.#options };
    return new RedisSource(redisServers(`redis://127.0.0.1:${port}/0`), options, context);
  }
}
