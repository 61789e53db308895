/** Publishes the events of invented tasks, in real time. */
import { pause } from "@celery-metrics-exporter/runtime";
import { TaskCounts } from "./comparison.ts";
import { connectPublisher } from "./event-publisher.ts";
import { simulateTask, type WireEvent } from "./simulated-task.ts";
import type { Workload } from "./workload.ts";

const TICK_MS = 50;
const TASKS_PER_SECOND = 40;

/** Starts to send. @throws {UnavailableError} when the broker cannot be reached. */
export async function startSimulator(brokerUrl: string, queuePrefix: string): Promise<Workload> {
  const publisher = await connectPublisher(brokerUrl);
  const counts = new TaskCounts();
  const stopping = new AbortController();
  let waiting: WireEvent[] = [];
  const sending = { isOn: true };

  const run = async (): Promise<void> => {
    let owed = 0;
    while (!stopping.signal.aborted && (sending.isOn || waiting.length > 0)) {
      const now = Date.now() / 1000;
      if (sending.isOn) owed += (TASKS_PER_SECOND * TICK_MS) / 1000;
      for (; sending.isOn && owed >= 1; owed--) {
        const task = simulateTask(now, Math.random, queuePrefix);
        counts.add(task.name, task.state);
        waiting.push(...task.events);
      }
      const due = waiting.filter(({ timestamp }) => timestamp <= now);
      waiting = waiting.filter(({ timestamp }) => timestamp > now);
      if (due.length > 0) await publisher.publish(due);
      await pause(TICK_MS, stopping.signal);
    }
  };
  const running = run();
  const failed = new Promise<never>((_resolve, reject) => void running.catch(reject));
  failed.catch(() => {});
  return {
    description: "by a simulator of Celery's events, since Celery was not found",
    get sent() {
      return counts.total;
    },
    failed,
    finish: () => {
      sending.isOn = false;
      return running;
    },
    outcome: () => ({ ended: counts, withoutEnd: new Map() }),
    stop: async () => {
      stopping.abort();
      await running.catch(() => {});
      await publisher.close().catch(() => {});
    },
  };
}
