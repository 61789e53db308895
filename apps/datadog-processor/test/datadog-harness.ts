/** The Datadog exporter as its host runs it, with its own Redis and DogStatsD sink. */
import type { ExpectedMetrics } from "@celery-metrics-exporter/celery/testing";
import type { ExporterDefinition } from "@celery-metrics-exporter/pipeline";
import { createTestExporter, type TestExporter } from "@celery-metrics-exporter/pipeline/testing";
import { startRedis, startStatsdSink, type RedisServer, type StatsdSink } from "@celery-metrics-exporter/testkit";
import { setTimeout as sleep } from "node:timers/promises";
import { defineDatadog } from "../src/datadog.ts";
import type { Step } from "@celery-metrics-exporter/task-store";

export interface HarnessOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly redis?: RedisServer;
  /** Arguments for its own Redis. */
  readonly redisArgs?: readonly string[];
}

export interface ProcessorOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly onStep?: (step: Step) => void | Promise<void>;
  readonly jobOwner?: string;
  /** Processes nothing before this time. */
  readonly notBefore?: Promise<unknown>;
}

const COUNTS = ["success_count", "fail_count", "revoked_count", "rejected_count", "retry_count"] as const;

export class DatadogHarness {
  readonly redis: RedisServer;
  readonly sink: StatsdSink;
  readonly env: Readonly<Record<string, string>>;
  readonly #ownsRedis: boolean;
  readonly #exporters: TestExporter[] = [];

  private constructor(redis: RedisServer, sink: StatsdSink, { env = {}, redis: shared }: HarnessOptions) {
    this.redis = redis;
    this.sink = sink;
    this.#ownsRedis = shared === undefined;
    this.env = {
      REDIS_URL: redis.url,
      DD_DOGSTATSD_PORT: String(sink.port),
      DATADOG_GRACE_MS: "50",
      DATADOG_INCOMPLETE_WAIT_MS: "300",
      DATADOG_LEASE_MS: "1000",
      ...env,
    };
  }

  static async start(options: HarnessOptions = {}): Promise<DatadogHarness> {
    const redis = options.redis ?? (await startRedis(options.redisArgs === undefined ? {} : { args: options.redisArgs }));
    return new DatadogHarness(redis, await startStatsdSink(), options);
  }

  /** A process with the exporter; several share Redis and sink. Jobs of the same owner with the same number are the same job. */
  async processor({ env = {}, onStep, jobOwner, notBefore }: ProcessorOptions = {}): Promise<TestExporter> {
    const owner = jobOwner ?? `processor-${this.#exporters.length + 1}`;
    const definition = withOwnJobs(defineDatadog(onStep === undefined ? {} : { onStep }), owner, notBefore);
    const exporter = await createTestExporter(definition, { ...this.env, ...env });
    this.#exporters.push(exporter);
    return exporter;
  }

  /** Resolves when no metric of a task has arrived for a while. */
  async quiet(): Promise<void> {
    const received = (): number => this.sink.metrics.filter(({ type }) => type !== "gauge").length + this.sink.errors.length;
    for (let metrics = -1; metrics !== received(); await sleep(40)) metrics = received();
  }

  /** The gauges of one turn, by name and tags, read later than now. */
  async gauges(): Promise<Readonly<Record<string, number>>> {
    const turns = (): number[] => this.sink.metrics.flatMap(({ name }, index) => (name === "celery.workers.up" ? [index] : []));
    const begun = turns().length;
    // The next turn may have been read before now, and the last one may still be arriving.
    await this.sink.waitFor(() => turns().length >= begun + 3, { timeoutMs: 20_000, what: "the gauges" });
    const [first, last] = turns().slice(begun + 1);
    const gauges = this.sink.metrics.slice(first, last).filter(({ type }) => type === "gauge");
    return Object.fromEntries(gauges.map(({ name, tags, values }) => [`${name}{${tags.join()}}`, values[0] ?? Number.NaN]));
  }

  /** The metrics that the sink received, in the corpus' form. */
  received(): ExpectedMetrics {
    const counts = Object.fromEntries(COUNTS.map((name) => [name, this.#counts(`celery.task.${name}`)]));
    return {
      ...(counts as Pick<ExpectedMetrics, (typeof COUNTS)[number]>),
      run_time: this.#samples("celery.task.run_time").map(([task, tags, value]) => [task, valueOf(tags, "state") as "success", value]),
      wait_time: this.#samples("celery.task.wait_time").map(([task, tags, value]) => [task, value, valueOf(tags, "basis") as "sent"]),
    };
  }

  async close(): Promise<void> {
    await Promise.all(this.#exporters.map((exporter) => exporter.close()));
    await this.sink.close();
    if (this.#ownsRedis) await this.redis.stop();
  }

  #counts(name: string): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const [task, , value] of this.#samples(name)) counts[task] = (counts[task] ?? 0) + value;
    return counts;
  }

  #samples(name: string): [task: string, tags: readonly string[], value: number][] {
    return this.sink
      .select(name)
      .flatMap(({ tags, values }) =>
        values.map((value): [string, readonly string[], number] => [
          `${valueOf(tags, "task_name")}|${valueOf(tags, "queue")}`,
          tags,
          value,
        ]),
      );
  }
}

/** Makes job ids unique: each test exporter numbers its jobs from 1, but in a real queue no two jobs have the same id. */
function withOwnJobs(definition: ReturnType<typeof defineDatadog>, owner: string, notBefore?: Promise<unknown>): ExporterDefinition {
  const create: typeof definition.create = async (context) => {
    const exporter = await definition.create(context);
    const process = exporter.process?.bind(exporter);
    if (process !== undefined) {
      exporter.process = async (ids, signal, { id }) => {
        await notBefore;
        return process(ids, signal, { id: `${owner}-${id}` });
      };
    }
    return exporter;
  };
  return { ...definition, create };
}

function valueOf(tags: readonly string[], key: string): string {
  return tags.find((tag) => tag.startsWith(`${key}:`))?.slice(key.length + 1) ?? "";
}
