import { Packr } from "msgpackr";
import { describe, expect, it, vi } from "vitest";
import { decodeFrame } from "../../src/wire/decode.ts";
import { MAX_FRAME_BYTES } from "../../src/model/normalise.ts";
import type { Frame } from "../../src/wire/frame.ts";
import { taskFailed, taskReceived, taskStarted, workerHeartbeat } from "../../src/testing/builders.ts";

const JSON_TYPE = "application/json";
const YAML_TYPE = "application/x-yaml";
const MSGPACK_TYPE = "application/x-msgpack";
const PICKLE_TYPE = "application/x-python-serialize";

/** Two events as kombu 5.2's `dumps` wrote them, in each serializer. YAML 1.1 could misread their ids and names as other types. */
const KOMBU = {
  json: String.raw`[{"hostname": "w1@host-a", "utcoffset": -6, "pid": 1, "clock": 3, "uuid": "1e5", "name": "yes", "args": "('\u00e9t\u00e9 \ud83d\ude00',)", "kwargs": "{'a: b': \"it's\"}", "root_id": "0x10", "parent_id": null, "retries": 0, "eta": "2026-11-22T08:00:00.123456+00:00", "expires": null, "timestamp": 1795328908.522675, "type": "task-received"}, {"hostname": "w1@host-a", "utcoffset": -6, "pid": 1, "clock": 3, "uuid": "2026-11-22", "exception": "ValueError('a\nb')", "traceback": "Traceback:\n  File \"x\"\n", "timestamp": 1795328909.0, "type": "task-failed"}]`,
  yaml: `- args: "('\\xE9t\\xE9 \\U0001F600',)"
  clock: 3
  eta: '2026-11-22T08:00:00.123456+00:00'
  expires: null
  hostname: w1@host-a
  kwargs: '{''a: b'': "it''s"}'
  name: 'yes'
  parent_id: null
  pid: 1
  retries: 0
  root_id: '0x10'
  timestamp: 1795328908.522675
  type: task-received
  utcoffset: -6
  uuid: 1e5
- clock: 3
  exception: 'ValueError(''a

    b'')'
  hostname: w1@host-a
  pid: 1
  timestamp: 1795328909.0
  traceback: "Traceback:\\n  File \\"x\\"\\n"
  type: task-failed
  utcoffset: -6
  uuid: '2026-11-22'
`,
  msgpack:
    "ko+oaG9zdG5hbWWpdzFAaG9zdC1hqXV0Y29mZnNldPqjcGlkAaVjbG9jawOkdXVpZKMxZTWkbmFtZaN5ZXOkYXJnc68oJ8OpdMOpIPCfmIAnLCmma3dhcmdzsHsnYTogYic6ICJpdCdzIn2ncm9vdF9pZKQweDEwqXBhcmVudF9pZMCncmV0cmllcwCjZXRh2SAyMDI2LTExLTIyVDA4OjAwOjAwLjEyMzQ1NiswMDowMKdleHBpcmVzwKl0aW1lc3RhbXDLQdrAouMhc4KkdHlwZa10YXNrLXJlY2VpdmVkiahob3N0bmFtZal3MUBob3N0LWGpdXRjb2Zmc2V0+qNwaWQBpWNsb2NrA6R1dWlkqjIwMjYtMTEtMjKpZXhjZXB0aW9usVZhbHVlRXJyb3IoJ2EKYicpqXRyYWNlYmFja7ZUcmFjZWJhY2s6CiAgRmlsZSAieCIKqXRpbWVzdGFtcMtB2sCi40AAAKR0eXBlq3Rhc2stZmFpbGVk",
};

const event = taskStarted({ uuid: "é" });
const bad = { type: "task-started", timestamp: 1 };

function frame(body: Frame["body"], contentType: string | undefined = JSON_TYPE, contentEncoding: string | undefined = "utf-8"): Frame {
  return { body, contentType, contentEncoding };
}

function json(value: unknown, characterSet: BufferEncoding = "utf8"): Buffer {
  return Buffer.from(JSON.stringify(value), characterSet);
}

