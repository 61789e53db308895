/** What the label `hostname` says, and which series there are for it. */
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { parseScrape } from "@celery-metrics-exporter/testkit";
import { taskFailed, taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PrometheusHarness, scrape } from "./prometheus-harness.ts";

const signal = new AbortController().signal;
/** On two workers of one host. */
const LIVES = ["w1@host-a", "w2@host-a"].flatMap((hostname) => [
  taskSent({ uuid: hostname }),
  taskReceived({ uuid: hostname, hostname }),
  taskStarted({ uuid: hostname, hostname }),
  taskSucceeded({ uuid: hostname, hostname }),
]);
const OF_WORKERS = ["failed", "received", "rejected", "retried", "revoked", "started", "succeeded"];

let harness: PrometheusHarness;
beforeEach(async () => {
  harness = await PrometheusHarness.start();
});
afterEach(() => harness.close());

/** The counters by their kind and hostname. */
async function shown(events: readonly CeleryEvent[], env: Readonly<Record<string, string>>): Promise<Record<string, number>> {
  const processor = await harness.started(env);
  await processor.exporter.export(events, signal);
  await processor.idle();
  const counters: Record<string, number> = {};
  for (const [series, value] of parseScrape(await scrape(processor.url()))) {
    const [, kind, labels = ""] = /^celery_task_(\w+)_total(.*)$/.exec(series) ?? [];
    if (kind !== undefined) counters[`${kind} ${/hostname="([^"]*)"/.exec(labels)?.[1]}`] = value;
  }
  return counters;
}

function ofWorker(hostname: string, runs: number): Record<string, number> {
  const ran = ["received", "started", "succeeded"];
  return Object.fromEntries(OF_WORKERS.map((kind) => [`${kind} ${hostname}`, ran.includes(kind) ? runs : 0]));
}

describe("the hostname", () => {
  it.each([
    ["generic", { "sent generic": 2, ...ofWorker("generic", 2) }],
    ["host", { "sent generic": 2, "sent host-a": 0, ...ofWorker("host-a", 2) }],
    ["worker", { "sent generic": 2, "sent w1@host-a": 0, "sent w2@host-a": 0, ...ofWorker("w1@host-a", 1), ...ofWorker("w2@host-a", 1) }],
  ])("is %s: clients have only what they sent", async (label, series) => {
    expect(await shown(LIVES, { PROMETHEUS_HOSTNAME_LABEL: label })).toEqual(series);
  });

  it("may be that of a host called generic", async () => {
    const events = [taskSent(), taskFailed({ hostname: "w1@generic" })];
    expect(await shown(events, { PROMETHEUS_HOSTNAME_LABEL: "host" })).toMatchObject({ "sent generic": 1, "received generic": 0 });
  });

  it("is the same for a task that was only sent, whose counters of workers are at 0 then", async () => {
    expect(await shown([taskSent()], {})).toEqual({ "sent generic": 1, ...ofWorker("generic", 0) });
  });
});

it.each([
  ["true", ['exception="" 0', 'exception="ValueError" 1']],
  ["false", ['exception="" 1']],
])("failures are at 0 before the first only without an exception, with PROMETHEUS_EXCEPTION_LABEL=%s", async (label, failures) => {
  const processor = await harness.started({ PROMETHEUS_EXCEPTION_LABEL: label });
  const shownFailures = async (): Promise<string[]> =>
    [...parseScrape(await scrape(processor.url()))].flatMap(([series, value]) => {
      const exception = /^celery_task_failed_total\{(exception="\w*")/.exec(series)?.[1];
      return exception === undefined ? [] : [`${exception} ${value}`];
    });
  await processor.exporter.export([taskSent(), taskReceived()], signal);
  expect(await shownFailures()).toEqual(['exception="" 0']);
  await processor.exporter.export([taskFailed()], signal);
  await expect.poll(shownFailures).toEqual(failures);
});
