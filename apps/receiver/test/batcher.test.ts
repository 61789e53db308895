import type { RawMessage } from "@celery-metrics-exporter/broker";
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { taskStarted } from "@celery-metrics-exporter/celery/testing";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Batcher, type Batch, type BatcherOptions } from "../src/batches.ts";

const REJECTED = { reason: "body", detail: "", raw: "", count: 1 } as const;

function message(bytes = 100): RawMessage {
  return { bytes, decode: () => ({ events: [], rejected: [] }), ack: () => {} };
}

const contentOf = (events: readonly CeleryEvent[]) => ({ events, rejected: [], future: [] });
const events = (count: number) => Array.from({ length: count }, (_, index) => taskStarted({ uuid: String(index) }));

describe("Batcher", () => {
  let batches: Batch[];
  beforeEach(() => {
    vi.useFakeTimers();
    batches = [];
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function batcherOf(bounds: Partial<BatcherOptions> = {}): Batcher {
    return new Batcher({
      maxEvents: 10,
      maxMessages: 100,
      maxMs: 50,
      maxBytes: 1_000,
      now: () => 1_000,
      onBatch: (batch) => batches.push(batch),
      ...bounds,
    });
  }

  const sizes = (): number[] => batches.map((batch) => batch.events.length);

  it("closes at the number of events", () => {
    const batcher = batcherOf();
    for (let count = 0; count < 21; count++) batcher.add(message(1), contentOf(events(1)));
    expect(sizes()).toEqual([10, 10]);
  });

  it("closes at the number of messages, whatever they contain", () => {
    const batcher = batcherOf({ maxMessages: 2 });
    for (const count of [1, 4, 0, 1, 1]) batcher.add(message(1), contentOf(events(count)));
    expect(sizes()).toEqual([5, 1]);
  });

  it("closes before a message that would not fit, and never splits a message", () => {
    const batcher = batcherOf();
    for (const count of [4, 4, 4, 24, 1]) batcher.add(message(1), contentOf(events(count)));
    batcher.flush();
    expect(sizes()).toEqual([8, 4, 24, 1]);
  });

  it("closes at the number of bytes", () => {
    const batcher = batcherOf();
    for (const bytes of [400, 400, 400, 5_000, 600, 400]) batcher.add(message(bytes), contentOf(events(1)));
    expect(sizes()).toEqual([2, 1, 1, 2]);
  });

  it("closes at the age of its first message", () => {
    const batcher = batcherOf();
    batcher.add(message(), contentOf(events(1)));
    vi.advanceTimersByTime(30);
    batcher.add(message(), contentOf(events(1)));
    vi.advanceTimersByTime(19);
    expect(sizes()).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(sizes()).toEqual([2]);
    batcher.add(message(), contentOf(events(1)));
    vi.advanceTimersByTime(49);
    expect(sizes()).toEqual([2]);
    vi.advanceTimersByTime(1);
    expect(sizes()).toEqual([2, 1]);
  });

  it("does not let the timer of a full batch close the next one early", () => {
    const batcher = batcherOf();
    batcher.add(message(), contentOf(events(1)));
    vi.advanceTimersByTime(40);
    batcher.add(message(), contentOf(events(9)));
    batcher.add(message(), contentOf(events(1)));
    vi.advanceTimersByTime(49);
    expect(sizes()).toEqual([10]);
    vi.advanceTimersByTime(1);
    expect(sizes()).toEqual([10, 1]);
  });

  it("counts rejects and messages without events, because they must be acknowledged too", () => {
    const batcher = batcherOf();
    const messages = Array.from({ length: 10 }, () => message(1));
    for (const [index, each] of messages.entries()) batcher.add(each, { ...contentOf([]), rejected: index % 2 === 0 ? [REJECTED] : [] });
    const closedAt = 1_000;
    expect(batches).toEqual([
      { messages, events: [], future: [], rejected: Array.from({ length: 5 }, () => REJECTED), bytes: 10, closedAt },
    ]);
  });

  it("flushes nothing if it is empty", () => {
    batcherOf().flush();
    expect(batches).toEqual([]);
  });
});
