import { decodeFrame, type CeleryEvent } from "@celery-metrics-exporter/celery";
import { liveHeapBytes, taskReceived, taskSent, taskStarted, workerHeartbeat } from "@celery-metrics-exporter/celery/testing";
import { pino } from "pino";
import { beforeEach, describe, expect, it } from "vitest";
import { EventAdvice } from "../src/event-advice.ts";

const heartbeat = (processed: number, hostname = "w1@host-a") => workerHeartbeat({ hostname, processed });
const some = <E>(count: number, build: (index: number) => E): E[] => Array.from({ length: count }, (_, index) => build(index));

/** The answer to a broadcast. */
function withoutCounts(): CeleryEvent {
  const { processed: _processed, ...rest } = workerHeartbeat();
  return rest;
}

describe("EventAdvice", () => {
  let now: number;
  let warnings: string[];
  let advice: EventAdvice;

  beforeEach(() => {
    now = 1_000;
    warnings = [];
    const logger = pino({}, { write: (line: string) => void warnings.push((JSON.parse(line) as { msg: string }).msg) });
    advice = new EventAdvice(logger, () => now);
  });

  /** Two minutes with the events that `eventsAt` returns for each second. */
  function live(eventsAt: (second: number) => CeleryEvent[]): void {
    for (let second = 1; second <= 120; second++) {
      now += 1;
      advice.observe(eventsAt(second));
    }
  }

  it("says once that workers run tasks without sending task events", () => {
    live((second) => [heartbeat(second * 5)]);
    expect(warnings).toEqual([expect.stringContaining("-E")]);
  });

  it.each<[string, (second: number) => CeleryEvent[]]>([
    ["if workers are idle", () => [heartbeat(70), heartbeat(9, "w2@host-b")]],
    ["if a worker is restarted and counts from zero", (second) => [heartbeat(second < 30 ? 5_000 : 0)]],
    ["if there are task events", (second) => [heartbeat(second * 5), taskStarted({})]],
    ["for a few tasks, whose events another receiver may have", (second) => [heartbeat(Math.floor(second / 20))]],
    ["if heartbeats do not contain the number of tasks", () => [withoutCounts()]],
  ])("gives no such warning %s", (_, eventsAt) => {
    live(eventsAt);
    expect(warnings).toEqual([]);
  });

  it("gives it for a system with few tasks too, after ten tasks", () => {
    // One task in two minutes.
    for (let minute = 0; minute < 30; minute++) {
      now += 60;
      advice.observe([heartbeat(Math.floor(minute / 2)), heartbeat(0, "w2@host-b")]);
    }
    expect(warnings).toEqual([expect.stringContaining("-E")]);
  });

  it("gives it for a worker that is silent for minutes, over several windows", () => {
    for (let minute = 0; minute < 30; minute++) {
      now += 60;
      advice.observe(minute % 2 === 0 ? [heartbeat(minute)] : [withoutCounts()]);
    }
    expect(warnings).toEqual([expect.stringContaining("-E")]);
  });

  it("does not add up the tasks of a system that sends task events most of the time", () => {
    for (let minute = 0; minute < 600; minute++) {
      now += 60;
      advice.observe([heartbeat(minute), ...(minute === 3 ? [taskStarted({})] : [])]);
    }
    expect(warnings).toEqual([]);
  });

  it("says once that clients do not send task-sent", () => {
    live(() => some(3, () => taskReceived({})));
    expect(warnings).toEqual([expect.stringContaining("task_send_sent_event")]);
  });

  it("gives no warning about clients if one of them sends task-sent", () => {
    live((second) => [taskReceived({}), ...(second === 5 ? [taskSent({})] : [])]);
    expect(warnings).toEqual([]);
  });

  it("uses little memory, however many hostnames senders invent", () => {
    const before = liveHeapBytes();
    for (let index = 0; index < 50_000; index++) advice.observe([heartbeat(index, String(index).padEnd(512, "h"))]);
    expect(liveHeapBytes() - before).toBeLessThan(5 * 2 ** 20);
  });

  // The YAML parser cuts texts out of the message, as msgpack's does with short ones.
  it("does not keep a message alive because of its hostname", () => {
    const before = liveHeapBytes();
    for (let index = 0; index < 300; index++) {
      const body = `{type: worker-heartbeat, hostname: celery@worker-number-${index}, timestamp: 1.5, processed: 1, x: ${"y".repeat(200_000)}}`;
      const { events } = decodeFrame({ body, contentType: "application/x-yaml" });
      expect(events).toHaveLength(1);
      advice.observe(events);
    }
    expect(liveHeapBytes() - before).toBeLessThan(10 * 2 ** 20);
  });
});
