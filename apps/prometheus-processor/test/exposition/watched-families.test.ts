/** The families of workers and queues, from what is known of them. */
import type { QueuesObserved, WorkersObserved } from "@celery-metrics-exporter/celery";
import type { Watched, WorkerState } from "@celery-metrics-exporter/task-store";
import { describe, expect, it } from "vitest";
import { gaugeCode } from "../../src/counting/fields.ts";
import { type CountsSnapshot, oldestWaiting } from "../../src/exposition/task-families.ts";
import { watchedFamilies } from "../../src/exposition/watched-families.ts";

const NOW = 1_000_000;
const OPTIONS = { prefix: "celery_", workerTimeoutSeconds: 300, queuePriorities: true };
const QUEUES: QueuesObserved = {
  type: "queues-observed",
  timestamp: NOW,
  broker: "redis",
  queues: [
    { name: "celery", messages: 3 },
    { name: "idle", messages: 0 },
  ],
  unacked: { messages: 2, oldestAt: NOW - 60 },
};
const WORKERS: WorkersObserved = {
  type: "workers-observed",
  timestamp: NOW,
  workers: [
    { hostname: "a@host", queues: ["celery", "celery"], concurrency: 4 },
    { hostname: "b@host", queues: ["celery", "other"] },
  ],
};

/** `labels value` of a family, with the values of the labels only. */
function shown(family: string, watched: Partial<Watched>): string[] {
  const nothing = { queues: undefined, workers: undefined, states: [], listenedUntil: NOW, waitingSince: new Map<string, number>() };
  const found = watchedFamilies({ ...nothing, ...watched }, OPTIONS, NOW).find(({ name }) => name === `celery_${family}`);
  return [...(found?.samples ?? [])].flatMap((sample) =>
    "value" in sample ? [`${Object.values(sample.labels).join(" ")} ${sample.value}`.trim()] : [],
  );
}

function worker(name: string, state: Partial<WorkerState>): WorkerState {
  const base = {
    worker: name,
    isOnline: true,
    heardAt: NOW,
    silentSeconds: 0,
    heartbeatAt: NOW,
    active: undefined,
    processed: undefined,
    version: undefined,
  };
  return { ...base, ...state };
}

describe("workers", () => {
  it("of one host stay apart", () => {
    const states = [worker("a@host", { active: 1 }), worker("b@host", { active: 2 })];
    expect(shown("worker_tasks_active", { states })).toEqual(["host a@host 1", "host b@host 2"]);
  });

  it("are down after `worker-offline`, or without a heartbeat for the time limit while a receiver listened, and then run nothing", () => {
    const states = [
      worker("up@x", { active: 1, heardAt: NOW - 300 }),
      worker("silent@x", { active: 1, heardAt: NOW - 301, silentSeconds: 301 }),
      worker("unknown@x", { active: 1, heardAt: NOW - 316, silentSeconds: 300 }),
      worker("off@x", { active: 1, isOnline: false }),
    ];
    expect(shown("worker_up", { states })).toEqual(["x up@x 1", "x silent@x 0", "x off@x 0"]);
    expect(shown("worker_tasks_active", { states })).toEqual(["x up@x 1", "x silent@x 0", "x off@x 0"]);
  });
});

it("shows each series once if two workers share a name", () => {
  const twins = [
    { hostname: "a@host", concurrency: 4, prefetchCount: 16, uptime: 100 },
    { hostname: "a@host", concurrency: 2, uptime: 7 },
    { hostname: "b@host", concurrency: 1 },
  ];
  const workers = { ...WORKERS, workers: twins };
  expect(shown("worker_concurrency", { workers })).toEqual(["host a@host 6", "host b@host 1"]);
  expect(shown("worker_prefetch_count", { workers })).toEqual(["host a@host 16"]);
  expect(shown("worker_uptime_seconds", { workers })).toEqual(["host a@host 7"]);
});

describe("queues", () => {
  it("show 0 workers and processes if none consumes from them, and count a worker once", () => {
    const watched = { queues: QUEUES, workers: WORKERS };
    expect(shown("active_worker_count", watched).sort()).toEqual(["celery 2", "idle 0", "other 1"]);
    expect(shown("active_process_count", watched).sort()).toEqual(["celery 4", "idle 0", "other 0"]);
  });

  it("show no workers if nobody asked them", () => {
    expect(shown("active_worker_count", { queues: QUEUES })).toEqual([]);
    expect(shown("queue_length", { queues: QUEUES })).toEqual(["celery 3", "idle 0"]);
  });

  it("show their length by priority, on Redis", () => {
    const queues: QueuesObserved["queues"] = [
      { name: "mail", messages: 4, byPriority: { 3: 3, 9: 1 } },
      { name: "celery", messages: 3 },
      { name: "idle", messages: 0 },
    ];
    const shownOn = (broker: QueuesObserved["broker"]): string[] =>
      shown("queue_length_by_priority", { queues: { ...QUEUES, broker, queues } });
    expect(shownOn("redis")).toEqual(["mail 0 0", "mail 3 3", "mail 9 1", "celery 0 3", "idle 0 0"]);
    expect(shownOn("rabbitmq")).toEqual([]);
    expect(shown("queue_length", { queues: { ...QUEUES, queues } })).toEqual(["mail 4", "celery 3", "idle 0"]);
  });

  it("show no lengths by priority unless that is wanted", () => {
    const watched = { queues: QUEUES, workers: undefined, states: [], listenedUntil: NOW, waitingSince: new Map<string, number>() };
    const names = watchedFamilies(watched, { ...OPTIONS, queuePriorities: false }, NOW).map(({ name }) => name);
    expect(names).not.toContain("celery_queue_length_by_priority");
  });

  it("show the age of the oldest message, and 0 where the broker has none", () => {
    const waitingSince = new Map([
      ["celery", NOW - 120],
      ["idle", NOW - 120],
      ["unseen", NOW + 5],
    ]);
    expect(shown("queue_oldest_waiting_seconds", { queues: QUEUES, waitingSince })).toEqual(["celery 120", "idle 0", "unseen 0"]);
    expect(shown("queue_oldest_waiting_seconds", { queues: QUEUES })).toEqual(["idle 0"]);
    expect(shown("queue_oldest_waiting_seconds", { waitingSince })).toEqual(["celery 120", "idle 120", "unseen 0"]);
    expect(shown("broker_unacked_oldest_age_seconds", { queues: QUEUES })).toEqual(["60"]);
  });
});

it("takes the oldest message to be from the middle of its minute, so that its age is half a minute off at most", () => {
  const sentAt = [120, 150, 179, 240];
  const gauges = sentAt.map((at) => ({ set: "l1", code: gaugeCode("waiting", at), count: 1 }));
  const labels = new Map([["l1", ["shop.pay", "mail", "generic"]]]);
  const snapshot: CountsSnapshot = {
    counts: { codes: new Map(), bySet: new Map(), gauges },
    labels,
    exceptions: new Map(),
    created: new Map(),
  };
  expect(oldestWaiting(snapshot)).toEqual(new Map([["mail", 150]]));
});
