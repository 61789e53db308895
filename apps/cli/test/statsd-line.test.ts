import { expect, it } from "vitest";
import { parseStatsdLine } from "../src/demo/statsd-line.ts";

it.each([
  ["a.b:1|c", { name: "a.b", values: [1], type: "c", tags: {} }],
  [
    "a.b:0.5:1.5:2|d|#task_name:shop.pay,queue:default",
    { name: "a.b", values: [0.5, 1.5, 2], type: "d", tags: { task_name: "shop.pay", queue: "default" } },
  ],
  ["a:1|c|@0.5|#url:http://x|T1700000000", { name: "a", values: [1], type: "c", tags: { url: "http://x" } }],
  ["a:2.5|ms", { name: "a", values: [2.5], type: "ms", tags: {} }],
])("reads %s", (text, { tags, ...line }) => {
  expect(parseStatsdLine(text)).toEqual({ ...line, tags: new Map(Object.entries(tags)) });
});

it.each(["", "a.b", "a.b:|c", "a.b:x|c", "a.b:1", "a.b:1|q", "a b:1|c", "a.b:1:|c|#x"])("refuses %j", (text) => {
  expect(parseStatsdLine(text)).toBeUndefined();
});
