import {
  TASK_ID,
  taskFailed,
  taskReceived,
  taskRejected,
  taskRetried,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import type { TaskEvent } from "@celery-metrics-exporter/celery";
import type { Exporter } from "@celery-metrics-exporter/pipeline";
import { freePort, startRedis, startStatsdSink, type RedisServer } from "@celery-metrics-exporter/testkit";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Step } from "@celery-metrics-exporter/task-store";
import { DatadogHarness, type HarnessOptions } from "./datadog-harness.ts";

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const A = { hostname: "w1@host-a" };
const B = { hostname: "w2@host-b" };
const NEVER = new AbortController().signal;
const at = (timestamp: number): { timestamp: number } => ({ timestamp });
const RUN = [taskSent(at(1_000)), taskReceived({ ...at(1_001), ...A }), taskStarted({ ...at(1_002), ...A })];
const DONE = [...RUN, taskSucceeded({ ...at(1_003), ...A, runtime: 0.875 })];

let redis: RedisServer;
const harnesses: DatadogHarness[] = [];
let prefixes = 0;
beforeAll(async () => {
  redis = await startRedis();
});
afterEach(async () => {
  await Promise.all(harnesses.splice(0).map((harness) => harness.close()));
});
afterAll(() => redis.stop());

async function start(env: HarnessOptions["env"] = {}): Promise<DatadogHarness> {
  const harness = await DatadogHarness.start({ redis, env: { QUEUE_PREFIX: `{test-${++prefixes}}`, ...env } });
  harnesses.push(harness);
  return harness;
}

const CLAIMING_JOB = fileURLToPath(new URL("./fixtures/claiming-job.mjs", import.meta.url));

/** Waits, like a process without CPU, until the leases on these tasks have ended and another job has claimed them. */
function standStill(harness: DatadogHarness, ids: readonly string[]): number {
  return Number(execFileSync(process.execPath, [CLAIMING_JOB, redis.url, harness.env["QUEUE_PREFIX"] ?? "", ...ids], { cwd: PACKAGE }));
}

/** Delivers the batches in order, and waits for the jobs that result from each. */
async function deliver(harness: DatadogHarness, ...batches: readonly (readonly TaskEvent[])[]): Promise<void> {
  const processor = await harness.processor();
  for (const batch of batches) {
    await processor.exporter.export(batch, NEVER);
    await processor.idle();
  }
  await harness.quiet();
  expect(harness.sink.errors).toEqual([]);
}

