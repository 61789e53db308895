import { bench, describe } from "vitest";
import { DogstatsdPackets } from "../src/agent/dogstatsd-packets.ts";
import { TaskMetricsMapper, type TaskMetrics } from "../src/metrics/metrics.ts";

const TASKS = 500;
const tasks = Array.from({ length: TASKS }, (_, index): TaskMetrics => {
  const worker = "w1@host-a";
  const finishedAt = 1_795_328_901 + index;
  const labels = { name: `shop.task_${index % 20}`, queue: `queue_${index % 5}` };
  const known = { exception: undefined, lacksStart: false, lacksRevocation: false, lacksEnd: false, lacksFailure: false, excluded: false };
  return {
    completions: [{ ...labels, ...known, state: "SUCCESS", runTime: index / 1_000, worker, finishedAt }],
    retries: [],
    waits: [{ ...labels, seconds: index / 997, basis: "sent", skewed: false, startedAt: finishedAt - 1, worker }],
  };
});
const mapper = new TaskMetricsMapper({
  prefix: "celery.",
  tags: ["env:prod"],
  timerType: "distribution",
  tagWorker: false,
  tagException: false,
});
const packets = new DogstatsdPackets(1_432);
const series = mapper.seriesOf(tasks);

describe(`metrics of ${TASKS} tasks`, () => {
  bench("to series", () => void mapper.seriesOf(tasks));
  bench(`${series.length} series to datagrams`, () => void packets.encode(series));
});
