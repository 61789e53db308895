/** Builders of observations with realistic defaults, at the time of the events of `builders.ts`. */
import type { Listened, QueuesObserved, WorkersObserved } from "../model/observation.ts";
import { SENT_AT } from "./builders.ts";

export function queuesObserved(fields: Partial<Omit<QueuesObserved, "type">> = {}): QueuesObserved {
  const queues = [
    { name: "celery", messages: 12, byPriority: { "0": 10, "3": 2 } },
    { name: "mail", messages: 0 },
  ];
  return {
    type: "queues-observed",
    timestamp: SENT_AT,
    broker: "redis",
    queues,
    unacked: { messages: 8, oldestAt: SENT_AT - 30 },
    ...fields,
  };
}

export function workersObserved(fields: Partial<Omit<WorkersObserved, "type">> = {}): WorkersObserved {
  const workers = [
    {
      hostname: "w1@host-a",
      queues: ["celery"],
      pid: 12,
      uptime: 3_600,
      pool: "celery.concurrency.prefork:TaskPool",
      concurrency: 4,
      prefetchCount: 16,
    },
    { hostname: "w2@host-b" },
  ];
  return { type: "workers-observed", timestamp: SENT_AT, workers, ...fields };
}

/** A receiver has listened for so many seconds until now. */
export function listened(seconds = 3_600): Listened {
  const now = Date.now() / 1_000;
  return { type: "listened", source: "broker", since: now - seconds, timestamp: now };
}
