/** What the exposition shows while the leadership changes. */
import { UnavailableError, createLogger } from "@celery-metrics-exporter/runtime";
import { expect, it } from "vitest";
import { setTimeout as sleep } from "node:timers/promises";
import { text as textFrom } from "node:stream/consumers";
import { HistogramFields } from "../../src/counting/fields.ts";
import { Exposition, type ExpositionOptions, type Read } from "../../src/exposition/exposition.ts";
import { type Family, TextWriter } from "../../src/exposition/text.ts";

/** Longer than a snapshot answers scrapes. */
const NEXT_SNAPSHOT_MS = 1_100;
const READ: Read = {
  epoch: "1",
  shards: [{ counts: "x.r 5", floors: "" }],
  labels: new Map([["x", ["shop.charge", "celery", "generic"]]]),
  exceptions: new Map(),
  created: new Map(),
  states: [],
  listenedUntil: undefined,
  queues: undefined,
  workers: undefined,
};

async function textOf(families: readonly Family[]): Promise<string> {
  return textFrom(new TextWriter("text").write(families));
}

function createExposition(options: Pick<ExpositionOptions, "isActive" | "isUncertain" | "read"> & Partial<ExpositionOptions>): Exposition {
  return new Exposition({
    prefix: "celery_",
    exceptionLabel: true,
    hostnameLabel: "generic",
    workerTimeoutSeconds: 300,
    queuePriorities: false,
    runtime: new HistogramFields("t", [1]),
    failedRuntime: new HistogramFields("u", [1]),
    wait: new HistogramFields("w", [1]),
    activeSince: () => 0,
    logger: createLogger("prometheus", "silent"),
    ...options,
  });
}

it("shows nothing if another process has taken over while Redis was slow", async () => {
  let isActive = true;
  let answer: ((read: Read) => void) | undefined;
  const exposition = createExposition({
    isActive: () => isActive,
    isUncertain: () => false,
    read: () => new Promise<Read>((resolve) => (answer = resolve)),
  });
  const shown = async (): Promise<string> => {
    const families = exposition.families();
    answer?.(READ);
    return textOf(await families);
  };
  expect(await shown()).toContain('celery_task_received_total{hostname="generic",name="shop.charge",queue_name="celery"} 5.0');
  isActive = false;
  expect(await shown()).toMatch(/^celery_exporter_active 0\.0$/m);
  isActive = true;
  const late = exposition.families();
  isActive = false;
  answer?.(READ);
  const text = await textOf(await late);
  expect(text).toMatch(/^celery_exporter_active 0\.0$/m);
  expect(text).not.toContain("celery_task_received");
});

it("shows nothing while another process may show newer values, and then nothing smaller than before", async () => {
  let [isActive, isUncertain] = [true, false];
  let read = READ;
  const exposition = createExposition({
    isActive: () => isActive,
    isUncertain: () => isUncertain,
    read: () => Promise.resolve(read),
  });
  const received = async (): Promise<string | undefined> =>
    /^celery_task_received_total.* (\S+)$/m.exec(await textOf(await exposition.families()))?.[1];
  expect(await received()).toBe("5.0");
  [isActive, isUncertain] = [false, true];
  await expect(exposition.families()).rejects.toThrow(UnavailableError);
  [isActive, isUncertain] = [true, false];
  read = { ...READ, shards: [{ counts: "x.r 4", floors: "" }] };
  await sleep(NEXT_SNAPSHOT_MS);
  expect(await received()).toBe("5.0");
});

it("shows nothing of an earlier time when it was active, because another process may have shown newer values since", async () => {
  let activeSince = 0;
  let isSlow = false;
  let answer: ((read: Read) => void) | undefined;
  const exposition = createExposition({
    isActive: () => true,
    isUncertain: () => false,
    activeSince: () => activeSince,
    read: () => (isSlow ? new Promise<Read>((resolve) => (answer = resolve)) : Promise.resolve(READ)),
  });
  expect(await textOf(await exposition.families())).toContain("celery_task_received_total{");
  await sleep(NEXT_SNAPSHOT_MS);
  isSlow = true;
  // Still the same time: an older result is right.
  expect(await textOf(await exposition.families())).toContain("celery_task_received_total{");
  activeSince = performance.now();
  await expect(exposition.families()).rejects.toThrow(UnavailableError);
  // What was asked for before does not count either.
  answer?.(READ);
  await expect(exposition.families()).rejects.toThrow(UnavailableError);
});

it("says once that Redis has lost the counts, and starts again at 0", async () => {
  const lines: string[] = [];
  let read = READ;
  const exposition = createExposition({
    isActive: () => true,
    isUncertain: () => false,
    read: () => Promise.resolve(read),
    logger: createLogger("prometheus", "warn", { write: (line) => void lines.push(line) }),
  });
  const received = async (): Promise<string> => {
    const text = await textOf(await exposition.families());
    await sleep(NEXT_SNAPSHOT_MS);
    return /^celery_task_received_total.* (\S+)$/m.exec(text)?.[1] ?? "";
  };
  expect([await received(), lines]).toEqual(["5.0", []]);
  read = { ...READ, epoch: "2", shards: [{ counts: "x.r 1", floors: "" }] };
  expect([await received(), await received()]).toEqual(["1.0", "1.0"]);
  expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual(["Redis has lost the counts: they start again at 0"]);
});