describe("content types and encodings", () => {
  const packr = new Packr({ useRecords: false, variableMapSize: true });
  const yaml = Buffer.from(`hostname: ${event.hostname}\ntimestamp: ${event.timestamp}\ntype: task-started\nuuid: é\n`);

  it.each([
    ["JSON", frame(json(event))],
    ["JSON in a string", frame(JSON.stringify(event))],
    ["JSON in a Uint8Array that is a part of another", frame(new Uint8Array(Buffer.concat([Buffer.from("xx"), json(event)])).subarray(2))],
    ["no content type", frame(json(event), "")],
    ["neither content type nor encoding", { body: json(event), contentType: undefined }],
    ["a content type in mixed case with parameters", frame(json(event), "Application/JSON; charset=utf-8")],
    ["a content type with spaces around it", frame(json(event), " application/json ; charset=utf-8")],
    ["UTF-8 by other names", frame(json(event), JSON_TYPE, "UTF8")],
    ["an encoding that is binary", frame(json(event), JSON_TYPE, "binary")],
    ["an empty encoding", frame(json(event), JSON_TYPE, "")],
    ["Latin-1", frame(json(event, "latin1"), JSON_TYPE, "iso-8859-1")],
    ["Latin-1 as Python calls it", frame(json(event, "latin1"), JSON_TYPE, "latin_1")],
    ["UTF-16", frame(json(event, "utf16le"), JSON_TYPE, "utf-16le")],
    ["a string, whatever the encoding says", frame(JSON.stringify(event), JSON_TYPE, "rot13")],
    ["a byte order mark", frame(Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), json(event)]))],
    ["YAML", frame(yaml, YAML_TYPE)],
    ["YAML in a string", frame(yaml.toString(), YAML_TYPE)],
    ["msgpack", frame(packr.pack(event), MSGPACK_TYPE, "binary")],
    ["a list", frame(json([event]))],
    ["a list in msgpack", frame(packr.pack([event]), MSGPACK_TYPE, "binary")],
  ])("reads %s", (_given, given) => {
    expect(decodeFrame(given)).toEqual({ events: [event], rejected: [] });
  });

  it("reads the same events from kombu's three serializers", () => {
    const [inJson, inYaml, inMsgpack] = [
      frame(KOMBU.json),
      frame(KOMBU.yaml, YAML_TYPE),
      frame(Buffer.from(KOMBU.msgpack, "base64"), MSGPACK_TYPE, "binary"),
    ];
    const expected = {
      events: [
        {
          type: "task-received",
          hostname: "w1@host-a",
          timestamp: 1_795_328_908.522675,
          uuid: "1e5",
          name: "yes",
          args: "('été 😀',)",
          kwargs: "{'a: b': \"it's\"}",
          root_id: "0x10",
          retries: 0,
          eta: 1_795_334_400.123456,
        },
        {
          type: "task-failed",
          hostname: "w1@host-a",
          timestamp: 1_795_328_909,
          uuid: "2026-11-22",
          exception: "ValueError('a\nb')",
          traceback: 'Traceback:\n  File "x"\n',
        },
      ],
      rejected: [],
    };
    expect(decodeFrame(inJson)).toEqual(expected);
    expect(decodeFrame(inYaml)).toEqual(expected);
    expect(decodeFrame(inMsgpack)).toEqual(expected);
  });

  it("reads Latin-1, by each of its names, as the bytes' own numbers", () => {
    const text = Buffer.concat([
      Buffer.from('{"type":"task-started","uuid":"'),
      Buffer.from([0x80, 0xff]),
      Buffer.from('","timestamp":1}'),
    ]);
    for (const name of ["latin1", "Latin_1", "ISO_8859_1"])
      expect(decodeFrame(frame(text, JSON_TYPE, name)).events).toMatchObject([{ uuid: "\x80\xff" }]);
  });

  it("keeps the events of a batch with a byte that is not UTF-8", () => {
    const body = Buffer.concat([
      Buffer.from('[{"type":"task-started","uuid":"a'),
      Buffer.from([0xff]),
      Buffer.from('","timestamp":1,"hostname":"h"}]'),
    ]);
    expect(decodeFrame(frame(body)).events).toEqual([{ type: "task-started", uuid: "a\uFFFD", timestamp: 1, hostname: "h" }]);
  });
});

