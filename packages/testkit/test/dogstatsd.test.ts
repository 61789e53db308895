import { describe, expect, test } from "vitest";
import { type DogstatsdMetric, parseDatagram, parseLine } from "../src/index.ts";

function metric(line: string): DogstatsdMetric {
  const message = parseLine(line);
  if (message.kind !== "metric") throw new Error(`not a metric: ${line}`);
  return message;
}

describe("a metric line", () => {
  test.each([
    ["shop.orders:1|c", { name: "shop.orders", type: "count", values: [1], sampleRate: 1, tags: [] }],
    ["shop.orders:-3|c", { type: "count", values: [-3] }],
    ["shop.stock:+4.5|g", { type: "gauge", values: [4.5] }],
    ["shop.paid:0.25|h", { type: "histogram", values: [0.25] }],
    ["shop.paid:12|ms", { type: "timing", values: [12] }],
    ["shop.paid:1e-3|d", { type: "distribution", values: [0.001] }],
    ["shop.paid:1:2.5:.5|d", { type: "distribution", values: [1, 2.5, 0.5] }],
    ["shop.visitors:ann@example|s", { type: "set", values: [], members: ["ann@example"] }],
    ["shop.orders:2|c|@0.1", { values: [2], sampleRate: 0.1 }],
    ["shop.orders:2|c|#queue:mail,eu", { tags: ["queue:mail", "eu"] }],
    ["shop.orders:2|c|#queue:a,queue:b", { tags: ["queue:a", "queue:b"] }],
    ["shop.orders:2|c|#task_name:büro.Versand", { tags: ["task_name:büro.Versand"] }],
    ["shop.orders:2|c|#url:http://x/y", { tags: ["url:http://x/y"] }],
    ["shop.orders:2|c|@0.5|#a:b|c:ci-0123abc", { sampleRate: 0.5, tags: ["a:b"], containerId: "ci-0123abc" }],
    ["shop.orders:2|c|#a:b|T1760000000", { timestamp: 1_760_000_000 }],
    ["shop.stock:2|g|T1760000000|card:low", { timestamp: 1_760_000_000, cardinality: "low" }],
    ["shop.paid:1:2|d|#a:b|c:in-4026531835|e:it-false,cn-app|card:none", { externalData: "it-false,cn-app", cardinality: "none" }],
  ])("%s is read", (line, expected) => {
    expect(metric(line)).toMatchObject(expected);
  });

  test.each([
    ["", "empty line"],
    [":1|c", "bad metric name"],
    ["9lives:1|c", "bad metric name"],
    ["shop orders:1|c", "bad metric name"],
    ["shop-orders:1|c", "bad metric name"],
    [`${"a".repeat(201)}:1|c`, "bad metric name"],
    ["shop.orders|c", "no value"],
    ["shop.orders:|c", 'bad number ""'],
    ["shop.paid:1::2|d", 'bad number ""'],
    ["shop.paid:1:|d", 'bad number ""'],
    ["shop.orders:one|c", 'bad number "one"'],
    ["shop.orders:NaN|c", 'bad number "NaN"'],
    ["shop.orders:Infinity|c", 'bad number "Infinity"'],
    ["shop.orders:1e999|c", 'bad number "1e999"'],
    ["shop.orders:0x10|c", 'bad number "0x10"'],
    ["shop.orders: 1|c", 'bad number " 1"'],
    ["shop.orders:1", 'unknown type ""'],
    ["shop.orders:1|", 'unknown type ""'],
    ["shop.orders:1|x", 'unknown type "x"'],
    ["shop.orders:1|C", 'unknown type "C"'],
    ["shop.visitors:a:b|s", "a set cannot be packed"],
    ["shop.visitors:|s", "empty value"],
    ["shop.orders:1|c|", 'unknown field ""'],
    ["shop.orders:1|c||#a:b", 'unknown field ""'],
    ["shop.orders:1|c|a:b", 'unknown field "a:b"'],
    ["shop.orders:1|c|@0", "sample rate not in (0, 1]"],
    ["shop.orders:1|c|@1.5", "sample rate not in (0, 1]"],
    ["shop.orders:1|c|@half", 'bad number "half"'],
    ["shop.orders:1|c|@", "field @ without a value"],
    ["shop.stock:1|g|@0.5", "a sample rate on a gauge"],
    ["shop.orders:1|c|@0.5|@0.5", "field @ twice"],
    ["shop.orders:1|c|#", "field # without a value"],
    ["shop.orders:1|c|#a:b,", "empty tag"],
    ["shop.orders:1|c|#,a:b", "empty tag"],
    ["shop.orders:1|c|#a:b,a:b", "repeated tag"],
    ["shop.orders:1|c|#a:b|#c:d", "field # twice"],
    ["shop.orders:1|c|#queue:", 'tag "queue:" without a value'],
    ["shop.orders:1|c|#1st:b", 'bad tag "1st:b"'],
    ["shop.orders:1|c|#:b", 'bad tag ":b"'],
    ["shop.orders:1|c|#a:b c", 'bad tag "a:b c"'],
    [`shop.orders:1|c|#a:${"b".repeat(199)}`, "tag too long"],
    ["shop.paid:1|d|T1760000000", "a timestamp on a distribution"],
    ["shop.orders:1|c|T-5", 'bad timestamp "-5"'],
    ["shop.orders:1|c|T1.5", 'bad timestamp "1.5"'],
    ["shop.orders:1|c|c:", "field c: without a value"],
    ["shop.orders:1|c|card:huge", "unknown cardinality"],
  ])("%j is refused", (line, reason) => {
    expect(() => parseLine(line)).toThrow(expect.objectContaining({ reason, line }));
  });
});