describe("a task", () => {
  it("sends nothing before it has ended", async () => {
    const harness = await start();
    await deliver(harness, RUN);
    expect(harness.sink.metrics).toEqual([]);
  });

  it("sends its metrics once, whatever is repeated afterwards", async () => {
    const harness = await start();
    await deliver(harness, DONE, DONE, RUN.toReversed(), [taskReceived({ ...at(1_001.5), ...A })], DONE.toReversed());
    expect(harness.received()).toMatchObject({
      success_count: { "shop.cart.total|celery": 1 },
      run_time: [["shop.cart.total|celery", "success", 0.875]],
      wait_time: [["shop.cart.total|celery", 2, "sent"]],
    });
  });

  it("is reported to the host as done only when it is sent, and not again later", async () => {
    const harness = await start();
    await deliver(harness, DONE);
    const { exporter } = await harness.processor();
    await exporter.export([{ ...taskSucceeded(at(1_003)), uuid: "incomplete" }], NEVER);
    expect(await exporter.process?.([TASK_ID, "incomplete", "unknown"], NEVER, { id: "looking" })).toBe(0);
    await exporter.export(
      DONE.map((event) => ({ ...event, uuid: "another" })),
      NEVER,
    );
    expect(await exporter.process?.([TASK_ID, "another"], NEVER, { id: "sending" })).toBe(1);
  });

  it("that was replaced, or retried into another queue, counts each attempt under its own name and queue", async () => {
    const harness = await start();
    const second = { name: "shop.cart.sum", queue: "q2" };
    await deliver(harness, [
      ...RUN,
      taskReceived({ ...at(1_004), ...A, name: second.name }),
      taskStarted({ ...at(1_005), ...A }),
      taskSent({ ...at(1_005.001), ...second }),
      taskSucceeded({ ...at(1_006), ...A, runtime: 1 }),
    ]);
    expect(harness.received()).toMatchObject({
      success_count: { "shop.cart.sum|q2": 1 },
      run_time: [["shop.cart.sum|q2", "success", 1]],
      wait_time: [
        ["shop.cart.total|celery", 2, "sent"],
        ["shop.cart.sum|q2", 0, "sent"],
      ],
    });
  });

  it("leaves out an attempt that a filter excludes, and sends the others", async () => {
    const harness = await start();
    const retry = [
      taskSent({ ...at(1_003), queue: "q2", retries: 1, excluded: true }),
      taskReceived({ ...at(1_004), ...A, retries: 1 }),
      taskStarted({ ...at(1_005), ...A }),
    ];
    await deliver(harness, [...RUN, ...retry, taskSucceeded({ ...at(1_006), ...A })]);
    expect(harness.received()).toMatchObject({ success_count: {}, run_time: [], wait_time: [["shop.cart.total|celery", 2, "sent"]] });
  });

  it("of 41 attempts sends 41 waits, and an id that is used 40 times counts 40 times", async () => {
    const harness = await start();
    const attempts = Array.from({ length: 41 }, (_, retries) => [
      taskSent({ ...at(1_000 + retries), retries }),
      taskReceived({ ...at(1_000.25 + retries), ...A, retries }),
      taskStarted({ ...at(1_000.5 + retries), ...A }),
    ]).flat();
    const lives = Array.from({ length: 40 }, (_, life) =>
      [...RUN, taskSucceeded({ ...at(1_003), ...A })].map((event) => ({ ...event, uuid: "again", timestamp: event.timestamp + life * 10 })),
    ).flat();
    await deliver(harness, [...attempts, taskFailed({ ...at(1_041), ...A }), ...lives]);
    expect(harness.received().wait_time).toHaveLength(41 + 40);
    expect(harness.received().run_time).toHaveLength(1 + 40);
    expect(harness.received().success_count).toEqual({ "shop.cart.total|celery": 40 });
  });

  it("that runs twice at the same time on one worker counts twice, each run with its own run time", async () => {
    const harness = await start();
    const again = [taskReceived({ ...at(1_010), ...A }), taskStarted({ ...at(1_010.5), ...A })];
    const first = taskSucceeded({ ...at(1_020), ...A, runtime: 18 });
    const second = taskSucceeded({ ...at(1_030), ...A, runtime: 19.5 });
    await deliver(harness, [...RUN, ...again, first], [second], [first, second, ...again, ...RUN]);
    expect(harness.received()).toMatchObject({ success_count: { "shop.cart.total|celery": 2 } });
    expect(harness.received().run_time.map(([, , seconds]) => seconds)).toEqual([18, 19.5]);
  });

  it("that was terminated is one revocation, whichever of its two ends arrives first and however late the other one is", async () => {
    const revoked = taskRevoked({ ...at(1_003), ...A, terminated: true });
    const failed = taskFailed({ ...at(1_003.01), ...A, exception: "SystemExit(-241)" });
    for (const finals of [
      [revoked, failed],
      [failed, revoked],
    ]) {
      const harness = await start({ DATADOG_INCOMPLETE_WAIT_MS: "20000" });
      const processor = await harness.processor();
      await processor.exporter.export([...RUN, ...finals.slice(0, 1)], NEVER);
      // Longer than the grace: everything certain has been sent.
      await sleep(400);
      await processor.exporter.export(finals.slice(1), NEVER);
      await expect.poll(() => harness.received().revoked_count, { timeout: 10_000 }).toEqual({ "shop.cart.total|celery": 1 });
      await harness.quiet();
      expect(harness.received().fail_count).toEqual({});
    }
  });

  it("whose process got a signal is a failure, if no revocation arrives", async () => {
    const harness = await start();
    await deliver(harness, [...RUN, taskFailed({ ...at(1_003), ...A, exception: "SystemExit(-241)" })]);
    expect(harness.received().fail_count).toEqual({ "shop.cart.total|celery": 1 });
  });

  it.each<[string, TaskEvent[]]>([
    ["two task-failed 2 ms apart", [taskFailed({ ...at(1_003), ...A }), taskFailed({ ...at(1_003.002), ...A })]],
    ["a task-failed and a task-rejected", [taskFailed({ ...at(1_003), ...A }), taskRejected({ ...at(1_003.001), ...A })]],
  ])("counts one failure for %s, in one batch or in two", async (_, finals) => {
    for (const batches of [[[...RUN, ...finals]], [RUN, ...finals.map((final) => [final])], [[...RUN, ...finals].toReversed()]]) {
      const harness = await start();
      await deliver(harness, ...batches);
      const { fail_count, rejected_count, run_time, wait_time } = harness.received();
      expect({ fail_count, rejected_count }).toEqual({ fail_count: { "shop.cart.total|celery": 1 }, rejected_count: {} });
      expect([run_time.length, wait_time.length]).toEqual([1, 1]);
    }
  });

  it("counts two for a second run by another worker", async () => {
    const harness = await start();
    const again = [taskReceived({ ...at(1_010), ...B }), taskStarted({ ...at(1_011), ...B }), taskFailed({ ...at(1_012), ...B })];
    await deliver(harness, DONE, again, DONE, again);
    const { success_count, fail_count, run_time, wait_time } = harness.received();
    expect([success_count, fail_count]).toEqual([{ "shop.cart.total|celery": 1 }, { "shop.cart.total|celery": 1 }]);
    expect(run_time.map(([, state, seconds]) => [state, seconds])).toEqual([
      ["success", 0.875],
      ["failure", 1],
    ]);
    expect(wait_time.map(([, seconds]) => seconds)).toEqual([2, 11]);
  });

  it("counts two for a second run by the same worker", async () => {
    const harness = await start();
    await deliver(harness, DONE, [taskStarted({ ...at(1_010), ...A }), taskSucceeded({ ...at(1_011), ...A, runtime: 1 })]);
    expect(harness.received().success_count).toEqual({ "shop.cart.total|celery": 2 });
  });
});

