/** A DogStatsD agent that only adds up what it receives. */
import { DatagramThread, freePort, parseDatagram, type DogstatsdMetric } from "@celery-metrics-exporter/testkit";

/** Name prefix of the tasks whose metrics are timed; each such task has a unique name. */
export const PROBE = "probe.";

const RETRIES = "celery.task.retry_count";

export class Agent {
  /** Number of ended tasks, by metric, such as `celery.task.success_count`. */
  readonly counts = new Map<string, number>();
  /** Unix time in ms at which the end of a probe arrived, by the task's name. */
  readonly probes = new Map<string, number>();
  #samples = 0;
  readonly port: number;
  readonly #socket: DatagramThread;

  private constructor(port: number, socket: DatagramThread) {
    this.port = port;
    this.#socket = socket;
    socket.on("message", (datagram: Buffer) => {
      for (const message of parseDatagram(datagram)) if (message.kind === "metric") this.#take(message);
    });
  }

  static async start(): Promise<Agent> {
    const port = await freePort();
    return new Agent(port, await DatagramThread.open(port));
  }

  /** Number of values of wait_time and run_time. */
  get samples(): number {
    return this.#samples;
  }

  /** Number of tasks that ended, in any state. */
  get tasks(): number {
    return [...this.counts.values()].reduce((sum, count) => sum + count, 0);
  }

  close(): void {
    this.#socket.close();
  }

  #take({ name, type, values, tags }: DogstatsdMetric): void {
    if (type === "gauge" || name === RETRIES) return;
    if (type !== "count") {
      this.#samples += values.length;
      return;
    }
    const ended = values.reduce((sum, value) => sum + value, 0);
    this.counts.set(name, (this.counts.get(name) ?? 0) + ended);
    const probe = tags.find((tag) => tag.startsWith(`task_name:${PROBE}`));
    if (probe !== undefined) this.probes.set(probe.slice("task_name:".length), Date.now());
  }
}
