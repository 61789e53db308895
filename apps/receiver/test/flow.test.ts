/** How much the receiver holds at one time, with a source and a delivery that only the test advances. */
import type { EventSource, OnMessage, RawMessage } from "@celery-metrics-exporter/broker";
import { taskStarted } from "@celery-metrics-exporter/celery/testing";
import { Health, Metrics } from "@celery-metrics-exporter/runtime";
import { pino } from "pino";
import { afterEach, describe, expect, it } from "vitest";
import { EventAdvice } from "../src/event-advice.ts";
import { ReceiverMetrics } from "../src/receiver-metrics.ts";
import { Receiver } from "../src/receiver.ts";
import { SenderClocks } from "../src/clocks.ts";

const MAX_BYTES = 1_000;
const logger = pino({ level: "silent" });

class ManualSource implements EventSource {
  readonly broker = "rabbitmq";
  readonly redelivers = true;
  readonly listeningSince = 0;
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
  async function start(): Promise<ManualSource> {
    const source = new ManualSource();
    const health = new Health();
    const receiver = new Receiver({
      source,
      delivery: { deliver: () => new Promise((resolve) => stored.push(() => resolve(true))) },
      tellListened: async () => {},
      onWorkerOnline: () => {},
      isActive: () => true,
      takes: () => true,
      fullBecause: () => undefined,
      batch: { maxEvents: 2, maxMessages: 10, maxMs: 60_000, maxBytes: MAX_BYTES },
      redaction: undefined,
      metrics: new ReceiverMetrics(new Metrics(), "rabbitmq"),
      advice: new EventAdvice(logger),
      clocks: new SenderClocks({ now: () => Date.now() / 1_000, health: health.component("clock"), logger }),
      health: health.component("taking"),
      logger,
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
});