describe("a retry", () => {
  const FIRST = "shop.cart.total|celery";
  const NEXT = [taskSent({ ...at(1_003), queue: "q2", retries: 1 }), taskRetried({ ...at(1_003), ...A })];
  const LAST = [
    taskReceived({ ...at(1_004), ...B, retries: 1 }),
    taskStarted({ ...at(1_005), ...B }),
    taskSucceeded({ ...at(1_006), ...B, runtime: 0.75 }),
  ];

  it("is counted once while the task goes on, with the name and queue of the attempt that ended, whatever is repeated", async () => {
    const harness = await start();
    await deliver(harness, [...RUN, ...NEXT], NEXT, [...RUN, ...NEXT].toReversed());
    const { retry_count, success_count, wait_time } = harness.received();
    expect({ retry_count, success_count, wait_time }).toEqual({ retry_count: { [FIRST]: 1 }, success_count: {}, wait_time: [] });
    await deliver(harness, LAST, NEXT, [...RUN, ...NEXT, ...LAST]);
    expect(harness.received()).toMatchObject({ retry_count: { [FIRST]: 1 }, success_count: { "shop.cart.total|q2": 1 } });
    expect(harness.received().wait_time).toHaveLength(2);
  });

  it("is counted once if it arrives with the end, or after the end was sent", async () => {
    for (const batches of [[[...RUN, ...NEXT, ...LAST]], [[...RUN, ...NEXT.slice(0, 1), ...LAST], NEXT, NEXT]]) {
      const harness = await start();
      await deliver(harness, ...batches);
      expect(harness.received()).toMatchObject({ retry_count: { [FIRST]: 1 }, success_count: { "shop.cart.total|q2": 1 } });
      expect(harness.received().wait_time).toHaveLength(2);
    }
  });

  it("is counted once for each attempt, by several processors that get everything twice at the same time", async () => {
    const harness = await start();
    const attempts = Array.from({ length: 20 }, (_, retries) => [
      taskSent({ ...at(1_000 + retries), retries }),
      taskReceived({ ...at(1_000.25 + retries), ...A, retries }),
      taskStarted({ ...at(1_000.5 + retries), ...A }),
      taskRetried({ ...at(1_000.75 + retries), ...A }),
    ]).flat();
    const processors = [await harness.processor(), await harness.processor()];
    await Promise.all(
      processors.map(async ({ exporter }, index) => {
        const events = index === 0 ? attempts : attempts.toReversed();
        for (let from = 0; from < events.length; from += 10) await exporter.export(events.slice(from, from + 10), NEVER);
      }),
    );
    await Promise.all(processors.map((processor) => processor.idle()));
    await deliver(harness, [taskFailed({ ...at(1_021), ...A })]);
    expect(harness.received().retry_count).toEqual({ [FIRST]: 20 });
  });

  it("waits for its start, which names its attempt", async () => {
    const harness = await start({ DATADOG_INCOMPLETE_WAIT_MS: "6000" });
    const processor = await harness.processor();
    await processor.exporter.export([taskRetried({ ...at(1_003), ...A })], NEVER);
    await sleep(400);
    expect(harness.sink.metrics).toEqual([]);
    await processor.exporter.export(RUN, NEVER);
    await processor.idle();
    await harness.quiet();
    expect(harness.received().retry_count).toEqual({ [FIRST]: 1 });
  });

  it("leaves the grace of the task's end alone", async () => {
    const harness = await start({ DATADOG_GRACE_MS: "1500" });
    const processor = await harness.processor();
    await processor.exporter.export([...RUN, ...NEXT.slice(1)], NEVER);
    await sleep(1_000);
    await processor.exporter.export(LAST, NEVER);
    await harness.sink.waitFor((sink) => sink.total("celery.task.retry_count") === 1);
    await processor.exporter.export(NEXT, NEVER);
    await processor.idle();
    await harness.quiet();
    expect(harness.received()).toMatchObject({ retry_count: { [FIRST]: 1 }, success_count: { "shop.cart.total|q2": 1 } });
  });

  it("of an attempt that a filter excludes is not counted, and one that is too old is not sent", async () => {
    const excluded = await start();
    const [sent, ...rest] = RUN;
    await deliver(excluded, [{ ...sent, excluded: true } as TaskEvent, ...rest, ...NEXT, ...LAST]);
    const { retry_count, success_count } = excluded.received();
    expect({ retry_count, success_count }).toEqual({ retry_count: {}, success_count: { "shop.cart.total|q2": 1 } });
    const young = await start({ DATADOG_MAX_AGE_SECONDS: "60" });
    await deliver(young, [...RUN, ...NEXT]);
    expect(young.received().retry_count).toEqual({});
  });
});

