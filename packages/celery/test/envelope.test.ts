import { describe, expect, it } from "vitest";
import { decodeEnvelope } from "../src/wire/envelope.ts";
import { taskStarted } from "../src/testing/builders.ts";

const event = taskStarted();
const json = JSON.stringify(event);
const base64 = Buffer.from(json).toString("base64");

/** As kombu publishes it (celery-events.md, section 3). */
function envelope(changes: Readonly<Record<string, unknown>> = {}): string {
  return JSON.stringify({
    body: base64,
    "content-encoding": "utf-8",
    "content-type": "application/json",
    headers: { hostname: "w1@host-a" },
    properties: {
      delivery_mode: 1,
      delivery_info: { exchange: "celeryev", routing_key: "task.multi" },
      priority: 0,
      body_encoding: "base64",
    },
    ...changes,
  });
}

describe("decodeEnvelope", () => {
  it.each([
    ["a base64 body", envelope()],
    ["bytes", Buffer.from(envelope())],
    ["a plain body where body_encoding is absent", envelope({ body: json, properties: {} })],
    ["a plain body where body_encoding is null", envelope({ body: json, properties: { body_encoding: null } })],
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
    ["a body that is no string", envelope({ body: event })],
    ["no body", envelope({ body: undefined })],
    ["an unknown body_encoding", envelope({ properties: { body_encoding: "base85" } })],
  ])("rejects %s as not an envelope", (_given, payload) => {
    const { events, rejected } = decodeEnvelope(payload);
    expect(events).toEqual([]);
    expect(rejected).toEqual([{ reason: "envelope", detail: expect.any(String), raw: payload, readAs: "envelope", count: 1 }]);
  });

  it("rejects invalid UTF-8 as not an envelope, and does not offer what is left of it to be read again", () => {
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
  ])("passes on the reason %s of what is inside", (reason, changes) => {
    expect(decodeEnvelope(envelope(changes)).rejected).toMatchObject([{ reason }]);
  });

  it("takes no fields from the prototype", () => {
    expect(decodeEnvelope(`{"__proto__": ${envelope()}}`).rejected).toMatchObject([{ reason: "envelope" }]);
  });
});
