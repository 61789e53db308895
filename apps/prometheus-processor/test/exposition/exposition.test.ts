/** What the exposition shows while the leadership changes. */
import { createLogger } from "@celery-metrics-exporter/runtime";
import { expect, it } from "vitest";
import { text as textFrom } from "node:stream/consumers";
import { HistogramFields } from "../../src/counting/fields.ts";
import { Exposition, type Read } from "../../src/exposition/exposition.ts";
import { type Family, TextWriter } from "../../src/exposition/text.ts";

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

it("shows nothing if another process has taken over while Redis was slow", async () => {
  let isActive = true;
  let answer: ((read: Read) => void) | undefined;
  const exposition = new Exposition({
    prefix: "celery_",
    exceptionLabel: true,
    hostnameLabel: "generic",
    workerTimeoutSeconds: 300,
    queuePriorities: false,
    runtime: new HistogramFields("t", [1]),
    failedRuntime: new HistogramFields("u", [1]),
    wait: new HistogramFields("w", [1]),
    isActive: () => isActive,
    isUncertain: () => false,
    read: () => new Promise<Read>((resolve) => (answer = resolve)),
    logger: createLogger("prometheus", "silent"),
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