describe("rejected messages", () => {
  const pickle = Buffer.from("8004951b010000000000005d947d94288c08686f73746e616d65948c09", "hex");

  it.each([
    ["pickle", "a pickle", frame(pickle, PICKLE_TYPE, "binary"), pickle.toString("base64")],
    ["pickle", "anything declared as a pickle", frame(JSON.stringify(event), PICKLE_TYPE), JSON.stringify(event)],
    ["body", "a pickle that is not declared as one", frame(pickle), expect.any(String)],
    ["content_type", "text", frame("hello", "text/plain"), "hello"],
    ["content_type", "kombu's type for unknown bodies", frame(Buffer.from("hello"), "application/data"), "aGVsbG8="],
    ["content_encoding", "an unknown character set", frame(json(event), JSON_TYPE, "rot13"), json(event).toString("base64")],
    ["content_encoding", "a compression", frame(json(event), JSON_TYPE, "gzip"), json(event).toString("base64")],
    ["body", "no bytes", frame(Buffer.alloc(0)), ""],
    ["body", "no JSON", frame('{"type":'), '{"type":'],
    ["body", "two values", frame("{}{}"), "{}{}"],
    ["body", "no YAML", frame("a: [1", YAML_TYPE), "a: [1"],
    ["body", "no msgpack", frame(Buffer.from([0xc1]), MSGPACK_TYPE), "wQ=="],
    ["body", "msgpack in a string", frame("{}", MSGPACK_TYPE), "{}"],
    ["not_an_event", "null", frame("null"), "null"],
    ["not_an_event", "a number", frame("1795328900"), "1795328900"],
    ["type", "an object that is not an event", frame('{"a": 1}'), '{"a":1}'],
    ["uuid", "a task event without a task", frame(json(bad)), JSON.stringify(bad)],
    ["timestamp", "an event without a time", frame(json({ ...event, timestamp: null })), JSON.stringify({ ...event, timestamp: null })],
    [
      "timestamp",
      "a time that is NaN",
      frame('{"type":"task-started","uuid":"a","timestamp":NaN}'),
      '{"type":"task-started","uuid":"a","timestamp":null}',
    ],
  ])("%s: %s", (reason, _given, given, raw) => {
    expect(decodeFrame(given)).toMatchObject({
      events: [],
      rejected: [{ reason, detail: expect.stringMatching(/^\S.{10,120}\S$/), raw, count: 1 }],
    });
  });

  it.each([
    ["JSON", JSON_TYPE],
    ["YAML", YAML_TYPE],
  ])("keeps bytes that should be %s as the text that they are", (_type, contentType) => {
    const { rejected } = decodeFrame({ body: Buffer.from("[é"), contentType });
    expect(rejected).toMatchObject([{ reason: "body", raw: "[é" }]);
    expect(rejected[0]?.readAs).toStrictEqual({ contentType });
  });

  it("keeps text in an unknown character set as bytes", () => {
    const body = Buffer.alloc(MAX_FRAME_BYTES + 1, "x");
    expect(decodeFrame(frame(body, JSON_TYPE, "rot13")).rejected).toMatchObject([
      { reason: "too_large", raw: body.subarray(0, 3_072).toString("base64") },
    ]);
  });

  it("says how to read a body again only if all of it is kept", () => {
    const readAs = (size: number): unknown =>
      decodeFrame({ body: Buffer.alloc(size, 0xc1), contentType: MSGPACK_TYPE }).rejected[0]?.readAs;
    expect(readAs(3_072)).toStrictEqual({ contentType: MSGPACK_TYPE, base64: true });
    expect(readAs(3_073)).toBeUndefined();
  });

  it.each([
    ["the content type", (word: string) => frame("hello", word)],
    ["the content encoding", (word: string) => frame("hello", "text/plain", word)],
  ])("says how to read it again only if %s is kept too: up to 128 characters", (_word, given) => {
    expect(decodeFrame(given("w".repeat(128))).rejected[0]?.readAs).toBeDefined();
    expect(decodeFrame(given("w".repeat(129))).rejected[0]?.readAs).toBeUndefined();
  });

  it("keeps at most 4,096 characters of each, and splits none", () => {
    const long = `${"x".repeat(4_095)}😀`;
    expect(decodeFrame(frame(long)).rejected[0]?.raw).toBe(`${"x".repeat(4_095)}\uFFFD`);
    const [inBytes] = decodeFrame(frame(Buffer.alloc(9_999, "x"))).rejected;
    expect(inBytes?.raw).toBe("x".repeat(4_096));
    expect(inBytes?.readAs).toBeUndefined();
    expect(decodeFrame(frame(Buffer.alloc(9_999, "x"), "text/plain")).rejected[0]?.raw).toHaveLength(4_096);
    expect(decodeFrame(frame(json({ type: long }))).rejected[0]?.raw).toHaveLength(4_096);
  });
});

