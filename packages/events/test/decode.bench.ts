/** Time per event of decoding and of reading literals, on recorded frames: `npx vitest bench --project unit packages/events`. Divide by the events named. */
import { bench, describe } from "vitest";
import { decodeFrame } from "../src/decode.ts";
import { decodeEnvelope } from "../src/envelope.ts";
import { normalise } from "../src/normalise.ts";
import { parsePythonJson } from "../src/python-json.ts";
import { parsePythonLiteral } from "../src/python-literal.ts";
import { readCorpus, type AmqpFrame } from "../src/testing/corpus.ts";

const EVENTS = 240;
const amqp = readCorpus("celery-5.6-amqp").frames.filter((frame): frame is AmqpFrame => frame.transport === "amqp");
const raws = amqp.flatMap(({ body }) => JSON.parse(body.toString()) as unknown).slice(0, EVENTS);
const json = { contentType: "application/json", contentEncoding: "utf-8" };

const single = raws.map((raw) => ({ ...json, body: Buffer.from(JSON.stringify(raw)) }));
const multi = Array.from({ length: EVENTS / 24 }, (_, index) => ({
  ...json,
  body: Buffer.from(JSON.stringify(raws.slice(index * 24, index * 24 + 24))),
}));
const envelopes = multi.map(({ body }) =>
  JSON.stringify({
    body: body.toString("base64"),
    "content-type": "application/json",
    "content-encoding": "utf-8",
    properties: { body_encoding: "base64" },
  }),
);
const msgpack = readCorpus("celery-5.6-amqp-msgpack").frames.filter((frame): frame is AmqpFrame => frame.transport === "amqp");
const literals = readCorpus("celery-5.6-amqp")
  .events.flatMap((event) => ("args" in event ? [event.args ?? "", event.kwargs ?? ""] : []))
  .slice(0, EVENTS);

describe(`decoding ${EVENTS} events`, () => {
  bench("one event per JSON frame", () => {
    for (const frame of single) decodeFrame(frame);
  });
  bench("24 events per JSON frame (task.multi)", () => {
    for (const frame of multi) decodeFrame(frame);
  });
  bench("24 events per frame in kombu's envelope (Redis)", () => {
    for (const envelope of envelopes) decodeEnvelope(envelope);
  });
  bench("of that, JSON.parse", () => {
    for (const { body } of multi) parsePythonJson(body.toString());
  });
  bench("of that, normalising", () => {
    for (const raw of raws) normalise(raw);
  });
});

describe("decoding 343 events", () => {
  bench("msgpack, as recorded", () => {
    for (const { body, properties } of msgpack) decodeFrame({ body, ...properties });
  });
});

describe(`reading ${EVENTS} Python literals`, () => {
  bench("args and kwargs as recorded", () => {
    for (const literal of literals) parsePythonLiteral(literal);
  });
});