describe("a task that is sent although something was missing", () => {
  it("is counted by what was missing, which an event that most tasks never have is not", async () => {
    const processor = await (await start()).processor();
    const end = { ...at(1_003), ...A };
    const whole = [taskRejected(end), taskRevoked({ ...end, terminated: true }), taskFailed({ ...end, exited: true })];
    const histories = [...whole.map((final) => [...RUN, final]), [taskSent(at(1_000)), taskSucceeded(end)], [taskRejected(end)]];
    await processor.exporter.export(
      histories.flatMap((events, task) => events.map((event) => ({ ...event, uuid: `task-${task}` }))),
      NEVER,
    );
    await processor.idle();
    const counted = await processor.metrics.registry.getSingleMetric("celery_metrics_exporter_datadog_tasks_incomplete_total")?.get();
    const counts = counted?.values.filter(({ value }) => value > 0).map(({ labels, value }) => [labels["reason"], value]);
    expect(Object.fromEntries(counts ?? [])).toEqual({ name: 1, start: 1 });
  });
});

describe("a task whose end arrives before its other events", () => {
  it("is postponed until its start and name have arrived", async () => {
    const harness = await start({ DATADOG_INCOMPLETE_WAIT_MS: "6000" });
    const processor = await harness.processor();
    await processor.exporter.export([taskFailed({ ...at(1_003), ...A })], NEVER);
    await sleep(400);
    expect(harness.sink.metrics).toEqual([]);
    await processor.exporter.export(RUN, NEVER);
    await processor.idle();
    await harness.quiet();
    expect(harness.received()).toMatchObject({
      run_time: [["shop.cart.total|celery", "failure", 1]],
      wait_time: [["shop.cart.total|celery", 2, "sent"]],
    });
  });

  it("is sent as it is after the limit, and can be postponed again when it runs again", async () => {
    const harness = await start({ DATADOG_INCOMPLETE_WAIT_MS: "400" });
    const startedAt = performance.now();
    await deliver(harness, [taskFailed({ ...at(1_003), ...A })]);
    expect(performance.now() - startedAt).toBeGreaterThan(400);
    expect(harness.received()).toMatchObject({ fail_count: { "unknown|unknown": 1 }, run_time: [], wait_time: [] });
    await deliver(harness, [taskSent(at(1_000)), taskFailed({ ...at(1_004), ...B })]);
    expect(harness.received()).toMatchObject({ fail_count: { "unknown|unknown": 1, "shop.cart.total|celery": 1 } });
  });

  it("does not wait for a task-sent", async () => {
    const harness = await start({ DATADOG_INCOMPLETE_WAIT_MS: "20000" });
    const startedAt = performance.now();
    await deliver(harness, DONE.slice(1));
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    expect(harness.received()).toMatchObject({ wait_time: [["shop.cart.total|unknown", 1, "received"]] });
  });
});

