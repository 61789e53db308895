import { describe, expect, it } from "vitest";
import { decodeEnvelope, encodeEnvelope } from "../../src/wire/envelope.ts";
import { taskReceived, taskStarted } from "../../src/testing/builders.ts";
import { corpusNames, readCorpus } from "../../src/testing/corpus.ts";

const event = taskStarted();
const json = JSON.stringify(event);

/** An envelope as kombu publishes it, with some fields changed. */
function envelope(changes: Readonly<Record<string, unknown>> = {}): string {
  const fields = JSON.parse(encodeEnvelope({ body: json, routingKey: "task.multi", headers: { hostname: "w1@host-a" } })) as object;
  return JSON.stringify({ ...fields, ...changes });
}

it("encodeEnvelope writes what kombu writes for Celery's events", () => {
  expect(JSON.parse(encodeEnvelope({ body: "[]", routingKey: "task.multi" }))).toMatchObject({
    body: "W10=",
    "content-encoding": "utf-8",
    "content-type": "application/json",
    properties: { delivery_info: { exchange: "celeryev", routing_key: "task.multi" } },
  });
});

describe("decodeEnvelope", () => {
  it.each([
    ["a base64 body", envelope()],
    ["bytes", Buffer.from(envelope())],
    ["a plain body if body_encoding is absent", envelope({ body: json, properties: {} })],
    ["a plain body if body_encoding is null", envelope({ body: json, properties: { body_encoding: null } })],
    ["a plain body without properties", envelope({ body: json, properties: undefined })],
    ["no content type", envelope({ "content-type": undefined })],
    ["a list", envelope({ body: Buffer.from(`[${json}]`).toString("base64") })],
  ])("reads %s", (_given, payload) => {
    expect(decodeEnvelope(payload)).toEqual({ events: [event], rejected: [] });
  });

  it.each([
    ["nothing", ""],
    ["no JSON", "hello"],
    ["null", "null"],
    ["a number", "1"],
    ["a string", '"body"'],
    ["a list", "[]"],
    ["a bare event", json],
    ["a body that is not a string", envelope({ body: event })],
    ["no body", envelope({ body: undefined })],
    ["an unknown body_encoding", envelope({ properties: { body_encoding: "base85" } })],
  ])("rejects %s as not an envelope", (_given, payload) => {
    const { events, rejected } = decodeEnvelope(payload);
    expect(events).toEqual([]);
    expect(rejected).toEqual([{ reason: "envelope", detail: expect.any(String), raw: payload, readAs: "envelope", count: 1 }]);
  });

  it("rejects invalid UTF-8 as not an envelope, and does not allow decoding the rest again", () => {
    const { rejected } = decodeEnvelope(Buffer.from([0xff, 0xfe]));
    expect(rejected).toEqual([{ reason: "envelope", detail: expect.any(String), raw: "\uFFFD\uFFFD", count: 1 }]);
  });

  it.each([
    ["pickle", { "content-type": "application/x-python-serialize", "content-encoding": "binary" }],
    ["content_type", { "content-type": "text/csv" }],
    ["content_encoding", { "content-encoding": "rot13" }],
    ["body", { body: "!!!!" }],
    ["body", { body: "" }],
    ["type", { body: Buffer.from("{}").toString("base64") }],
  ])("reports the reason %s of the body inside", (reason, changes) => {
    expect(decodeEnvelope(envelope(changes)).rejected).toMatchObject([{ reason }]);
  });

  it("reads no fields from the prototype", () => {
    expect(decodeEnvelope(`{"__proto__": ${envelope()}}`).rejected).toMatchObject([{ reason: "envelope" }]);
  });
});

describe("encodeEnvelope", () => {
  it.each([
    ["an event", [event], json],
    ["a list of events, with text that is not ASCII", [event, taskReceived({ args: "('é', '日本', '😀')" })], undefined],
    ["bytes", [event], Buffer.from(json)],
  ])("writes %s so that decodeEnvelope reads it", (_given, events, body) => {
    const encoded = encodeEnvelope({ body: body ?? JSON.stringify(events), routingKey: "task.multi" });
    expect(decodeEnvelope(encoded)).toEqual({ events, rejected: [] });
  });

  it("writes what the recorded workers and clients published", () => {
    const payloads = corpusNames.flatMap((name) => readCorpus(name).frames).flatMap((frame) => ("payload" in frame ? [frame.payload] : []));
    expect(payloads.length).toBeGreaterThan(100);
    for (const payload of payloads) {
      const recorded = JSON.parse(payload) as Recorded;
      const { exchange, routing_key: routingKey } = recorded.properties.delivery_info;
      const message = { body: Buffer.from(recorded.body, "base64"), exchange, routingKey, headers: recorded.headers };
      const encoded = encodeEnvelope({
        ...message,
        contentType: recorded["content-type"],
        contentEncoding: recorded["content-encoding"],
        deliveryTag: recorded.properties.delivery_tag,
      });
      expect(JSON.parse(encoded)).toEqual(recorded);
    }
  });
});

interface Recorded {
  readonly body: string;
  readonly "content-type": string;
  readonly "content-encoding": string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly properties: {
    readonly delivery_info: { readonly exchange: string; readonly routing_key: string };
    readonly delivery_tag: string;
  };
}
