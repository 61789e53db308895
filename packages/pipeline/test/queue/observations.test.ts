import type { Observation } from "@celery-metrics-exporter/celery";
import { queuesObserved, taskSent, workersObserved } from "@celery-metrics-exporter/celery/testing";
import { PermanentError } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { NewerPayloadError } from "../../src/contract/errors.ts";
import { decodeBatch, encodeBatch } from "../../src/index.ts";
import { decodeObservations, encodeObservations, isOfObservations } from "../../src/queue/observations.ts";

function throughJson(payload: unknown): Record<string, unknown> {
  return JSON.parse(JSON.stringify(payload)) as Record<string, unknown>;
}

const BARE: readonly Observation[] = [
  { type: "queues-observed", timestamp: 0, broker: "rabbitmq", queues: [{ name: "", messages: 0, consumers: 3 }] },
  { type: "queues-observed", timestamp: 1, broker: "redis", queues: [], unacked: { messages: 0 } },
  { type: "workers-observed", timestamp: 2.5, workers: [] },
  { type: "listened", source: "amqp://broker:5672", since: 1, timestamp: 2 },
];

const ofSource = (source: string) => throughJson(encodeObservations([{ type: "listened", source, since: 1, timestamp: 2 }]));

describe("a payload of observations", () => {
  it("gives back every observation, with all fields or few", () => {
    const observations = [queuesObserved(), workersObserved(), ...BARE];
    expect(decodeObservations(throughJson(encodeObservations(observations)))).toStrictEqual(observations);
  });

  it("is not a batch, nor is a batch one", () => {
    expect(isOfObservations(throughJson(encodeObservations([])))).toBe(true);
    expect(isOfObservations({ v: 102 })).toBe(true);
    for (const other of [throughJson(encodeBatch({ broker: "redis", events: [taskSent()] })), { v: 4 }, { v: "101" }, null, "x", [101]]) {
      expect(isOfObservations(other)).toBe(false);
    }
  });

  it("is kept by a release that only knows batches", () => {
    expect(() => decodeBatch(throughJson(encodeObservations([queuesObserved()])))).toThrow(NewerPayloadError);
  });

  it("is kept if a newer release has written it", () => {
    expect(() => decodeObservations({ v: 102, observations: 5 })).toThrow(NewerPayloadError);
    expect(() => decodeObservations({ v: 102, observations: 5 })).toThrow("observations of version 102");
  });

  it("is not read if a source is longer than any receiver writes it", () => {
    expect(decodeObservations(ofSource("x".repeat(200)))).toHaveLength(1);
    expect(() => decodeObservations(ofSource("x".repeat(201)))).toThrow(PermanentError);
  });

  it("is read without types and fields that only a newer release knows", () => {
    const { queues, ...observed } = queuesObserved();
    const newer = { ...observed, queues: queues.map((queue) => ({ ...queue, paused: true })), vhosts: [] };
    const payload = throughJson({ v: 101, observations: [{ type: "brokers-observed", nodes: 3 }, newer, { type: "toString" }] });
    expect(decodeObservations(payload)).toStrictEqual([queuesObserved()]);
  });

  const queue = { name: "celery", messages: 1 };
  const worker = { hostname: "w1@host-a" };
  it.each<[string, unknown]>([
    ["no list", { v: 101, observations: { 0: queuesObserved() } }],
    ["nothing", { v: 101 }],
    ["nothing in the list", { v: 101, observations: [null] }],
    ["a text", { v: 101, observations: ["queues-observed"] }],
    ["a type that is a number", { v: 101, observations: [{ ...queuesObserved(), type: 1 }] }],
    ["no timestamp", { v: 101, observations: [{ ...queuesObserved(), timestamp: null }] }],
    ["a negative timestamp", { v: 101, observations: [{ ...workersObserved(), timestamp: -1 }] }],
    ["an infinite timestamp", { v: 101, observations: [{ ...workersObserved(), timestamp: Infinity }] }],
    ["another broker", { v: 101, observations: [{ ...queuesObserved(), broker: "sqs" }] }],
    ["queues that are no list", { v: 101, observations: [{ ...queuesObserved(), queues: {} }] }],
    ["a queue without name", { v: 101, observations: [{ ...queuesObserved(), queues: [{ messages: 1 }] }] }],
    ["a queue without messages", { v: 101, observations: [{ ...queuesObserved(), queues: [{ name: "celery" }] }] }],
    ["a text as messages", { v: 101, observations: [{ ...queuesObserved(), queues: [{ ...queue, messages: "1" }] }] }],
    ["a text in a priority", { v: 101, observations: [{ ...queuesObserved(), queues: [{ ...queue, byPriority: { "0": "1" } }] }] }],
    ["unacked as a number", { v: 101, observations: [{ ...queuesObserved(), unacked: 5 }] }],
    ["a worker without name", { v: 101, observations: [{ ...workersObserved(), workers: [{}] }] }],
    ["a worker's queues as a text", { v: 101, observations: [{ ...workersObserved(), workers: [{ ...worker, queues: "celery" }] }] }],
    ["a pid that is a text", { v: 101, observations: [{ ...workersObserved(), workers: [{ ...worker, pid: "12" }] }] }],
  ])("is refused with %s", (_, payload) => {
    expect(() => decodeObservations(payload)).toThrow(PermanentError);
  });
});
