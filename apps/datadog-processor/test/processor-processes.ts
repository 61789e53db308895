/** Runs the processor in separate processes, on real queues. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { EXPORTERS, Fanout } from "@celery-metrics-exporter/pipeline";
import { Health, Lifecycle, Metrics, connectRedis, createLogger } from "@celery-metrics-exporter/runtime";
import { bundleProgram, startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { spawn, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";

const PROCESSOR = fileURLToPath(new URL("./fixtures/crashing-processor.mjs", import.meta.url));

export class ProcessorProcesses {
  readonly #redis: RedisServer;
  readonly #program: string;
  readonly #children = new Set<ChildProcess>();

  private constructor(redis: RedisServer, program: string) {
    this.#redis = redis;
    this.#program = program;
  }

  static async start(): Promise<ProcessorProcesses> {
    const program = await bundleProgram(PROCESSOR);
    return new ProcessorProcesses(await startRedis(), program);
  }

  spawn(env: Readonly<Record<string, string>>): ChildProcess {
    const child = spawn(process.execPath, [this.#program], {
      env: { REDIS_URL: this.#redis.url, LOG_LEVEL: "silent", DATADOG_GRACE_MS: "200", ...env },
      stdio: ["ignore", "ignore", "inherit"],
    });
    this.#children.add(child);
    child.once("exit", () => this.#children.delete(child));
    return child;
  }

  /** Adds a batch of finished tasks to the exporter queue. */
  async enqueue(prefix: string, tasks: readonly { readonly uuid: string; readonly name?: string }[]): Promise<void> {
    const now = Math.floor(Date.now() / 1_000) - 10;
    const events = tasks.flatMap((task) => [
      taskSent({ ...task, timestamp: now }),
      taskReceived({ ...task, timestamp: now + 1 }),
      taskStarted({ uuid: task.uuid, timestamp: now + 2 }),
      taskSucceeded({ uuid: task.uuid, timestamp: now + 3 }),
    ]);
    await this.enqueueEvents(prefix, events);
  }

  /** Adds a batch to the exporter queue, as the receiver does. */
  async enqueueEvents(prefix: string, events: readonly CeleryEvent[]): Promise<void> {
    const logger = createLogger("test", "silent");
    const lifecycle = new Lifecycle(logger);
    const common = { url: this.#redis.url, startupTimeoutMs: 5_000, logger, lifecycle, health: new Health() };
    const fanout = new Fanout({
      redis: await connectRedis({ ...common, use: "producer", name: "test" }),
      prefix,
      exporters: EXPORTERS.filter(({ name }) => name === "datadog"),
      whenFull: "hold",
      highWaterEvents: 1_000_000,
      logger,
      metrics: new Metrics(),
    });
    await fanout.start();
    await fanout.enqueue({ broker: "rabbitmq", events, receivedAt: Date.now() / 1_000 });
    await fanout.close();
    await lifecycle.close();
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill("SIGKILL");
    await this.#redis.stop();
  }
}
