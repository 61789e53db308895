/** Recorded frames of real Celery through both brokers, in any order and repeated: every row and every metric is as expected. */
import { corpusNames, readCorpus, type Corpus, type CorpusFrame, type CorpusName } from "@celery-metrics-exporter/celery/testing";
import { seededRandom, sharedRabbitmqUrl, shuffled, startRedis, type RedisServer, type StatsdSink } from "@celery-metrics-exporter/testkit";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startWholePipeline } from "./whole-pipeline.ts";

/** Instants are whole microseconds. */
const TOLERANCE_SECONDS = 2e-6;

/** Long, because a `task-sent` that arrives later would be given up, and the machine may be busy. */
const GRACE_MS = 4_000;

const SEED = 20_261_122;

let redis: RedisServer;

beforeAll(async () => {
  redis = await startRedis();
});

afterAll(async () => {
  await redis.stop();
});

const orders: Readonly<Record<string, (frames: readonly CorpusFrame[]) => readonly CorpusFrame[]>> = {
  "as recorded": (frames) => frames,
  shuffled: (frames) => shuffled(frames, seededRandom(SEED)),
  "shuffled and repeated": (frames) => shuffled([...frames, ...frames], seededRandom(SEED)),
};

describe.each(corpusNames)("the frames of %s", (corpusName) => {
  const corpus = readCorpus(corpusName);

  it.concurrent.each(Object.keys(orders))("%s, result in every row and every metric", async (order) => {
    const frames = orders[order]?.(corpus.frames) ?? [];
    const pipeline = await startWholePipeline({
      redisUrl: redis.url,
      brokerUrl: brokerUrl(corpusName),
      name: `corpus-${corpusName}-${order.replaceAll(" ", "-")}`,
      env: {
        DATADOG_GRACE_MS: String(GRACE_MS),
        // Short waits, for tasks whose name never arrives, and for the lease of the job that has sent the first of two copies.
        DATADOG_INCOMPLETE_WAIT_MS: "1500",
        DATADOG_LEASE_MS: "2000",
      },
    });
    try {
      await pipeline.publish(frames);
      await pipeline.handled(frames.reduce((sum, frame) => sum + corpus.decode(frame).events.length, 0));

      expect(await pipeline.deadLetters()).toBe(0);
      expectRows(await pipeline.rows(), corpus);
      expect(pipeline.sink.errors).toEqual([]);
      expectMetrics(pipeline.sink, corpus);
    } finally {
      await pipeline.close();
    }
  });
});

function brokerUrl(name: CorpusName): string {
  return name.includes("redis") ? redis.url : sharedRabbitmqUrl();
}

function expectRows(rows: readonly Record<string, unknown>[], { expected }: Corpus): void {
  const byId = new Map(rows.map((row) => [String(row["task_id"]), row]));
  expect([...byId.keys()].sort()).toEqual(Object.keys(expected).sort());
  const differences = Object.entries(expected).flatMap(([id, wanted]) =>
    Object.entries(wanted)
      .filter(([column, value]) => !isSame(byId.get(id)?.[column], value))
      .map(([column, value]) => `${id}.${column}: ${String(byId.get(id)?.[column])} instead of ${String(value)}`),
  );
  expect(differences).toEqual([]);
}

function isSame(actual: unknown, wanted: unknown): boolean {
  if (typeof wanted === "number") return Math.abs(Number(actual) - wanted) < TOLERANCE_SECONDS;
  return (actual ?? null) === (wanted ?? null);
}

const COUNTS = ["success_count", "fail_count", "revoked_count", "rejected_count", "retry_count"] as const;

/** `task_name|queue`, the form in the recordings. */
function taskOf(tags: readonly string[]): string {
  return `${valueOf(tags, "task_name")}|${valueOf(tags, "queue")}`;
}

function valueOf(tags: readonly string[], name: string): string {
  return tags.find((tag) => tag.startsWith(`${name}:`))?.slice(name.length + 1) ?? "";
}

function expectMetrics(sink: StatsdSink, { metrics }: Corpus): void {
  for (const count of COUNTS) {
    const totals: Record<string, number> = {};
    for (const { tags, values } of sink.select(`celery.task.${count}`)) {
      totals[taskOf(tags)] = (totals[taskOf(tags)] ?? 0) + values.reduce((sum, value) => sum + value, 0);
    }
    expect(totals, count).toEqual(metrics[count]);
  }
  const runs = metrics.run_time.map(([task, state, seconds]) => [`${task} ${state}`, seconds] as const);
  expectDurations(durationsOf(sink, "run_time", "state"), runs);
  const waits = metrics.wait_time.map(([task, seconds, basis]) => [`${task} ${basis}`, seconds] as const);
  expectDurations(durationsOf(sink, "wait_time", "basis"), waits);
}

type Duration = readonly [label: string, seconds: number];

function durationsOf(sink: StatsdSink, name: string, tag: string): Duration[] {
  return sink
    .select(`celery.task.${name}`)
    .flatMap(({ tags, values }) => values.map((value) => [`${taskOf(tags)} ${valueOf(tags, tag)}`, value] as const));
}

function expectDurations(actual: readonly Duration[], expected: readonly Duration[]): void {
  const sorted = (durations: readonly Duration[]): Duration[] =>
    [...durations].sort(([label, seconds], [other, otherSeconds]) => (label < other ? -1 : label > other ? 1 : seconds - otherSeconds));
  expect(sorted(actual).map(([label]) => label)).toEqual(sorted(expected).map(([label]) => label));
  const wanted = sorted(expected);
  for (const [index, [label, seconds]] of sorted(actual).entries()) {
    expect(Math.abs(seconds - (wanted[index]?.[1] ?? Number.NaN)), `${label}: ${seconds}`).toBeLessThan(TOLERANCE_SECONDS);
  }
}