describe("the agent", () => {
  it("may be away: until it is back, nothing is lost and nothing is marked as sent", async () => {
    const harness = await start();
    const away = await startStatsdSink();
    const { port } = away;
    await away.close();
    const processor = await harness.processor({ env: { DD_DOGSTATSD_PORT: String(port) } });
    await processor.exporter.export(DONE, NEVER);
    await sleep(400);
    const back = await startStatsdSink({ port });
    await processor.idle();
    await back.waitFor(() => back.total("celery.task.success_count") === 1);
    expect(back.values("celery.task.run_time")).toEqual([0.875]);
    await back.close();
  });
});

/** A process that dies after this step. */
async function dyingAt(harness: DatadogHarness, step: Step, jobOwner?: string): Promise<Exporter> {
  const { exporter } = await harness.processor({
    onStep: (reached) => {
      if (reached === step) throw new Error(`killed after ${step}`);
    },
    ...(jobOwner === undefined ? {} : { jobOwner }),
  });
  return exporter;
}

describe("a process that is killed", () => {
  const EXPECTED = { success_count: { "shop.cart.total|celery": 1 }, wait_time: [["shop.cart.total|celery", 2, "sent"]] };

  it.each<Step>(["merged", "scheduled"])("after it %s a batch leaves the tasks to the next process that gets the batch", async (step) => {
    const harness = await start();
    const dying = await dyingAt(harness, step);
    await expect(dying.export(DONE, NEVER)).rejects.toThrow("killed");
    await deliver(harness, DONE);
    expect(harness.received()).toMatchObject(EXPECTED);
  });

  it.each([
    ["the same job at once", "queue", 0],
    ["another job when the lease ends", "another", 900],
  ])("after it claimed a task leaves it to %s", async (_, jobOwner, atLeastMs) => {
    const harness = await start();
    const merging = await dyingAt(harness, "merged");
    await expect(merging.export(DONE, NEVER)).rejects.toThrow("killed");
    const claiming = await dyingAt(harness, "claimed", "queue");
    await expect(claiming.process?.([TASK_ID], NEVER, { id: "1" })).rejects.toThrow("killed");

    const startedAt = performance.now();
    const next = await harness.processor({ jobOwner });
    await next.exporter.process?.([TASK_ID], NEVER, { id: "1" });
    await next.idle();
    expect(performance.now() - startedAt).toBeGreaterThan(atLeastMs);
    await harness.quiet();
    expect(harness.received()).toMatchObject(EXPECTED);
  });

  it("after it sent a task sends that job's tasks once more, and no others", async () => {
    const harness = await start();
    await deliver(harness, [taskRejected({ uuid: "other" })]);
    const merging = await dyingAt(harness, "merged");
    await expect(merging.export(DONE, NEVER)).rejects.toThrow("killed");
    const sending = await dyingAt(harness, "reported", "queue");
    await expect(sending.process?.([TASK_ID], NEVER, { id: "1" })).rejects.toThrow("killed");
    const next = await harness.processor({ jobOwner: "queue" });
    await next.exporter.process?.([TASK_ID, "other"], NEVER, { id: "1" });
    await harness.quiet();
    expect(harness.received()).toMatchObject({
      success_count: { "shop.cart.total|celery": 2 },
      rejected_count: { "unknown|unknown": 1 },
    });
  });
});

