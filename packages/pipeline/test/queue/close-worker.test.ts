import { createLogger } from "@celery-metrics-exporter/runtime";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { closeWorker } from "../../src/queue/queue-worker.ts";

/** Lets one turn of the event loop pass for each pause, because node:timers/promises cannot be faked. */
const turns = async (count: number): Promise<void> => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setTimeout(resolve, 210));
};

beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"] }));
afterEach(() => void vi.useRealTimers());

it("does not abandon a worker because the host's clock is set", async () => {
  let isAbandoned = false;
  const end = new AbortController();
  const worker: Parameters<typeof closeWorker>[0] = {
    isConnected: false,
    close: () => new Promise((resolve) => end.signal.addEventListener("abort", () => resolve())),
    abandon: () => void (isAbandoned = true),
  };
  const closing = closeWorker(worker, new AbortController().signal, createLogger("test", "silent"));
  await turns(1);
  vi.setSystemTime(Date.now() + 3_600_000);
  await turns(3);
  expect(isAbandoned).toBe(false);
  end.abort();
  await closing;
});
