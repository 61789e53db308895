/** Events of a few tasks of every kind, and observations, for the contract suite. They are recent, so that no exporter finds them too old. */
import type { Observation, TaskEvent } from "@celery-metrics-exporter/celery";
import {
  queuesObserved,
  taskFailed,
  taskReceived,
  taskRejected,
  taskRetried,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
  workersObserved,
} from "@celery-metrics-exporter/celery/testing";

/** Ids of the tasks in the history. `orphan` has only one event, which carries neither name nor queue. */
export const SAMPLE_IDS = {
  succeeded: "11111111-1111-4111-8111-111111111111",
  failed: "22222222-2222-4222-8222-222222222222",
  retried: "33333333-3333-4333-8333-333333333333",
  revoked: "44444444-4444-4444-8444-444444444444",
  rejected: "55555555-5555-4555-8555-555555555555",
  unsent: "66666666-6666-4666-8666-666666666666",
  running: "77777777-7777-4777-8777-777777777777",
  twice: "99999999-0000-4999-8999-999999999999",
  orphan: "88888888-8888-4888-8888-888888888888",
} as const;

/** @param start Unix seconds; the history takes about five. */
export function sampleHistory(start: number): TaskEvent[] {
  const at = (uuid: string, seconds: number): { uuid: string; timestamp: number } => ({ uuid, timestamp: start + seconds });
  const { succeeded, failed, retried, revoked, rejected, unsent, running, twice, orphan } = SAMPLE_IDS;
  const mail = { name: "shop.mail.send" };
  return [
    taskSent(at(succeeded, 0)),
    taskReceived(at(succeeded, 0.25)),
    taskStarted(at(succeeded, 0.5)),
    taskSucceeded({ ...at(succeeded, 1.5), runtime: 0.9375 }),
    taskSent({ ...at(failed, 0), ...mail, queue: "mail" }),
    taskReceived({ ...at(failed, 0.25), ...mail }),
    taskStarted(at(failed, 0.5)),
    taskFailed(at(failed, 2)),
    taskSent(at(retried, 0)),
    taskReceived(at(retried, 0.25)),
    taskStarted(at(retried, 0.5)),
    taskSent({ ...at(retried, 1), retries: 1, eta: start + 2 }),
    taskRetried(at(retried, 1.25)),
    taskReceived({ ...at(retried, 1.5), retries: 1, eta: start + 2, hostname: "w2@host-b" }),
    taskStarted({ ...at(retried, 2.5), hostname: "w2@host-b" }),
    taskSucceeded({ ...at(retried, 4), runtime: 1.375, hostname: "w2@host-b" }),
    taskSent(at(revoked, 0)),
    taskReceived(at(revoked, 0.25)),
    taskRevoked({ ...at(revoked, 0.5), terminated: true, signum: "15" }),
    taskSent(at(rejected, 0)),
    taskReceived(at(rejected, 0.25)),
    taskStarted(at(rejected, 0.5)),
    taskRejected(at(rejected, 0.75)),
    taskReceived(at(unsent, 0.25)),
    taskStarted(at(unsent, 0.5)),
    taskSucceeded({ ...at(unsent, 1), runtime: 0.4375 }),
    taskSent(at(twice, 0)),
    taskReceived(at(twice, 0.25)),
    taskStarted(at(twice, 0.5)),
    taskFailed(at(twice, 1)),
    taskReceived({ ...at(twice, 1.25), hostname: "w2@host-b" }),
    taskStarted({ ...at(twice, 1.5), hostname: "w2@host-b" }),
    taskSucceeded({ ...at(twice, 2.5), runtime: 0.875, hostname: "w2@host-b" }),
    taskSent(at(running, 0)),
    taskReceived(at(running, 0.25)),
    taskStarted(at(running, 0.5)),
    taskStarted(at(orphan, 0.5)),
  ];
}

/**
 * One observation of each type. Observations of another time name the same queues and workers, with other figures.
 *
 * @param timestamp Unix seconds.
 */
export function sampleObservations(timestamp: number): Observation[] {
  const figure = timestamp % 1_000;
  const unacked = { messages: figure + 2, oldestAt: timestamp - 30 };
  const worker = { hostname: "w1@host-a", queues: ["celery"], pid: 12, pool: "celery.concurrency.prefork:TaskPool", concurrency: 4 };
  return [
    queuesObserved({ timestamp, queues: [{ name: "celery", messages: figure + 1 }], unacked }),
    workersObserved({ timestamp, workers: [{ ...worker, uptime: figure + 60, prefetchCount: figure + 16 }] }),
  ];
}
