import { describe, expect, it } from "vitest";
import { decodeReply, encodeRequest, errorOf } from "../src/message.ts";

const request = { method: "stats", arguments: {}, ticket: "t1", replyTo: { exchange: "reply.celery.pidbox", routingKey: "oid" } };

function json(value: unknown): { body: string; contentType: string } {
  return { body: JSON.stringify(value), contentType: "application/json" };
}

describe("encodeRequest", () => {
  it("writes what Celery's own client writes", () => {
    const { body, contentType, contentEncoding } = encodeRequest(request, "json");
    expect({ contentType, contentEncoding }).toEqual({ contentType: "application/json", contentEncoding: "utf-8" });
    expect(Buffer.from(body).toString()).toBe(
      '{"method":"stats","arguments":{},"destination":null,"pattern":null,"matcher":null,"ticket":"t1","reply_to":{"exchange":"reply.celery.pidbox","routing_key":"oid"}}',
    );
  });

  it("names the nodes that are to answer", () => {
    const { body } = encodeRequest({ ...request, destination: ["w1@a"] }, "json");
    expect(JSON.parse(Buffer.from(body).toString())).toMatchObject({ destination: ["w1@a"] });
  });
});

describe("decodeReply", () => {
  const headers = { ticket: "t1", clock: 5 };

  it("reads the node's name, its answer and the ticket", () => {
    expect(decodeReply({ frame: json({ "w1@a": { ok: "pong" } }), headers })).toEqual({
      ticket: "t1",
      nodes: new Map([["w1@a", { ok: "pong" }]]),
    });
  });

  it.each([
    ["pickle", { body: Buffer.from("\u0080\u0004}."), contentType: "application/x-python-serialize" }],
    ["content_type", { body: "x", contentType: "text/csv" }],
    ["body", { body: "{", contentType: "application/json" }],
    ["too_large", { body: "[".repeat(100_000), contentType: "application/json" }],
    ["not_a_reply", json(["w1@a"])],
    ["not_a_reply", json(null)],
  ])("reports %s", (reason, frame) => {
    expect(decodeReply({ frame, headers })).toMatchObject({ ticket: "t1", nodes: new Map(), unreadable: { reason } });
  });

  it("has no ticket if the header is missing or not a text", () => {
    for (const ticket of [undefined, 5]) expect(decodeReply({ frame: json({}), headers: { ticket } }).ticket).toBeUndefined();
  });
});

describe("errorOf", () => {
  it.each([
    [{ error: "KeyError('x')" }, "KeyError('x')"],
    [{ ok: "pong" }, undefined],
    [{ error: "x", more: 1 }, undefined],
    [{ error: 1 }, undefined],
    [["error", "x"], undefined],
    [null, undefined],
    ["error", undefined],
  ])("of %j is %j", (value, text) => {
    expect(errorOf(value)).toBe(text);
  });
});