describe("an event or a service check", () => {
  test.each([
    ["_e{5,4}:title|text", { kind: "event", name: "title", text: "text", tags: [] }],
    [
      "_e{2,3}:é|a|b|d:1760000000|h:web-1|p:low|t:error|#a:b",
      { name: "é", text: "a|b", tags: ["a:b"], fields: { h: "web-1", t: "error" } },
    ],
    ["_sc|celery.worker.up|0", { kind: "check", name: "celery.worker.up", status: 0, text: "" }],
    ["_sc|celery.worker.up|2|h:web-1|#a:b|m:gone", { status: 2, text: "gone", tags: ["a:b"] }],
  ])("%s is read", (line, expected) => {
    expect(parseLine(line)).toMatchObject(expected);
  });

  test.each([
    ["_e{5,4}:title|tex", "event lengths do not fit"],
    ["_e{5,4}:title|texts", "event lengths do not fit"],
    ["_e{0,4}:|text", "bad event header"],
    ["_e{5,4}title|text", "bad event header"],
    ["_e{1,1}:a|b|t:bad", "unknown alert type"],
    ["_e{1,1}:a|b|p:high", "unknown priority"],
    ["_e{1,1}:a|b|x:1", 'unknown field "x:1"'],
    ["_sc|up|2|m:gone|h:web-1", "a check's message must be last"],
    ["_sc|up|4", "check status not 0 to 3"],
    ["_sc||0", "check without a name"],
    ["_sc|up|0|h:a|h:b", "field h twice"],
  ])("%s is refused", (line, reason) => {
    expect(() => parseLine(line)).toThrow(expect.objectContaining({ reason }));
  });
});

describe("a datagram", () => {
  test("holds several lines, the last with or without its newline", () => {
    expect(parseDatagram(Buffer.from("a:1|c\nb:2|d\n"))).toHaveLength(2);
    expect(parseDatagram(Buffer.from("a:1|c\nb:2|d"))).toHaveLength(2);
  });

  test.each([
    ["that is empty", Buffer.alloc(0), /empty line/],
    ["with an empty line", Buffer.from("a:1|c\n\nb:2|d"), /empty line/],
    ["with two newlines at its end", Buffer.from("a:1|c\n\n"), /empty line/],
    ["cut within a line", Buffer.from("a:1|c\nb:2"), /unknown type/],
    ["cut within a character", Buffer.from("a:1|c|#a:é").subarray(0, -1), /not UTF-8/],
  ])("%s is refused", (_name, datagram, message) => {
    expect(() => parseDatagram(datagram)).toThrow(message);
  });
});
