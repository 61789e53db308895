/** Turns the workers' replies into observations. Pure. */
import { MAX_NAME_LENGTH, type ObservedWorker, cleanText } from "@celery-metrics-exporter/celery";
import type { Answers } from "@celery-metrics-exporter/control";

type Fields = Readonly<Record<string, unknown>>;
type Replies = Pick<Answers, "replies">;

/** A worker with more queues than this is not believed. */
const MAX_QUEUES = 1_000;

/**
 * The workers that answered at least one of the questions `stats` and `active_queues`. Of a name that two workers share, both are listed, with the
 * queues of both, because a reply does not tell which of them sent it.
 */
export function observedWorkers(stats: Replies, activeQueues: Replies): ObservedWorker[] {
  const names = [...new Set([...stats.replies.keys(), ...activeQueues.replies.keys()])].sort();
  return names.flatMap((name) => {
    const hostname = cleanText(name, MAX_NAME_LENGTH);
    const lists = activeQueues.replies.get(name);
    const queues = lists === undefined ? {} : { queues: [...new Set(lists.flatMap(queueNames))].slice(0, MAX_QUEUES) };
    const ofNode = stats.replies.get(name) ?? [undefined];
    return ofNode.map((value): ObservedWorker => ({ hostname, ...queues, ...fromStats(value) }));
  });
}

function queueNames(reply: unknown): string[] {
  if (!Array.isArray(reply)) return [];
  return (reply as readonly unknown[]).flatMap((queue) => {
    const { name } = fieldsOf(queue);
    return typeof name === "string" && name !== "" ? [cleanText(name, MAX_NAME_LENGTH)] : [];
  });
}

function fromStats(value: unknown): Omit<ObservedWorker, "hostname" | "queues"> {
  const stats = fieldsOf(value);
  const pool = fieldsOf(stats["pool"]);
  const { processes, implementation } = pool;
  // Only prefork and solo list processes. Threads and greenlets have a limit.
  const concurrency = Array.isArray(processes) ? processes.length : count(pool["max-concurrency"]);
  const [pid, uptime, prefetchCount] = [count(stats["pid"]), quantity(stats["uptime"]), count(stats["prefetch_count"])];
  return {
    ...(pid !== undefined && { pid }),
    ...(uptime !== undefined && { uptime }),
    ...(typeof implementation === "string" && { pool: cleanText(implementation, MAX_NAME_LENGTH) }),
    ...(concurrency !== undefined && { concurrency }),
    ...(prefetchCount !== undefined && { prefetchCount }),
  };
}

function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

function quantity(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : undefined;
}

function count(value: unknown): number | undefined {
  return Number.isInteger(value) ? quantity(value) : undefined;
}