describe("lists (task.multi)", () => {
  it("rejects bad events alone, and keeps the order of the others", () => {
    const good = [taskReceived(), taskStarted(), taskFailed(), workerHeartbeat()];
    const list = [good[0], bad, good[1], null, good[2], [good[3]], { ...good[2], timestamp: "x" }, "task-started", good[3], {}];
    const { events, rejected } = decodeFrame(frame(json(list)));
    expect(events).toEqual(good);
    expect(rejected.map(({ reason }) => reason)).toEqual(["uuid", "not_an_event", "not_an_event", "timestamp", "not_an_event", "type"]);
    expect(rejected[0]?.raw).toBe(JSON.stringify(bad));
  });

  it("ignores an empty list, which workers send occasionally", () => {
    expect(decodeFrame(frame("[]"))).toEqual({ events: [], rejected: [] });
  });

  it("describes a hundred bad events individually, and the others in one entry per reason", () => {
    const list = [...Array.from({ length: 100 }, (_, index) => index), "first", {}, "second", bad, {}, event, null];
    const { events, rejected } = decodeFrame(frame(json(list)));
    expect(events).toEqual([event]);
    expect(rejected.slice(0, 100).map(({ raw, count }) => [raw, count])).toEqual(
      list.slice(0, 100).map((item) => [JSON.stringify(item), 1]),
    );
    expect(rejected.map(({ readAs }) => readAs !== undefined)).toEqual(rejected.map((_, index) => index < 100));
    expect(rejected.slice(100).map(({ reason, raw, count }) => [reason, raw, count])).toEqual([
      ["not_an_event", '"first"', 3],
      ["type", "{}", 2],
      ["uuid", JSON.stringify(bad), 1],
    ]);
  });

  it("counts a million bad events in few entries, and writes only theirs", () => {
    const given = frame(`[${"1,{},".repeat(500_000)}${JSON.stringify(event)}]`);
    const stringify = vi.spyOn(JSON, "stringify");
    const { events, rejected } = decodeFrame(given);
    expect(stringify).toHaveBeenCalledTimes(102);
    stringify.mockRestore();
    expect(events).toEqual([event]);
    expect(rejected).toHaveLength(102);
    expect(rejected.reduce((sum, { count }) => sum + count, 0)).toBe(1_000_000);
  });
});

describe("malicious bodies", () => {
  it("decodes an event of 10 MB, and cuts its text", () => {
    const { events } = decodeFrame(frame(json(taskFailed({ traceback: "é".repeat(5_000_000) }))));
    expect(events).toEqual([taskFailed({ traceback: "é".repeat(65_536) })]);
  });

  it.each([
    ["an unclosed list of 2 MB", "[".repeat(2_000_000)],
    ["a list nested 300,000 times", `${"[".repeat(300_000)}${"]".repeat(300_000)}`],
    ["an object nested 300,000 times", `${'{"a":'.repeat(300_000)}1${"}".repeat(300_000)}`],
    ["a type nested 300,000 times", `[{"type":${"[".repeat(300_000)}${"]".repeat(300_000)}}]`],
    ["10 MB of nothing", " ".repeat(10_000_000)],
    ["10 MB of one number", "1".repeat(10_000_000)],
  ])("rejects %s", (_given, text) => {
    const { events, rejected } = decodeFrame(frame(text));
    expect(events).toEqual([]);
    expect(rejected).toHaveLength(1);
    expect(rejected[0]?.raw.length).toBeLessThanOrEqual(4_096);
  });

  it.each([
    [
      "JSON",
      `{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"type":"task-started","uuid":"a","timestamp":1,"hostname":"h"}`,
      JSON_TYPE,
    ],
    [
      "YAML",
      `{__proto__: {polluted: 1}, constructor: {prototype: {polluted: 1}}, type: task-started, uuid: a, timestamp: 1, hostname: h}`,
      YAML_TYPE,
    ],
  ])("pollutes no prototype from %s", (_given, text, contentType) => {
    const { events } = decodeFrame(frame(text, contentType));
    expect(events).toEqual([{ type: "task-started", uuid: "a", timestamp: 1, hostname: "h" }]);
    expect(Object.getPrototypeOf(events[0])).toBe(Object.prototype);
    expect("polluted" in {}).toBe(false);
  });

  it("makes lone surrogates and NULs in JSON harmless", () => {
    const text = String.raw`{"type":"task-failed","uuid":"\ud800","timestamp":1,"hostname":"h\u0000","exception":"\u0000\udc00x"}`;
    expect(decodeFrame(frame(text)).events).toEqual([
      { type: "task-failed", uuid: "\uFFFD", timestamp: 1, hostname: "h", exception: "\uFFFDx" },
    ]);
  });
});
