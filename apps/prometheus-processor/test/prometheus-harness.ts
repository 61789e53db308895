/** The Prometheus exporter as its host runs it, with its own Redis, and what a scrape of it shows. */
import { createTestExporter, type TestExporter } from "@celery-metrics-exporter/pipeline/testing";
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { definePrometheus } from "../src/prometheus.ts";

export interface HarnessOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly redis?: RedisServer;
  readonly redisArgs?: readonly string[];
  /** How long the last values are shown when Redis cannot be read. */
  readonly staleMs?: number;
}

export interface Processor extends TestExporter {
  /** The address of `/metrics`, once it is started. */
  readonly url: () => string;
}

export class PrometheusHarness {
  readonly redis: RedisServer;
  readonly env: Readonly<Record<string, string>>;
  readonly #ownsRedis: boolean;
  readonly #staleMs: number | undefined;
  readonly #processors: Processor[] = [];

  private constructor(redis: RedisServer, { env = {}, redis: shared, staleMs }: HarnessOptions) {
    this.#staleMs = staleMs;
    this.redis = redis;
    this.#ownsRedis = shared === undefined;
    this.env = { REDIS_URL: redis.url, PROMETHEUS_PORT: "0", PROMETHEUS_INCOMPLETE_WAIT_MS: "100", ...env };
  }

  static async start(options: HarnessOptions = {}): Promise<PrometheusHarness> {
    const redis = options.redis ?? (await startRedis(options.redisArgs === undefined ? {} : { args: options.redisArgs }));
    return new PrometheusHarness(redis, options);
  }

  async started(env: Readonly<Record<string, string>> = {}): Promise<Processor> {
    const processor = await this.processor(env);
    await processor.exporter.start?.();
    return processor;
  }

  /** Created but not started. */
  async processor(env: Readonly<Record<string, string>> = {}): Promise<Processor> {
    let url = "";
    const exporter = await createTestExporter(
      definePrometheus((opened) => void (url = opened), this.#staleMs),
      { ...this.env, ...env },
    );
    const processor = { ...exporter, url: () => url };
    this.#processors.push(processor);
    return processor;
  }

  async close(): Promise<void> {
    await Promise.all(this.#processors.map((processor) => processor.close()));
    if (this.#ownsRedis) await this.redis.stop();
  }
}

const TRIES = 10;

/** Tries again, as Prometheus does: a scrape waits for Redis for a second, and on a busy machine the first read takes longer. */
export async function scrape(url: string, headers: Readonly<Record<string, string>> = {}): Promise<string> {
  let response = await fetch(url, { headers });
  for (let tries = 1; response.status === 503 && tries < TRIES; tries += 1) {
    await response.arrayBuffer();
    response = await fetch(url, { headers });
  }
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  return response.text();
}
