/** How much the receiver holds at one time, with a source and a delivery that only the test advances. */
import type { EventSource, OnMessage, RawMessage } from "@celery-metrics-exporter/broker";
import { taskStarted } from "@celery-metrics-exporter/celery/testing";
import { Health, Metrics } from "@celery-metrics-exporter/runtime";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { EventAdvice } from "../src/event-advice.ts";
import { ReceiverMetrics } from "../src/receiver-metrics.ts";
import { Receiver, type ReceiverOptions } from "../src/receiver.ts";
import { SenderClocks } from "../src/clocks.ts";

const MAX_BYTES = 1_000;
/** How far the clock of Redis is ahead of ours. */
const AHEAD_SECONDS = 1_000;
const logger = pino({ level: "silent" });

class ManualSource implements EventSource {
  readonly broker = "rabbitmq";
  readonly redelivers = true;
  listeningSince: number | undefined = 0;
  waitingSince: number | undefined;
  paused = false;
  hand: OnMessage = () => {};
  async start(onMessage: OnMessage): Promise<void> {
    this.hand = onMessage;
  }
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  async drain(): Promise<void> {}
  async stop(): Promise<void> {}
}

function message(bytes: number): RawMessage {
  return { bytes, decode: () => ({ events: [taskStarted()], rejected: [] }), ack: () => {} };
}

/** As if the process had been frozen: the clocks go on, and no timer fires. */
function sleepFor(ms: number): number {
  const real = performance.now.bind(performance);
  vi.spyOn(performance, "now").mockImplementation(() => real() + ms);
  vi.setSystemTime(Date.now() + ms);
  return Date.now() / 1_000;
}