/** Finished tasks that need about this many packets together, at 2 packets each. */
function tasksOf(packets: number): TaskEvent[][] {
  return Array.from({ length: packets / 2 }, (_, index) => {
    const uuid = `task-${index}`;
    // Unique names, so that no line contains several values.
    return DONE.map((event) => ({ ...event, uuid, ...("name" in event && { name: `${"n".repeat(150)}${index}` }) }));
  });
}

/** Makes a packet contain 2 of the 3 lines of a task. */
const SLOW = { DATADOG_MAX_PACKET_BYTES: "600", DATADOG_MAX_PACKETS_PER_SECOND: "20" };

/** Merged, but not scheduled. */
async function merge(harness: DatadogHarness, events: readonly TaskEvent[]): Promise<void> {
  const merging = await dyingAt(harness, "merged");
  await expect(merging.export(events, NEVER)).rejects.toThrow("killed");
}

function expectOnce(harness: DatadogHarness, tasks: readonly unknown[]): void {
  const { success_count, run_time, wait_time } = harness.received();
  expect(Object.values(success_count)).toEqual(tasks.map(() => 1));
  expect([run_time.length, wait_time.length]).toEqual([tasks.length, tasks.length]);
  expect(harness.sink.errors).toEqual([]);
}

describe("a long send", () => {
  it("stops when the process has to end, and the rest is sent when the job runs again: each task once", async () => {
    const harness = await start(SLOW);
    const tasks = tasksOf(100);
    const ids = tasks.map(([event]) => event?.uuid ?? "");
    await merge(harness, tasks.flat());
    const draining = new AbortController();
    const ending = await harness.processor({ jobOwner: "queue" });
    const processing = ending.exporter.process?.(ids, draining.signal, { id: "1" });
    await harness.sink.waitFor(() => harness.sink.packets.length >= 20);
    draining.abort();
    await expect(processing).rejects.toThrow("aborted");
    await harness.quiet();
    // A send is about 10 packets.
    expect(harness.sink.packets.length).toBeLessThan(50);

    const next = await harness.processor({ jobOwner: "queue" });
    await next.exporter.process?.(ids, NEVER, { id: "1" });
    await harness.quiet();
    expectOnce(harness, tasks);
  });

  it.each([
    ["many tasks", tasksOf(60)],
    [
      "one task of many attempts",
      [
        [
          ...Array.from({ length: 500 }, (_, retries) => [
            taskSent({ ...at(1_000 + retries), retries }),
            taskReceived({ ...at(1_000.25 + retries), ...A, retries }),
            taskStarted({ ...at(1_000.123_456 + retries * 1.01), ...A }),
          ]).flat(),
          taskSucceeded({ ...at(2_000), ...A, runtime: 0.875 }),
        ],
      ],
    ],
  ])("keeps its leases until it is over, with %s", async (_, tasks) => {
    const harness = await start({ ...SLOW, DATADOG_MAX_PACKET_BYTES: "150", DATADOG_LEASE_MS: "500" });
    const ids = tasks.map(([event]) => event?.uuid ?? "");
    await merge(harness, tasks.flat());
    const holder = await harness.processor();
    const ended = new AbortController();
    const processing = holder.exporter.process?.(ids, NEVER, { id: "1" })?.finally(() => ended.abort());
    await harness.sink.waitFor(() => harness.sink.packets.length > 0);
    const twin = await harness.processor();
    while (!ended.signal.aborted) {
      await twin.exporter.process?.(ids, NEVER, { id: "1" });
      await sleep(100);
    }
    await processing;
    // 20 a second, after 8 at once: at least three leases.
    expect(harness.sink.packets.length).toBeGreaterThan(40);
    await twin.idle();
    await harness.quiet();
    const { success_count, run_time, wait_time } = harness.received();
    expect(Object.values(success_count)).toEqual(tasks.map(() => 1));
    const starts = tasks.flat().filter(({ type }) => type === "task-started");
    expect([run_time.length, wait_time.length]).toEqual([tasks.length, starts.length]);
  });

  it.each<[string, Step, number]>([
    ["before the first part", "claimed", 20],
    ["between two parts", "settled", 1],
  ])("leaves tasks to another job that claimed them while the process was stopped, %s", async (_, after, atLeast) => {
    const harness = await start(SLOW);
    const tasks = tasksOf(40);
    const ids = tasks.map(([event]) => event?.uuid ?? "");
    await merge(harness, tasks.flat());
    let held = 0;
    const holder = await harness.processor({
      onStep: (step) => {
        if (step === after && held === 0) held = standStill(harness, ids);
      },
    });
    await holder.exporter.process?.(ids, NEVER, { id: "1" });
    await harness.quiet();
    expect(held).toBeGreaterThanOrEqual(atLeast);
    expect(Object.keys(harness.received().success_count)).toHaveLength(tasks.length - held);
    // That job died, so its tasks are processed again.
    await holder.idle();
    await harness.quiet();
    expectOnce(harness, tasks);
  });
});

