import { describe, expect, it } from "vitest";
import { TaskMetricsMapper, type MetricOptions, type TaskMetrics } from "../src/metrics/metrics.ts";

const PLAIN: MetricOptions = { prefix: "celery.", tags: [], timerType: "distribution", tagWorker: false, tagException: false };

const KNOWN = { lacksStart: false, lacksRevocation: false, lacksEnd: false, lacksFailure: false, excluded: false };

function failed(queue: string): TaskMetrics {
  const labels = { name: "shop.cart.total", queue };
  return {
    completions: [{ ...labels, ...KNOWN, state: "FAILURE", finishedAt: 1, runTime: 0.25, worker: "w1@host-a", exception: "ValueError" }],
    waits: [
      { ...labels, seconds: 1.5, basis: "sent", skewed: false, startedAt: 0.75, worker: "w1@host-a" },
      { ...labels, seconds: 0.5, basis: "received", skewed: false, startedAt: 0.5, worker: "w2@host-b" },
    ],
    retries: [],
  };
}

const FAILED = failed("celery");

function lines(tasks: readonly TaskMetrics[], options: Partial<MetricOptions> = {}): string[] {
  const series = new TaskMetricsMapper({ ...PLAIN, ...options }).seriesOf(tasks);
  return series.map(({ name, type, tags, values }) => `${name} ${type} ${values.join(" ")} ${tags}`);
}

describe("the metrics of a task", () => {
  it("are a count, its run time and its waits, tagged with queue and name", () => {
    expect(lines([FAILED])).toEqual([
      "celery.task.fail_count c 1 queue:celery,task_name:shop.cart.total",
      "celery.task.run_time d 0.25 queue:celery,task_name:shop.cart.total,state:failure",
      "celery.task.wait_time d 1.5 queue:celery,task_name:shop.cart.total,basis:sent",
      "celery.task.wait_time d 0.5 queue:celery,task_name:shop.cart.total,basis:received",
    ]);
  });

  it.each([
    ["SUCCESS", "celery.task.success_count"],
    ["FAILURE", "celery.task.fail_count"],
    ["REVOKED", "celery.task.revoked_count"],
    ["REJECTED", "celery.task.rejected_count"],
  ] as const)("count %s as %s, with unknown if no event contained the value", (state, name) => {
    const unknown = { name: undefined, queue: undefined, runTime: undefined, worker: undefined, exception: undefined };
    const task: TaskMetrics = { completions: [{ ...unknown, ...KNOWN, state, finishedAt: 1 }], waits: [], retries: [] };
    expect(lines([task])).toEqual([`${name} c 1 queue:unknown,task_name:unknown`]);
  });

  it("count retries under the attempt that was retried", () => {
    const retry = { name: "shop.cart.total", queue: "celery", retriedAt: 1, worker: "w1@host-a" };
    const task: TaskMetrics = { completions: [], waits: [], retries: [retry, { ...retry, queue: undefined }, retry] };
    expect(lines([task], { tagWorker: true })).toEqual([
      "celery.task.retry_count c 2 queue:celery,task_name:shop.cart.total,worker:w1_host-a",
      "celery.task.retry_count c 1 queue:unknown,task_name:shop.cart.total,worker:w1_host-a",
    ]);
  });

  it("add up counts and collect values with the same tags", () => {
    expect(lines([FAILED, FAILED, failed("mail")]).filter((line) => !line.includes("wait_time"))).toEqual([
      "celery.task.fail_count c 2 queue:celery,task_name:shop.cart.total",
      "celery.task.fail_count c 1 queue:mail,task_name:shop.cart.total",
      "celery.task.run_time d 0.25 0.25 queue:celery,task_name:shop.cart.total,state:failure",
      "celery.task.run_time d 0.25 queue:mail,task_name:shop.cart.total,state:failure",
    ]);
  });

  it("carry worker and exception if they are turned on", () => {
    expect(lines([FAILED], { tagWorker: true, tagException: true })).toEqual([
      "celery.task.fail_count c 1 queue:celery,task_name:shop.cart.total,worker:w1_host-a,exception:valueerror",
      "celery.task.run_time d 0.25 queue:celery,task_name:shop.cart.total,worker:w1_host-a,state:failure",
      "celery.task.wait_time d 1.5 queue:celery,task_name:shop.cart.total,worker:w1_host-a,basis:sent",
      "celery.task.wait_time d 0.5 queue:celery,task_name:shop.cart.total,worker:w2_host-b,basis:received",
    ]);
  });

  it.each([
    ["histogram", "h", "0.25"],
    ["timing", "ms", "250"],
  ] as const)("have the type %s by setting", (timerType, type, value) => {
    expect(lines([FAILED], { timerType })[1]).toBe(
      `celery.task.run_time ${type} ${value} queue:celery,task_name:shop.cart.total,state:failure`,
    );
  });

  it("carry the tags and the prefix of the settings, each tag once", () => {
    expect(lines([FAILED], { prefix: "shop.", tags: ["env:Prod", "team:x y", "env:prod", " "] })[0]).toBe(
      "shop.task.fail_count c 1 queue:celery,task_name:shop.cart.total,env:prod,team:x_y",
    );
  });
});
