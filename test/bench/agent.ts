/** A DogStatsD agent that adds up what it is sent, and keeps nothing else. */
import { DatagramThread, freePort, parseDatagram, type DogstatsdMetric } from "@celery-metrics-exporter/testkit";

/** Names of the tasks whose metrics are timed begin so: each such task has a name of its own. */
export const PROBE = "probe.";

export class Agent {
  /** Tasks that ended, by metric, such as `celery.task.success_count`. */
  readonly counts = new Map<string, number>();
  /** Unix time in ms at which the end of a probe came, by the task's name. */
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

  /** Values of wait_time and run_time. */
  get samples(): number {
    return this.#samples;
  }

  /** Tasks that ended, however. */
  get tasks(): number {
    return [...this.counts.values()].reduce((sum, count) => sum + count, 0);
  }

  close(): void {
    this.#socket.close();
  }

  #take({ name, type, values, tags }: DogstatsdMetric): void {
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