describe("a task that another job holds", () => {
  it("is available soon after that job is done, however long the lease is", async () => {
    const harness = await start({ DATADOG_LEASE_MS: "600000" });
    const gate = new AbortController();
    const merging = await dyingAt(harness, "merged");
    await expect(merging.export(DONE, NEVER)).rejects.toThrow("killed");
    const claimed = new AbortController();
    const holder = await harness.processor({
      onStep: async (step) => {
        if (step !== "claimed") return;
        claimed.abort();
        await once(gate.signal, "abort");
      },
    });
    const holding = holder.exporter.process?.([TASK_ID], NEVER, { id: "1" });
    await expect.poll(() => claimed.signal.aborted).toBe(true);
    const twin = await harness.processor();
    await twin.exporter.process?.([TASK_ID], NEVER, { id: "1" });
    gate.abort();
    await holding;
    await twin.idle();
    await harness.quiet();
    expect(harness.received().success_count).toEqual({ "shop.cart.total|celery": 1 });
  });
});

describe("a task that ended too long ago", () => {
  it("is not sent if there is a limit, and counts as sent", async () => {
    const harness = await start({ DATADOG_MAX_AGE_SECONDS: "3600" });
    const now = Date.now() / 1_000;
    await deliver(
      harness,
      [...DONE, taskSucceeded({ uuid: "recent", timestamp: now }), taskSent({ uuid: "recent", timestamp: now - 1 })],
      DONE,
    );
    expect(harness.received().success_count).toEqual({ "shop.cart.total|celery": 1 });
    expect(harness.received().wait_time).toEqual([]);
  });

  it("is counted once, however often its job is tried", async () => {
    const harness = await start({ DATADOG_MAX_AGE_SECONDS: "3600" });
    const port = await freePort();
    const processor = await harness.processor({ env: { DD_DOGSTATSD_PORT: String(port) } });
    await processor.exporter.export([...DONE, taskRejected({ uuid: "recent", timestamp: Date.now() / 1_000 })], NEVER);
    const counted = async (name: string): Promise<number | undefined> =>
      (await processor.metrics.registry.getSingleMetric(`celery_metrics_exporter_datadog_${name}_total`)?.get())?.values[0]?.value;
    await expect.poll(() => counted("send_failures")).toBeGreaterThan(2);
    const back = await startStatsdSink({ port });
    await processor.idle();
    await back.waitFor(() => back.total("celery.task.rejected_count") === 1);
    expect(await counted("completions_expired")).toBe(1);
    await back.close();
  });
});

describe("the opt-in tags", () => {
  it("name worker and exception", async () => {
    const harness = await start({ DATADOG_TAG_WORKER: "true", DATADOG_TAG_EXCEPTION: "true", DATADOG_TAGS: "env:test" });
    await deliver(harness, [...RUN, taskFailed({ ...at(1_003), ...A, exception: "ValueError('x')" })]);
    const common = ["queue:celery", "task_name:shop.cart.total", "env:test", "worker:w1_host-a"];
    expect(harness.sink.select("celery.task.fail_count")[0]?.tags).toEqual([...common, "exception:valueerror"]);
    expect(harness.sink.select("celery.task.run_time")[0]?.tags).toEqual([...common, "state:failure"]);
    expect(harness.sink.select("celery.task.wait_time")[0]?.tags).toEqual([...common, "basis:sent"]);
  });
});