describe("the amount that the receiver holds", () => {
  const receivers: Receiver[] = [];
  const stored: (() => void)[] = [];
  afterEach(async () => {
    const draining = Promise.all(receivers.splice(0).map((receiver) => receiver.drain()));
    await new Promise(setImmediate);
    for (const store of stored.splice(0)) store();
    await draining;
  });

  /** A batch closes at every second message, or at `MAX_BYTES`. */
  async function start(options: Partial<ReceiverOptions> = {}): Promise<ManualSource> {
    const source = new ManualSource();
    const health = new Health();
    const receiver = new Receiver({
      source,
      delivery: { deliver: () => new Promise((resolve) => stored.push(() => resolve(true))) },
      reportListened: async () => {},
      onWorkerOnline: () => {},
      isActive: () => true,
      takes: () => true,
      fullBecause: () => undefined,
      batch: { maxEvents: 2, maxMessages: 10, maxMs: 60_000, maxBytes: MAX_BYTES },
      clock: { now: () => AHEAD_SECONDS + Date.now() / 1_000, sync: () => Promise.resolve(false) },
      redaction: undefined,
      metrics: new ReceiverMetrics(new Metrics(), "rabbitmq"),
      advice: new EventAdvice(logger),
      clocks: new SenderClocks({ now: () => Date.now() / 1_000, health: health.component("clock"), logger }),
      health: health.component("taking"),
      logger,
      ...options,
    });
    receivers.push(receiver);
    await receiver.start();
    return source;
  }

  it("is at most four batches", async () => {
    const source = await start();
    for (let count = 0; count < 7; count += 1) source.hand(message(10));
    expect(source.paused).toBe(false);
    source.hand(message(10));
    expect(source.paused).toBe(true);
    stored.shift()?.();
    await expect.poll(() => source.paused).toBe(false);
  });

  it("carries the time by the clock of Redis", async () => {
    const closedAt: number[] = [];
    const deliver: ReceiverOptions["delivery"]["deliver"] = (batch) => Promise.resolve(closedAt.push(batch.closedAt) > 0);
    const source = await start({ delivery: { deliver }, clock: { now: () => 1_234, sync: () => Promise.resolve(false) } });
    for (let count = 0; count < 2; count += 1) source.hand(message(10));
    expect(closedAt).toEqual([1_234]);
  });

  it("is at most as many bytes as one batch may have, or a single batch", async () => {
    const source = await start();
    for (let count = 0; count < 3; count += 1) source.hand(message(300));
    expect(source.paused).toBe(false);
    source.hand(message(300));
    expect(source.paused).toBe(true);
    stored.shift()?.();
    await expect.poll(() => source.paused).toBe(false);
    source.hand(message(5_000));
    expect(source.paused).toBe(true);
  });

  describe("and that it listens", () => {
    const reported: { readonly since: number; readonly until: number }[] = [];
    let isActive = true;
    let full: string | undefined;
    const BATCH = { maxEvents: 2, maxMessages: 10, maxBytes: MAX_BYTES };
    const listens = (maxMs = 1, clock?: ReceiverOptions["clock"]): Promise<ManualSource> =>
      start({
        ...(clock && { clock }),
        batch: { ...BATCH, maxMs },
        reportListened: async ({ since, until }) => void reported.push({ since: since - AHEAD_SECONDS, until: until - AHEAD_SECONDS }),
        isActive: () => isActive,
        fullBecause: () => full,
      });
    beforeEach(() => {
      vi.useFakeTimers();
      reported.length = 0;
      isActive = true;
      full = undefined;
    });
    afterEach(() => {
      vi.restoreAllMocks();
      vi.useRealTimers();
    });

    it("is reported for the whole time, although no event arrives", async () => {
      const source = await listens();
      const startedAt = Date.now() / 1_000;
      source.listeningSince = performance.now();
      await vi.advanceTimersByTimeAsync(11_000);
      expect(reported).toHaveLength(2);
      for (const { since } of reported) expect(since).toBeCloseTo(startedAt, 1);
      expect(reported.map(({ until }) => Math.round(until - startedAt))).toEqual([5, 10]);
    });

    it.each<[string, (source: ManualSource) => void, (source: ManualSource) => void]>([
      ["while it is disconnected", (source) => (source.listeningSince = undefined), (source) => (source.listeningSince = 0)],
      ["while a queue is full", () => (full = "a queue is full"), () => (full = undefined)],
    ])("is not reported %s, and afterwards only for the time since", async (_, begin, end) => {
      const source = await listens();
      await vi.advanceTimersByTimeAsync(2_000);
      begin(source);
      await vi.advanceTimersByTimeAsync(9_000);
      expect(reported).toEqual([]);
      const endedAt = Date.now() / 1_000;
      end(source);
      await vi.advanceTimersByTimeAsync(6_000);
      expect(reported).toHaveLength(1);
      expect(reported[0]?.since).toBeGreaterThanOrEqual(endedAt);
    });

    it("is not reported by a standby", async () => {
      isActive = false;
      await listens();
      await vi.advanceTimersByTimeAsync(11_000);
      expect(reported).toEqual([]);
    });

    it("is reported once the batches before are stored, and for the time after one that took long", async () => {
      const source = await listens();
      source.hand(message(10));
      await vi.advanceTimersByTimeAsync(11_000);
      expect(reported).toEqual([]);
      const storedAt = Date.now() / 1_000;
      stored.shift()?.();
      await vi.advanceTimersByTimeAsync(6_000);
      expect(reported).toHaveLength(1);
      expect(reported[0]?.since).toBeGreaterThanOrEqual(storedAt);
    });

    it("is reported up to now, although a batch may stay open for a minute", async () => {
      const source = await listens(60_000);
      const startedAt = Date.now() / 1_000;
      await vi.advanceTimersByTimeAsync(1_000);
      source.hand(message(10));
      await vi.advanceTimersByTimeAsync(4_500);
      expect(reported, "its events are not stored yet").toEqual([]);
      stored.shift()?.();
      await vi.advanceTimersByTimeAsync(10);
      expect(reported.map(({ until }) => Math.round(until - startedAt))).toEqual([5]);
    });

    it("is not reported of the time in which the process was frozen", async () => {
      const source = await listens();
      source.listeningSince = performance.now();
      await vi.advanceTimersByTimeAsync(5_500);
      const before = reported.splice(0);
      expect(before).toHaveLength(1);
      const wokenAt = sleepFor(60_000);
      await vi.advanceTimersByTimeAsync(5_500);
      expect(reported).toHaveLength(1);
      expect(reported[0]?.since).toBeGreaterThanOrEqual(wokenAt);
    });

    it("is not reported of the time before a step of the clock", async () => {
      let hasStepped = false;
      await listens(1, { now: () => AHEAD_SECONDS + Date.now() / 1_000, sync: () => Promise.resolve(hasStepped) });
      await vi.advanceTimersByTimeAsync(9_500);
      hasStepped = true;
      await vi.advanceTimersByTimeAsync(1_000);
      hasStepped = false;
      const steppedAt = Date.now() / 1_000 - 1;
      await vi.advanceTimersByTimeAsync(5_000);
      expect(reported).toHaveLength(2);
      expect(reported[1]?.since).toBeGreaterThanOrEqual(steppedAt);
    });

    it("is reported up to the oldest message that waits, while the source is paused", async () => {
      const source = await listens();
      const startedAt = Date.now() / 1_000;
      await vi.advanceTimersByTimeAsync(3_000);
      source.waitingSince = performance.now();
      await vi.advanceTimersByTimeAsync(2_500);
      expect(reported.map(({ until }) => Math.round(until - startedAt))).toEqual([3]);
    });
  });
});
