import { PermanentError } from "@celery-metrics-exporter/runtime";
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import {
  corpusNames,
  customEvent,
  readCorpus,
  taskHistories,
  taskReceived,
  taskSent,
  workerHeartbeat,
} from "@celery-metrics-exporter/celery/testing";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NewerPayloadError } from "../../src/contract/errors.ts";
import { EXPORTERS, decodeBatch, encodeBatch } from "../../src/index.ts";
import { batchHalves, payloadsOf } from "../../src/queue/batch.ts";

/** The data of a job, as read from Redis. */
function throughJson(payload: unknown): unknown {
  return JSON.parse(JSON.stringify(payload));
}

function roundTrip(events: readonly CeleryEvent[], omits?: ReadonlySet<string>): readonly CeleryEvent[] {
  return decodeBatch(throughJson(encodeBatch({ broker: "rabbitmq", events }, omits))).events;
}

describe("a batch's payload", () => {
  it.each(corpusNames)("gives back every recorded event of %s", (name) => {
    const { events } = readCorpus(name);
    expect(roundTrip(events)).toEqual(events);
  });

  it("gives back any event", () => {
    fc.assert(
      fc.property(taskHistories, (events) => {
        expect(roundTrip(events)).toEqual(events);
      }),
    );
  });

  it("keeps all fields of worker events", () => {
    const software = { pid: 12, sw_ident: "py-celery", sw_ver: "5.6.3", sw_sys: "Linux" };
    const events = [
      workerHeartbeat({ ...software, loadavg: [0.5, 12.25, 1e21] }),
      workerHeartbeat({ ...software, loadavg: [0] }),
      workerHeartbeat({ pid: 0 }),
      { ...workerHeartbeat(software), type: "worker-online" },
    ];
    expect(roundTrip(events)).toStrictEqual(events);
  });

  it("keeps when the receiver had it, in each half too; an older release does not know", () => {
    const batch = { broker: "redis", receivedAt: 1_795_328_900.25, events: [taskSent(), taskReceived()] };
    const payload = throughJson(encodeBatch(batch)) as Record<string, unknown>;
    expect(decodeBatch(payload)).toEqual(batch);
    expect(batchHalves(batch).map(({ receivedAt }) => receivedAt)).toEqual([batch.receivedAt, batch.receivedAt]);
    expect([...payloadsOf(batch, new Set())].map(({ receivedAt }) => receivedAt)).toEqual([batch.receivedAt]);
    for (const unusable of [undefined, null, "5", -1, Infinity]) {
      expect(decodeBatch({ ...payload, receivedAt: unusable })).toStrictEqual({ broker: "redis", events: batch.events });
    }
  });

  it("keeps worker and custom events, the broker and marked tasks", () => {
    const marked = [
      { id: "x y", marks: ["-s0", "+s1"] },
      { id: "z", marks: [] },
    ];
    const batch = { broker: "redis", events: [workerHeartbeat(), customEvent()], marked, doubtful: true };
    expect(decodeBatch(throughJson(encodeBatch(batch)))).toEqual(batch);
  });

  it("keeps which attempts are marked, and adds nothing if none is", () => {
    const events = [taskSent({ again: true, excluded: true }), taskReceived({ again: true })];
    const batch = { broker: "redis", events };
    expect(decodeBatch(throughJson(encodeBatch({ ...batch, marked: [], doubtful: false })))).toEqual(batch);
  });

  it("rejects a newer version as newer", () => {
    expect(() => decodeBatch({ v: 4, batches: [] })).toThrow(NewerPayloadError);
    expect(() => decodeBatch({ v: 4, batches: [] })).toThrow("a batch");
  });

  it("is newer than what older releases read, because they would count marked attempts; reads what they wrote", () => {
    const batch = { broker: "redis", events: [taskSent(), taskReceived()] };
    const payload = encodeBatch(batch);
    expect(payload.v).toBe(3);
    expect(decodeBatch({ ...payload, v: 2, excluded: ["x"] })).toEqual({ ...batch, marked: [{ id: "x", marks: ["-s"] }] });
  });

  it("leaves out omitted fields, and nothing else", () => {
    const omits = new Set(EXPORTERS.find(({ name }) => name === "datadog")?.omits);
    const { events } = readCorpus("celery-5.6-amqp");
    const expected = events.map((event) => Object.fromEntries(Object.entries(event).filter(([field]) => !omits.has(field))));
    expect(omits.size).toBeGreaterThan(0);
    expect(roundTrip(events, omits)).toEqual(expected);
  });

  it("stores a text once, however many events have it", () => {
    const payload = JSON.stringify(encodeBatch({ broker: "redis", events: [taskSent(), taskSent(), taskSent()] }));
    expect(payload.split("shop.cart.total")).toHaveLength(2);
  });

  it("ignores a field that a newer release has appended", () => {
    const event = taskSent();
    const payload = encodeBatch({ broker: "redis", events: [event] });
    const [bits, ...values] = payload.events;
    const appended = [Number(bits) | (1 << 31), ...values, "new"];
    expect(decodeBatch({ ...payload, events: [...appended, ...appended] }).events).toEqual([event, event]);
  });

  const good = throughJson(encodeBatch({ broker: "redis", events: [taskSent()] })) as Record<string, unknown>;
  const values = good["events"] as unknown[];
  it.each([
    ["null", null, "batch payload is not an object"],
    ["a text", "batch", "batch payload is not an object"],
    ["a list", [1], "batch payload is not an object"],
    ["no version", { ...good, v: undefined }, "batch payload of unknown version (none)"],
    ["a version that is a text", { ...good, v: "4" }, 'batch payload of unknown version "4"'],
    ["the first version, a list for each event", { ...good, v: 1, events: [values] }, "batch payload of unknown version 1"],
    ["no broker", { ...good, broker: 1 }, "batch payload is malformed"],
    ["no texts", { ...good, texts: undefined }, "batch payload is malformed"],
    ["no events", { ...good, events: {} }, "batch payload is malformed"],
    ["an event that is an object", { ...good, events: [{}] }, "batch payload has an event without its fields"],
    ["an event that is a list", { ...good, events: [values] }, "batch payload has an event without its fields"],
    ["an event without bits", { ...good, events: ["x", 0] }, "batch payload has an event without its fields"],
    ["bits without an end", { ...good, events: [0.5, 0] }, "batch payload has an event without hostname or timestamp"],
    ["a text out of range", { ...good, texts: [] }, "batch payload refers to a text it does not have"],
    ["a text's place that is no number", { ...good, events: [0, "length"] }, "batch payload refers to a text it does not have"],
    ["an event that ends too soon", { ...good, events: values.slice(0, 3) }, "batch payload lacks a value"],
    ["a value too many", { ...good, events: [...values, 1] }, "batch payload refers to a text it does not have"],
    ["an object for a value", { ...good, events: [...values.slice(0, 3), {}, ...values.slice(4)] }, "batch payload lacks a value"],
    ["an event without hostname", { ...good, events: [0, 0] }, "batch payload has an event without hostname or timestamp"],
    ["an event without timestamp", { ...good, events: [1, 0, 1] }, "batch payload has an event without hostname or timestamp"],
    ["an event with a timestamp alone", { ...good, events: [2, 0, 1] }, "batch payload has an event without hostname or timestamp"],
    ["ids that are numbers", { ...good, told: [1] }, "batch payload has ids that are not texts"],
    ["ids that are no list", { ...good, told: "x" }, "batch payload has ids that are not texts"],
    ["ids of which one is a number", { ...good, told: ["x", 1] }, "batch payload has ids that are not texts"],
  ])("refuses %s", (_, payload, message) => {
    expect(() => decodeBatch(payload)).toThrow(new PermanentError(message));
  });

  it.each(["", "1 x", "-1", "Infinity"])("refuses the loads %j", (loads) => {
    const payload = encodeBatch({ broker: "redis", events: [workerHeartbeat({ loadavg: [0.5] })] });
    const texts = payload.texts.map((text) => (text === "0.5" ? loads : text));
    expect(() => decodeBatch({ ...payload, texts })).toThrow(new PermanentError("batch payload has loads that are not numbers"));
  });

  it("contains only what was written: no ids of the form before, nor doubts that are not true", () => {
    const batch = { broker: "redis", events: [taskSent()] };
    expect(decodeBatch({ ...encodeBatch(batch), excluded: ["x"], doubtful: 1 })).toEqual(batch);
    expect(decodeBatch({ ...encodeBatch(batch), v: 2 })).toEqual(batch);
  });

  it("reads an id without marks, and marks between blanks", () => {
    const { marked } = decodeBatch({ ...good, told: ["x", " -s0  +s1 ", "y"] });
    expect(marked).toEqual([
      { id: "x", marks: ["-s0", "+s1"] },
      { id: "y", marks: [] },
    ]);
  });
});
