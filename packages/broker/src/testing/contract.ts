/** The contract tests of event sources. They run against a real broker. */
import type { HealthReport } from "@celery-metrics-exporter/runtime";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { EventSource } from "../source/source.ts";
import { Recorder } from "./recorder.ts";

/** One source on a real broker without other users. */
export interface EventSourceHarness {
  readonly source: EventSource;
  /** Creates another source on the same broker, as a second or a later process would. */
  another(): EventSource;
  /** Publishes a message with this body the way Celery publishes an event. Resolves when the broker has it. */
  publish(body: string): Promise<void>;
  /** Cuts the source's connection. */
  cut(): void;
  readiness(): HealthReport;
  /** The value of a metric, by name without prefix. */
  metric(name: string): Promise<number>;
  release(): Promise<void>;
}

const QUIET_MS = 150;

export function describeEventSource(name: string, makeHarness: () => Promise<EventSourceHarness>): void {
  describe(`${name} as an event source`, () => {
    let harness: EventSourceHarness;
    let source: EventSource;
    let recorder: Recorder;

    beforeEach(async () => {
      harness = await makeHarness();
      source = harness.source;
      recorder = new Recorder();
    });
    afterEach(async () => {
      await source.stop();
      await harness.release();
    });

    const publish = async (...types: string[]): Promise<void> => {
      for (const type of types) await harness.publish(JSON.stringify(event(type)));
    };

    it("hands over messages in order of publication, with their events", async () => {
      await source.start(recorder.onMessage);
      const types = Array.from({ length: 200 }, (_, index) => `task-custom${index}`);
      await publish(...types);
      await recorder.waitFor(200);
      expect(recorder.types).toEqual(types);
      expect(recorder.events[0]).toMatchObject({ uuid: "id-task-custom0", hostname: "w1@host-a", timestamp: 1_795_328_908.5 });
      expect(recorder.messages[0]?.bytes).toBeGreaterThan(50);
    });

    it("hands over a list of events as one message", async () => {
      await source.start(recorder.onMessage);
      await harness.publish(JSON.stringify([event("task-received"), event("task-started")]));
      await recorder.waitFor(1);
      expect(recorder.types).toEqual(["task-received", "task-started"]);
    });

    it("hands over an undecodable message with its reason, and continues", async () => {
      await source.start(recorder.onMessage);
      await harness.publish("{not json");
      await publish("task-started");
      await recorder.waitFor(2);
      expect(recorder.decoded[0]).toMatchObject({ events: [], rejected: [{ reason: "body" }] });
      expect(recorder.types).toEqual(["task-started"]);
    });

    it("is ready once started, and not before", async () => {
      expect(harness.readiness().components).toMatchObject({ broker: "starting" });
      await source.start(recorder.onMessage);
      expect(harness.readiness().ready).toBe(true);
    });

    it("hands over nothing while paused, and everything received meanwhile once resumed", async () => {
      await source.start(recorder.onMessage);
      source.pause();
      source.pause();
      await publish("task-received", "task-started");
      await sleep(QUIET_MS);
      expect(recorder.types).toEqual([]);
      source.resume();
      source.resume();
      await recorder.waitFor(2);
      expect(recorder.types).toEqual(["task-received", "task-started"]);
    });

    it("can be paused inside onMessage, and then hands over no further message", async () => {
      await source.start((message) => {
        recorder.onMessage(message);
        source.pause();
      });
      await publish("task-received", "task-started");
      await recorder.waitFor(1);
      await sleep(QUIET_MS);
      expect(recorder.types).toEqual(["task-received"]);
    });

    it("accepts acknowledgements in any order, twice, and after it has stopped", async () => {
      await source.start(recorder.onMessage);
      await publish("task-received", "task-started", "task-succeeded");
      await recorder.waitFor(3);
      for (const index of [2, 0, 0, 1]) recorder.messages[index]?.ack();
      await source.stop();
      expect(() => recorder.messages[0]?.ack()).not.toThrow();
      await sleep(QUIET_MS);
    });

    it("reconnects after its connection was cut, reports readiness, and counts it", async () => {
      await source.start(recorder.onMessage);
      harness.cut();
      await vi.waitFor(() => expect(harness.readiness().ready).toBe(false), { timeout: 5_000, interval: 1 });
      await vi.waitFor(() => expect(harness.readiness().ready).toBe(true), { timeout: 10_000 });
      await publish("task-started");
      await recorder.waitFor(1);
      expect(await harness.metric("broker_reconnects_total")).toBe(1);
    });

    it("reconnects repeatedly", async () => {
      await source.start(recorder.onMessage);
      for (let round = 1; round <= 3; round++) {
        harness.cut();
        await vi.waitFor(async () => expect(await harness.metric("broker_reconnects_total")).toBe(round), { timeout: 5_000 });
        await vi.waitFor(() => expect(harness.readiness().ready).toBe(true), { timeout: 10_000 });
      }
      await publish("task-started");
      await recorder.waitFor(1);
    });

    it("stays paused across a reconnect", async () => {
      await source.start(recorder.onMessage);
      source.pause();
      harness.cut();
      await vi.waitFor(async () => expect(await harness.metric("broker_reconnects_total")).toBe(1), { timeout: 5_000 });
      await vi.waitFor(() => expect(harness.readiness().ready).toBe(true), { timeout: 10_000 });
      await publish("task-started");
      await sleep(QUIET_MS);
      expect(recorder.types).toEqual([]);
      source.resume();
      await recorder.waitFor(1);
    });

    it("redelivers unacknowledged messages as `redelivers` says", async () => {
      await source.start(recorder.onMessage);
      await publish("task-received", "task-started");
      await recorder.waitFor(2);
      recorder.messages[0]?.ack();
      await source.stop();
      const next = harness.another();
      const nextRecorder = new Recorder();
      await next.start(nextRecorder.onMessage);
      await publish("task-succeeded");
      await nextRecorder.waitFor(source.redelivers ? 2 : 1);
      await sleep(QUIET_MS);
      await next.stop();
      expect(nextRecorder.types).toEqual(source.redelivers ? ["task-started", "task-succeeded"] : ["task-succeeded"]);
    });

    it("hands over nothing after drain, loses no message, and still accepts acknowledgements", async () => {
      await source.start(recorder.onMessage);
      const types = Array.from({ length: 300 }, (_, index) => `task-custom${index}`);
      await publish(...types);
      await source.drain();
      const handedOver = recorder.types;
      await sleep(QUIET_MS);
      expect(recorder.types).toEqual(handedOver);
      for (const message of recorder.messages) message.ack();
      await source.stop();
      const rest = new Recorder();
      const next = harness.another();
      await next.start(rest.onMessage);
      if (source.redelivers) await rest.waitFor(types.length - handedOver.length);
      await sleep(QUIET_MS);
      await next.stop();
      expect([...handedOver, ...rest.types].toSorted()).toEqual(types.toSorted());
    });

    it("hands over nothing published after drain, even when resumed", async () => {
      await source.start(recorder.onMessage);
      await source.drain();
      source.resume();
      await publish("task-started");
      await sleep(QUIET_MS);
      expect(recorder.types).toEqual([]);
    });

    it("can be stopped without a start, and twice", async () => {
      await source.stop();
      await expect(source.stop()).resolves.toBeUndefined();
    });
  });
}

function event(type: string): Record<string, unknown> {
  return { hostname: "w1@host-a", utcoffset: 0, pid: 4711, clock: 1, uuid: `id-${type}`, timestamp: 1_795_328_908.5, type };
}
