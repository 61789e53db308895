/** Unusual lives that tasks sometimes have, with the expected row and metrics. `docs/task-life.md` explains each case. */
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import {
  taskFailed,
  taskNotRegistered,
  taskReceived,
  taskRetried,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";

/** Times are in seconds from `BEGIN`. */
export interface ExpectedRow {
  readonly status: string;
  readonly name: string;
  readonly queue: string;
  readonly first_name: string;
  readonly first_queue: string;
  readonly revoked_by: string | null;
  readonly worker: string;
  readonly retries: number;
  readonly sent_at: number;
  readonly received_at: number;
  readonly started_at: number;
  readonly finished_at: number | null;
  readonly runtime: number | null;
  /** Seconds. */
  readonly duration: number | null;
  readonly wait_time: number | null;
}

/** The metrics that Datadog gets under one name and queue. */
export interface Sent {
  readonly successes?: number;
  readonly failures?: number;
  readonly revocations?: number;
  readonly retries?: number;
  /** In seconds, ascending. */
  readonly runs: readonly number[];
  readonly waits: readonly number[];
}

export interface TaskLife {
  /** The title of the document's section. */
  readonly name: string;
  /** In the order in which they happened. */
  readonly events: readonly TaskEvent[];
  readonly row: ExpectedRow;
  /** By `task_name|queue`. */
  readonly sent: Readonly<Record<string, Sent>>;
}

/** Unix time in seconds. */
export const BEGIN = 1_795_328_900;
const HOUR = 3_600;

const A = { hostname: "w1@host-a" };
const B = { hostname: "w2@host-b" };
const at = (seconds: number): { timestamp: number } => ({ timestamp: BEGIN + seconds });

const FIRST_RUN = [taskSent(at(0)), taskReceived({ ...at(1), ...A }), taskStarted({ ...at(2), ...A })];
const NAMED = { name: "shop.cart.total", queue: "celery", first_name: "shop.cart.total", first_queue: "celery", revoked_by: null };
const FIRST_ROW = { ...NAMED, retries: 0, sent_at: 0, received_at: 1, started_at: 2, wait_time: 2 };
const TASK = "shop.cart.total|celery";

/** The attempt after a retry, on worker B, whose clock is `skew` seconds ahead of all others. */
function retriedOnB(skew: number): TaskEvent[] {
  return [
    ...FIRST_RUN,
    taskSent({ ...at(3), retries: 1 }),
    taskRetried({ ...at(3), ...A }),
    taskReceived({ ...at(5 + skew), ...B, retries: 1 }),
    taskStarted({ ...at(6 + skew), ...B }),
    taskSucceeded({ ...at(8 + skew), ...B, runtime: 2 }),
  ];
}

export const TASK_LIVES: readonly TaskLife[] = [
  {
    name: "Redelivered after its worker was lost",
    events: [
      ...FIRST_RUN,
      taskReceived({ ...at(100), ...B }),
      taskStarted({ ...at(101), ...B }),
      taskSucceeded({ ...at(103), ...B, runtime: 2 }),
    ],
    row: { ...FIRST_ROW, status: "SUCCESS", worker: B.hostname, finished_at: 103, runtime: 2, duration: 2 },
    sent: { [TASK]: { successes: 1, runs: [2], waits: [2, 101] } },
  },
  {
    name: "Redelivered while its worker still ran it",
    events: [
      ...FIRST_RUN,
      taskReceived({ ...at(10), ...B }),
      taskStarted({ ...at(11), ...B }),
      taskSucceeded({ ...at(20), ...A, runtime: 18 }),
      taskSucceeded({ ...at(30), ...B, runtime: 19 }),
    ],
    row: { ...FIRST_ROW, status: "SUCCESS", worker: B.hostname, finished_at: 30, runtime: 19, duration: 19 },
    sent: { [TASK]: { successes: 2, runs: [18, 19], waits: [2, 11] } },
  },
  {
    name: "A copy expired while it ran",
    events: [
      ...FIRST_RUN,
      taskReceived({ ...at(HOUR), ...A }),
      taskRevoked({ ...at(HOUR), ...A, terminated: false, expired: true }),
      taskSucceeded({ ...at(2 * HOUR), ...A, runtime: 2 * HOUR - 2 }),
    ],
    row: { ...FIRST_ROW, status: "SUCCESS", worker: A.hostname, finished_at: 2 * HOUR, runtime: 2 * HOUR - 2, duration: 2 * HOUR - 2 },
    sent: { [TASK]: { successes: 1, revocations: 1, runs: [2 * HOUR - 2], waits: [2] } },
  },
  {
    name: "Sent again by hand under the same id",
    events: [
      ...FIRST_RUN,
      taskSucceeded({ ...at(3), ...A, runtime: 1 }),
      taskSent(at(1_000)),
      taskReceived({ ...at(1_002), ...A }),
      taskStarted({ ...at(1_005), ...A }),
      taskSucceeded({ ...at(1_007), ...A, runtime: 2 }),
    ],
    row: { ...FIRST_ROW, status: "SUCCESS", worker: A.hostname, finished_at: 1_007, runtime: 2, duration: 2 },
    sent: { [TASK]: { successes: 2, runs: [1, 2], waits: [2, 5] } },
  },
  {
    name: "Sent three times under one id before it started",
    events: [
      ...[0, 100, 200].map((seconds) => taskSent(at(seconds))),
      ...[300, 310, 320].flatMap((seconds) => [
        taskReceived({ ...at(seconds), ...A }),
        taskStarted({ ...at(seconds + 1), ...A }),
        taskSucceeded({ ...at(seconds + 3), ...A, runtime: 2 }),
      ]),
    ],
    row: {
      ...FIRST_ROW,
      status: "SUCCESS",
      worker: A.hostname,
      received_at: 300,
      started_at: 301,
      finished_at: 323,
      runtime: 2,
      duration: 2,
      wait_time: 301,
    },
    sent: { [TASK]: { successes: 3, runs: [2, 2, 2], waits: [121, 211, 301] } },
  },
  {
    name: "The client's clock is an hour ahead",
    events: [
      taskSent(at(HOUR)),
      taskReceived({ ...at(1), ...A }),
      taskStarted({ ...at(2), ...A }),
      taskSucceeded({ ...at(3), ...A, runtime: 1 }),
    ],
    row: { ...FIRST_ROW, status: "SUCCESS", worker: A.hostname, sent_at: HOUR, finished_at: 3, runtime: 1, duration: 1, wait_time: 0 },
    sent: { [TASK]: { successes: 1, runs: [1], waits: [0] } },
  },
  {
    name: "The client's clock is an hour behind",
    events: [
      taskSent(at(-HOUR)),
      taskReceived({ ...at(1), ...A }),
      taskStarted({ ...at(2), ...A }),
      taskSucceeded({ ...at(3), ...A, runtime: 1 }),
    ],
    row: {
      ...FIRST_ROW,
      status: "SUCCESS",
      worker: A.hostname,
      sent_at: -HOUR,
      finished_at: 3,
      runtime: 1,
      duration: 1,
      wait_time: HOUR + 2,
    },
    sent: { [TASK]: { successes: 1, runs: [1], waits: [HOUR + 2] } },
  },
  {
    name: "Retried on a worker whose clock is an hour ahead",
    events: retriedOnB(HOUR),
    row: { ...FIRST_ROW, status: "SUCCESS", worker: B.hostname, retries: 1, finished_at: HOUR + 8, runtime: 2, duration: 2 },
    sent: { [TASK]: { successes: 1, retries: 1, runs: [2], waits: [2, HOUR + 3] } },
  },
  {
    name: "Retried on a worker whose clock is an hour behind",
    events: retriedOnB(-HOUR),
    row: {
      ...NAMED,
      status: "SUCCESS",
      worker: A.hostname,
      retries: 1,
      sent_at: 0,
      received_at: 5 - HOUR,
      started_at: 6 - HOUR,
      finished_at: 8 - HOUR,
      runtime: 2,
      duration: 2,
      wait_time: 0,
    },
    sent: { [TASK]: { successes: 1, retries: 1, runs: [2], waits: [0, 2] } },
  },
  {
    name: "Never finished",
    events: FIRST_RUN,
    row: { ...FIRST_ROW, status: "STARTED", worker: A.hostname, finished_at: null, runtime: null, duration: null },
    sent: {},
  },
  {
    name: "Replaced by another task",
    events: [
      ...FIRST_RUN,
      taskSent({ ...at(3), name: "shop.cart.total_of_many", queue: "slow" }),
      taskReceived({ ...at(5), ...B, name: "shop.cart.total_of_many" }),
      taskStarted({ ...at(6), ...B }),
      taskSucceeded({ ...at(10), ...B, runtime: 4 }),
    ],
    row: {
      ...FIRST_ROW,
      name: "shop.cart.total_of_many",
      queue: "slow",
      status: "SUCCESS",
      worker: B.hostname,
      finished_at: 10,
      runtime: 4,
      duration: 4,
    },
    sent: { [TASK]: { runs: [], waits: [2] }, "shop.cart.total_of_many|slow": { successes: 1, runs: [4], waits: [3] } },
  },
  {
    name: "Retried into another queue, and failed",
    events: [
      ...FIRST_RUN,
      taskSent({ ...at(3), retries: 1, queue: "slow" }),
      taskRetried({ ...at(3), ...A }),
      taskReceived({ ...at(5), ...A, retries: 1 }),
      taskStarted({ ...at(7), ...A }),
      taskFailed({ ...at(8), ...A }),
    ],
    row: {
      ...FIRST_ROW,
      queue: "slow",
      status: "FAILURE",
      worker: A.hostname,
      retries: 1,
      finished_at: 8,
      runtime: null,
      duration: 1,
    },
    sent: { [TASK]: { retries: 1, runs: [], waits: [2] }, "shop.cart.total|slow": { failures: 1, runs: [1], waits: [4] } },
  },
  {
    name: "Retried where its worker does not know it",
    events: [
      ...FIRST_RUN,
      taskSent({ ...at(HOUR), retries: 1, queue: "slow" }),
      taskRetried({ ...at(HOUR), ...A }),
      taskNotRegistered({ ...at(HOUR + 1), ...A }),
    ],
    row: {
      ...FIRST_ROW,
      queue: "slow",
      status: "FAILURE",
      worker: A.hostname,
      retries: 1,
      finished_at: HOUR + 1,
      runtime: null,
      duration: null,
    },
    sent: { [TASK]: { retries: 1, runs: [], waits: [2] }, "shop.cart.total|slow": { failures: 1, runs: [], waits: [] } },
  },
  {
    name: "Retried under a shadow name",
    events: [
      ...FIRST_RUN,
      taskSent({ ...at(3), retries: 1, queue: "slow" }),
      taskRetried({ ...at(3), ...A }),
      taskReceived({ ...at(5), ...A, retries: 1, name: "My Report" }),
      taskStarted({ ...at(7), ...A }),
      taskSucceeded({ ...at(8), ...A, runtime: 1 }),
    ],
    row: { ...FIRST_ROW, queue: "slow", status: "SUCCESS", worker: A.hostname, retries: 1, finished_at: 8, runtime: 1, duration: 1 },
    sent: { [TASK]: { retries: 1, runs: [], waits: [2] }, "shop.cart.total|slow": { successes: 1, runs: [1], waits: [4] } },
  },
  {
    name: "Replaced, where only workers report what is sent",
    events: [
      ...FIRST_RUN.slice(1),
      taskSent({ ...at(3), name: "shop.cart.total_of_many", queue: "slow" }),
      taskReceived({ ...at(5), ...A, name: "shop.cart.total_of_many" }),
      taskStarted({ ...at(6), ...A }),
      taskFailed({ ...at(10), ...A }),
    ],
    row: {
      ...FIRST_ROW,
      name: "shop.cart.total_of_many",
      queue: "slow",
      first_name: "shop.cart.total_of_many",
      first_queue: "slow",
      sent_at: 3,
      wait_time: null,
      status: "FAILURE",
      worker: A.hostname,
      finished_at: 10,
      runtime: null,
      duration: 4,
    },
    sent: { "shop.cart.total|unknown": { runs: [], waits: [1] }, "shop.cart.total_of_many|slow": { failures: 1, runs: [4], waits: [3] } },
  },
  {
    name: "Terminated while it ran",
    events: [
      ...FIRST_RUN,
      taskRevoked({ ...at(5), ...A, terminated: true, expired: false, signum: "15" }),
      taskFailed({ ...at(5.005), ...A, exception: "SystemExit(-241)", exited: true }),
    ],
    row: {
      ...FIRST_ROW,
      status: "REVOKED",
      revoked_by: "terminated (SIGTERM)",
      worker: A.hostname,
      finished_at: 5,
      runtime: null,
      duration: 3,
    },
    sent: { [TASK]: { revocations: 1, runs: [], waits: [2] } },
  },
  {
    name: "Terminated, and sent again by hand",
    events: [
      ...FIRST_RUN,
      taskRevoked({ ...at(5), ...A, terminated: true, expired: false, signum: "15" }),
      taskFailed({ ...at(5.005), ...A, exception: "SystemExit(-241)", exited: true }),
      taskSent(at(100)),
      taskReceived({ ...at(101), ...A }),
      taskStarted({ ...at(103), ...A }),
      taskSucceeded({ ...at(105), ...A, runtime: 2 }),
    ],
    row: { ...FIRST_ROW, status: "SUCCESS", worker: A.hostname, finished_at: 105, runtime: 2, duration: 2 },
    sent: { [TASK]: { successes: 1, revocations: 1, runs: [2], waits: [2, 3] } },
  },
];
